"""One model of one pool: what takes turns with other models, and the lines that its rows wait in, one for each key.

It assigns no replica and takes no turn (`planner` does). The invariants: a model never has more than `max_queued_rows`
rows waiting over all its keys, nor more than 256 lines; a flow is among the waiting of its device exactly while one of
its lines has a ticket.

Lines are made when a key is first seen, start from the costs of the line that was answered last, and are dropped least
recently used. Among the lines of one flow the earliest deadline goes first, so that a model with many keys gets no more
of a device than a model with one.
"""

import math
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

from slipway_runtime.dispatch.fairness import Share
from slipway_runtime.dispatch.line import Line
from slipway_runtime.dispatch.spec import ModelSpec
from slipway_runtime.dispatch.tallies import Counts
from slipway_runtime.request import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipway_runtime.dispatch.replicas import RunnerPool

__all__ = ["MAX_LINES", "Flow"]

MAX_LINES = 256
"""Lines of one model; each holds a cost table and an empty queue, about 4 KiB."""
_LOOKED_AT = 32
"""Waiting lines that admission sums up before it extrapolates."""


class Flow:
    """State of one model; `rows` is what waits over all its lines."""

    __slots__ = ("counts", "latest", "limits", "lines", "pool", "rows", "share", "spec", "waiting")

    def __init__(self, pool: "RunnerPool", spec: ModelSpec) -> None:
        self.pool = pool
        self.spec = spec
        self.limits = _limits(spec)
        self.lines: OrderedDict[bytes, Line] = OrderedDict()
        """Least recently used first."""
        self.waiting: dict[Line, None] = {}
        self.latest: Line | None = None
        """The line that learned last."""
        self.rows = 0
        self.share = Share(spec.weight)
        self.counts = Counts()

    def respecify(self, spec: ModelSpec) -> None:
        """New limits: at once for what all lines share, for one line as soon as nothing waits in it."""
        if spec != self.spec:
            self.spec = spec
            self.limits = _limits(spec)
            self.share.weight = spec.weight

    def open(self, key: bytes) -> tuple[Line | None, Line | None]:
        """A line for an unseen key, and the line that had to go for it; no line when all of them are in use."""
        dropped = None
        if len(self.lines) >= MAX_LINES:
            dropped = next((line for line in self.lines.values() if line.is_unused()), None)
            if dropped is None:
                return None, None
            del self.lines[dropped.key]
        self.lines[key] = line = Line(self, key)
        return line, dropped

    def begin_waiting(self, line: Line) -> None:
        """The line has its first ticket."""
        self.waiting[line] = None
        if len(self.lines) > 1:
            self.lines.move_to_end(line.key)
        if len(self.waiting) == 1:
            self.pool.device.waiting[self] = None

    def end_waiting(self, line: Line) -> None:
        """The line has no ticket any more."""
        self.waiting.pop(line, None)
        if not self.waiting:
            self.pool.device.waiting.pop(self, None)

    def by_deadline(self) -> "Iterable[Line]":
        """The waiting lines, earliest deadline first."""
        return sorted(self.waiting, key=Line.earliest_deadline) if len(self.waiting) > 1 else self.waiting

    def work_s(self, deadline: float = math.inf, *, besides: Line | None = None) -> float:
        """Predicted seconds of one replica for what waits and leaves before `deadline`. O(32 lines) at most."""
        work_s = 0.0
        for line in islice(self.waiting, _LOOKED_AT):
            if line is not besides:
                work_s += line.work_s(deadline)
        waiting = len(self.waiting)
        return work_s * waiting / _LOOKED_AT if waiting > _LOOKED_AT else work_s


def _limits(spec: ModelSpec) -> Limits:
    return Limits(max_rows=spec.max_rows, max_queued_rows=spec.max_queued_rows, gather_s=spec.gather_s)
