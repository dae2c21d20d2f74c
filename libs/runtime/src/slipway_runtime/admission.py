"""Whether a request may enter: refuse at once what cannot be answered before its deadline.

It reads no clock and raises nothing (the shell does); it judges, in O(1). The invariants: a pool that is idle admits
every request whose deadline has not passed, so no cold or outlying sample can lock the door (the request is the probe
that corrects the table); a refusal carries the predicted drain time.

Predicted finish = what is left of the batch in flight + the full batches that leave before this request + its own
batch at p95. Rows that wait with a later deadline do not count: they leave after it. A batch that is overdue is
believed to need as long again as it is late (so a hanging model closes the door by degrees, and one answer opens it).
Source: `docs/batching.md`.
"""

import math
from typing import Literal

import msgspec

from slipway_runtime.latency import CostTable
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Limits

__all__ = ["Admission", "Refusal"]


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a request may not enter, and the predicted seconds until the backlog is drained."""

    reason: Literal["queue_full", "deadline"]
    retry_after_s: float


class Admission:
    """Judges requests of one pool with `replicas` free-running replicas. Not thread-safe: one owner.

    The owner tells it when a batch leaves (`sent`), when it is back (`answered`), and what to believe after that.
    """

    __slots__ = ("_batch_s", "_costs", "_fits", "_in_flight", "_limits", "_queue", "_ready_at", "_replicas", "_tail_s")

    def __init__(self, queue: TicketQueue, costs: CostTable, limits: Limits, *, replicas: int = 1) -> None:
        self._queue = queue
        self._limits = limits
        self._fits = -1
        self._costs = costs
        self._replicas = replicas
        self._in_flight = 0
        self._ready_at = -math.inf
        self.believe(costs)

    def judge(self, rows: int, deadline: float, now: float) -> Refusal | None:
        """None when `rows` rows may enter with this deadline. O(1), under a microsecond when there is room."""
        queue = self._queue
        waiting = queue.rows
        if waiting + rows > queue.max_rows:
            return Refusal("queue_full", self.drain_s(now))
        slack_s = deadline - now
        if not self._in_flight and waiting + rows <= self._limits.max_rows and self._tail_s <= slack_s:
            return None
        if slack_s <= 0.0:
            return Refusal("deadline", 0.0)
        if not waiting and not self._in_flight:
            return None
        if self.finish_s(rows, deadline, now) <= slack_s:
            return None
        return Refusal("deadline", self.drain_s(now))

    def finish_s(self, rows: int, deadline: float, now: float) -> float:
        """Predicted seconds until `rows` rows with this deadline would be answered, with a margin of p95 - p50.

        Its own batch is taken to be as full as a batch for this deadline gets, because arrivals behind it fill it; the
        margin grows with the square root of the batches, as errors of independent predictions do.
        """
        size, batch_s, tail_s = self._limits.max_rows, self._batch_s, self._tail_s
        slack_s = deadline - now
        if 2.0 * tail_s > slack_s:  # one batch in flight and its own must fit: smaller batches leave
            size = max(rows, self._costs.largest_within(0.5 * slack_s, size))
            batch_s, tail_s = self._costs.p50(size), self._costs.p95(size)
        batches = (self._queue.rows_before(deadline) + rows - 1) // size
        margin_s = (tail_s - batch_s) * math.sqrt((batches + 1) / self._replicas)
        return self._busy_s(now) + (batches / self._replicas + 1) * batch_s + margin_s

    def drain_s(self, now: float) -> float:
        """Predicted seconds until everything that is in flight or waits now is answered."""
        batches, rest = divmod(self._queue.rows, self._limits.max_rows)
        tail_s = self._costs.p50(rest) if rest else 0.0
        return self._busy_s(now) + (batches * self._batch_s + tail_s) / self._replicas

    def sent(self, rows: int, now: float) -> None:
        """A batch of `rows` rows left for a replica."""
        self._in_flight += 1
        self._ready_at = max(now, self._ready_at) + self._costs.p50(rows) / self._replicas

    def answered(self) -> None:
        """A batch is back, by whatever outcome."""
        self._in_flight = max(0, self._in_flight - 1)
        if not self._in_flight:
            self._ready_at = -math.inf

    def believe(self, costs: CostTable) -> None:
        """Judge by this table from now on; call it again when the table may have learned. Cheap when it has not."""
        if costs is self._costs and costs.fits == self._fits:
            return
        self._fits = costs.fits
        self._costs = costs
        self._batch_s = costs.p50(self._limits.max_rows)
        self._tail_s = costs.p95(self._limits.max_rows)

    def _busy_s(self, now: float) -> float:
        """Seconds until a replica is free."""
        return abs(self._ready_at - now) if self._in_flight >= self._replicas else 0.0
