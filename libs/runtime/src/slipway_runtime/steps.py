"""Deadlines of steps: how much of a request's deadline each model that an endpoint awaits may use.

A step that answers at the last moment of its request has spoilt it: decoding, the next model and the response still
have to follow. So a step's deadline is the request's, less what usually follows that step. It reads no clock and knows
no task: the caller passes points in time, and any object that stands for "this runs one after another" as a branch.

The invariants: a step's deadline is never after its request's; never less than a share of the time that is left away
(a book that learned in bad times must not refuse everything afterwards); and with too few, or only old, samples it is
the request's own. Branches that run side by side cost the longest of them: what a short branch waits for a long one is
the long one's, and not counted as "what follows". Quantiles over a window, as in `latency.py`. Source:
`docs/service-api.md`, deadlines of steps.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

__all__ = ["Follow", "Step", "StepBook", "StepLog"]

WINDOW: Final = 64
"""Samples kept for one step; their p95 is the fourth largest."""
FEW: Final = 8
"""Fewer samples than this teach nothing."""
FORGET_S: Final = 120.0
"""Older samples are dropped: what they were measured under is over."""
REPEATS: Final = 8
"""Awaits of one model in one request that are told apart; later ones are a loop, and have the request's deadline."""
LEAST_SHARE: Final = 0.25
LEAST_S: Final = 0.010
"""A step gets at least this share of the time that is left, and at least this many seconds of it."""
_QUANTILE: Final = 0.95


class Follow(msgspec.Struct, frozen=True, kw_only=True):
    """What was learned about one step, for statistics."""

    step: str
    repeat: int
    """0 for the first await of the model in a request, 1 for the second, …"""
    p95_s: float
    """Seconds from the step's answer to the end of the request."""
    samples: int


class Step:
    """One await of a model in one request. Made by `StepLog.begin`; `answered` is set by whoever awaited."""

    __slots__ = ("answered", "branch", "deadline", "name", "repeat", "started")

    def __init__(self, name: str, repeat: int, branch: object, started: float, deadline: float) -> None:
        self.name = name
        self.repeat = repeat
        self.branch = branch
        self.started = started
        self.deadline = deadline
        self.answered: float | None = None
        """When its answer was there; None while it waits, and for good when it failed."""


class StepLog:
    """The steps of one request, in the order in which they began."""

    __slots__ = ("_book", "_counts", "_deadline", "_started", "steps")

    def __init__(self, book: "StepBook", started: float, deadline: float) -> None:
        self._book = book
        self._started = started
        self._deadline = deadline
        self._counts: dict[str, int] = {}
        self.steps: list[Step] = []

    def begin(self, name: str, branch: object, now: float) -> Step:
        """A step begins; its `deadline` is what to queue its rows with.

        Args:
            name: The model's.
            branch: The same object for everything that runs one after another (a task); compared by identity.
            now: On the clock of the request's deadline.
        """
        repeat = self._counts.get(name, 0)
        self._counts[name] = repeat + 1
        length_s = self._deadline - self._started
        deadline = self._book.deadline_for(name, now, self._deadline, length_s=length_s, repeat=repeat)
        step = Step(name, repeat, branch, now, deadline)
        if repeat < REPEATS:
            self.steps.append(step)
        return step


class StepBook:
    """What follows each step of one endpoint, learned from its requests. Not thread-safe: one owner.

    Args:
        shares: Model → share of the whole length of a request's deadline that a step of it may take, 0 to 1, from when
            the step begins. Replaces what was learned for that model.
    """

    __slots__ = ("_shares", "_windows")

    def __init__(self, shares: Mapping[str, float] = MappingProxyType({})) -> None:
        self._shares = dict(shares)
        self._windows: dict[tuple[str, int], _Window] = {}

    def open(self, started: float, deadline: float) -> StepLog:
        """A request begins."""
        return StepLog(self, started, deadline)

    def deadline_for(
        self, step: str, now: float, request_deadline: float, *, length_s: float = 0.0, repeat: int = 0
    ) -> float:
        """When a step that begins now has to have answered; a point in time, at most `request_deadline`.

        Args:
            step: The model's name.
            now: When it begins.
            request_deadline: Of the request.
            length_s: From the beginning of the request to its deadline; what a share is taken of.
            repeat: How often the request has awaited this model before.
        """
        share = self._shares.get(step)
        if share is not None:
            return min(request_deadline, now + share * length_s)
        window = self._windows.get((step, repeat))
        if window is None:
            return request_deadline
        follows_s = window.quantile(now)
        left_s = request_deadline - now
        earliest = now + max(LEAST_S, LEAST_SHARE * left_s)
        return min(request_deadline, max(earliest, request_deadline - follows_s))

    def learn(self, log: StepLog, ended: float) -> None:
        """A request was answered. Tell only of those: one that failed says nothing about what would have followed."""
        waits = _waits(log.steps)
        for step in log.steps:
            if step.answered is None:
                continue
            window = self._windows.get((step.name, step.repeat))
            if window is None:
                window = self._windows[step.name, step.repeat] = _Window()
            window.add(ended, max(0.0, ended - step.answered - waits.get(id(step.branch), 0.0)))

    def follows(self, now: float) -> tuple[Follow, ...]:
        """What the book believes now; empty before it learned."""
        return tuple(
            Follow(step=step, repeat=repeat, p95_s=window.quantile(now), samples=len(window.order))
            for (step, repeat), window in self._windows.items()
        )


class _Window:
    """The last samples of one step, in their order and sorted."""

    __slots__ = ("order", "sorted")

    def __init__(self) -> None:
        self.order: deque[tuple[float, float]] = deque()
        self.sorted: list[float] = []

    def add(self, at: float, seconds: float) -> None:
        if len(self.order) == WINDOW:
            self._drop()
        self.order.append((at, seconds))
        insort(self.sorted, seconds)

    def quantile(self, now: float) -> float:
        """The p95 of the samples that are young enough; 0.0 when they are too few."""
        while self.order and self.order[0][0] < now - FORGET_S:
            self._drop()
        count = len(self.sorted)
        return self.sorted[int(_QUANTILE * (count - 1))] if count >= FEW else 0.0

    def _drop(self) -> None:
        _, seconds = self.order.popleft()
        del self.sorted[bisect_left(self.sorted, seconds)]


def _waits(steps: list[Step]) -> dict[int, float]:
    """Branch → seconds that it waited, after its last answer, for the branches beside it. O(steps²), steps are few."""
    last: dict[int, float] = {}
    for step in steps:
        if step.answered is not None:
            last[id(step.branch)] = max(last.get(id(step.branch), 0.0), step.answered)
    waits: dict[int, float] = {}
    for branch, ended in last.items():
        beside = [
            step.answered
            for step in steps
            if step.answered is not None and id(step.branch) != branch and step.started < ended < step.answered
        ]
        waits[branch] = max(beside) - ended if beside else 0.0
    return waits
