"""Whether a request may enter: refuse at once what cannot be answered before its deadline.

It reads no clock and raises nothing (the shell does); it judges, in O(1) for a queue that has its replicas to itself.
The invariants: a queue with nothing waiting or in flight admits every request that can be begun before its deadline, so
no cold or outlying sample can lock the door (the request is the probe that corrects the table); a refusal carries the
predicted drain time.

Predicted finish = until a replica is free + the full batches that leave before this request, of this queue and of those
that it must share with + its own batch at p95. Rows that wait with a later deadline do not count: they leave after it.
A batch that is overdue is believed to need as long again as it is late (so a hanging model closes the door by degrees,
and one answer opens it). Source: `docs/batching.md`.
"""

import math
from typing import Literal, Protocol

import msgspec

from slipway_runtime.latency import CostTable
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Limits

__all__ = ["Admission", "Capacity", "Refusal", "Slots"]


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a request may not enter, and the predicted seconds until the backlog is drained."""

    reason: Literal["queue_full", "deadline", "draining"]
    """`draining`: its pool is not there any more."""
    retry_after_s: float


class Capacity(Protocol):
    """What computes the batches of a queue, and who else wants it."""

    @property
    def in_flight(self) -> int:
        """Batches of the queue that are in flight."""

    def is_idle(self) -> bool:
        """Whether nothing is in flight, and no other queue that shares it has anything waiting. O(1)."""

    def replicas(self) -> int:
        """Batches of the queue that can be computed at once, at least 1."""

    def busy_s(self, now: float) -> float:
        """Predicted seconds until another batch can be begun."""

    def ahead_s(self, own_s: float, batch_s: float, deadline: float) -> float:
        """Seconds that `own_s` seconds of full batches of the queue take, with what must be shared meanwhile.

        Args:
            own_s: Cost of what leaves the queue before the request.
            batch_s: Cost of the batch of the request itself.
            deadline: Of the request.
        """


class Slots:
    """The batches in flight on a number of equal replicas that nobody else uses; a `Capacity`.

    `count` and `ends` are plain attributes; only the owner changes `count`, when replicas come or go.
    """

    __slots__ = ("count", "ends")

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.ends: list[float] = []
        """When each batch in flight is expected back."""

    @property
    def in_flight(self) -> int:
        """How many are in flight."""
        return len(self.ends)

    def is_idle(self) -> bool:
        """Nothing is in flight."""
        return not self.ends

    def replicas(self) -> int:
        """How many there are."""
        return self.count

    def busy_s(self, now: float) -> float:
        """Seconds until a replica is free; a batch that is late counts as long again as it is late. O(batches)."""
        ends = self.ends
        more = len(ends) - self.count
        if more < 0:
            return 0.0
        if len(ends) == 1:
            return abs(ends[0] - now)
        left = [abs(end - now) for end in ends]
        return min(left) if not more else sorted(left)[more]

    def ahead_s(self, own_s: float, batch_s: float, deadline: float) -> float:  # noqa: ARG002 - nobody shares
        """The seconds divided by the replicas."""
        return own_s / self.count

    def sent(self, seconds: float, now: float) -> float:
        """A batch of this predicted cost left.

        Returns:
            When it is expected back; `answered` wants it.
        """
        end = now + self.busy_s(now) + seconds
        self.ends.append(end)
        return end

    def answered(self, end: float | None = None) -> None:
        """The batch that was expected at `end` is back, by whatever outcome; None: the one expected first."""
        ends = self.ends
        if end is None and ends:
            end = min(ends)
        if end in ends:
            ends.remove(end)


class Admission:
    """Judges the requests of one queue. Not thread-safe: one owner.

    The owner tells it when a batch leaves (`sent`), when it is back (`answered`), and what to believe after that.

    Args:
        queue: What waits.
        costs: What a batch costs.
        limits: Bounds of the queue.
        replicas: How many compute for this queue alone; without a meaning when `capacity` is given.
        capacity: What computes for this queue, when others share it; the owner then tells that of batches.
    """

    __slots__ = ("_batch_s", "_capacity", "_costs", "_fits", "_limits", "_queue", "_slots", "_tail_s")

    def __init__(
        self,
        queue: TicketQueue,
        costs: CostTable,
        limits: Limits,
        *,
        replicas: int = 1,
        capacity: Capacity | None = None,
    ) -> None:
        self._queue = queue
        self._limits = limits
        self._fits = -1
        self._costs = costs
        self._slots = Slots(replicas)
        self._capacity: Capacity = capacity or self._slots
        self.believe(costs)

    def judge(self, rows: int, deadline: float, now: float) -> Refusal | None:
        """None when `rows` rows may enter with this deadline. Under a microsecond when nothing is in flight."""
        queue, capacity = self._queue, self._capacity
        waiting = queue.rows
        if waiting + rows > queue.max_rows:
            return Refusal("queue_full", self.drain_s(now))
        slack_s = deadline - now
        if self._tail_s <= slack_s and waiting + rows <= self._limits.max_rows and capacity.is_idle():
            return None
        if slack_s <= 0.0:
            return Refusal("deadline", 0.0)
        if not waiting and not capacity.in_flight and capacity.busy_s(now) < slack_s:
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
        capacity = self._capacity
        batches = (self._queue.rows_before(deadline) + rows - 1) // size
        margin_s = (tail_s - batch_s) * math.sqrt((batches + 1) / capacity.replicas())
        return capacity.busy_s(now) + capacity.ahead_s(batches * batch_s, batch_s, deadline) + batch_s + margin_s

    def drain_s(self, now: float) -> float:
        """Predicted seconds until everything that is in flight or waits now is answered."""
        work_s = self.work_s(self._queue.rows)
        return self._capacity.busy_s(now) + self._capacity.ahead_s(work_s, 0.0, math.inf)

    def work_s(self, rows: int) -> float:
        """Predicted seconds that one replica needs for `rows` rows of this queue."""
        batches, rest = divmod(rows, self._limits.max_rows)
        return batches * self._batch_s + (self._costs.p50(rest) if rest else 0.0)

    def sent(self, rows: int, now: float) -> None:
        """A batch of `rows` rows left for a replica."""
        self._slots.sent(self._costs.p50(rows), now)

    def answered(self) -> None:
        """A batch is back, by whatever outcome."""
        self._slots.answered()

    def believe(self, costs: CostTable) -> None:
        """Judge by this table from now on; call it again when the table may have learned. Cheap when it has not."""
        if costs is self._costs and costs.fits == self._fits:
            return
        self._fits = costs.fits
        self._costs = costs
        self._batch_s = costs.p50(self._limits.max_rows)
        self._tail_s = costs.p95(self._limits.max_rows)
