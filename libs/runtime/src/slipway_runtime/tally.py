"""What one pool has counted: told to its observer as it happens, and read as a snapshot.

It resolves nothing and reads no clock. The invariant, told by `is_conserved`: every admitted ticket is in exactly one
of ok, failed, expired, cancelled, queued, in flight.
"""

from typing import TYPE_CHECKING

import msgspec

from slipway_runtime.errors import RefusedReason
from slipway_runtime.latency import CostPoint
from slipway_runtime.observer import Observer, SendReason, SilentObserver
from slipway_runtime.queue import QueueStatistics
from slipway_runtime.request import Ticket

if TYPE_CHECKING:
    from slipway_runtime.flight import Flight

__all__ = ["DrainReport", "PoolStatistics", "Tally"]


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a drain ended."""

    is_clean: bool
    """Everything that was admitted has been answered."""
    abandoned: int
    """Tickets that got DeadlineExceeded because the drain ran out of time."""
    took_s: float


class PoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one pool. Counts are tickets since the start, except where a name says rows."""

    name: str
    admitted: int
    ok: int
    failed: int
    expired: int
    cancelled: int
    refused: dict[RefusedReason, int]
    in_flight: int
    """Tickets whose batch runs now and who still wait for it."""
    queue: QueueStatistics
    batches: dict[SendReason, int]
    computed_rows: int
    costs: tuple[CostPoint, ...]
    """The learned cost of the lane in use."""
    is_inline: bool
    """A single row would be computed on the event loop, not in the thread."""

    @property
    def is_conserved(self) -> bool:
        """Whether no ticket was lost or counted twice."""
        ended = self.ok + self.failed + self.expired + self.cancelled
        return self.admitted == ended + self.queue.tickets + self.in_flight


class Tally:
    """The counters of one pool. `admitted` and `ok` are plain attributes, because the hot path adds to them."""

    __slots__ = (
        "_name",
        "admitted",
        "batches",
        "cancelled",
        "computed_rows",
        "expired",
        "failed",
        "observer",
        "ok",
        "refused",
    )

    def __init__(self, name: str, observer: Observer | None) -> None:
        self._name = name
        self.observer: Observer = observer or SilentObserver()
        self.admitted = 0
        self.ok = 0
        self.failed = 0
        self.expired = 0
        self.cancelled = 0
        self.refused: dict[RefusedReason, int] = {"queue_full": 0, "deadline": 0, "draining": 0}
        self.batches: dict[SendReason, int] = {"full": 0, "knee": 0, "deadline": 0, "idle": 0, "flush": 0}
        self.computed_rows = 0

    def count_refused(self, reason: RefusedReason) -> None:
        """A ticket was refused."""
        self.refused[reason] += 1
        self.observer.refused(self._name, reason)

    def count_expired(self, ticket: Ticket) -> None:
        """The deadline of an admitted ticket passed."""
        self.expired += 1
        self.observer.expired(self._name, ticket.rows)

    def count_cancelled(self, ticket: Ticket) -> None:
        """The caller of an admitted ticket left."""
        self.cancelled += 1
        self.observer.cancelled(self._name, ticket.rows)

    def count_failed(self, ticket: Ticket) -> None:
        """The model failed for an admitted ticket."""
        self.failed += 1
        self.observer.failed(self._name, ticket.rows)

    def count_batch(self, flight: "Flight") -> None:
        """A batch is back, and its tickets have been told."""
        self.batches[flight.reason] += 1
        self.computed_rows += flight.rows
        self.observer.answered(self._name, flight.answered_rows)
        self.observer.batch(self._name, flight.rows, flight.waited_s(), flight.compute_s, flight.reason)

    def snapshot(
        self, queue: QueueStatistics, in_flight: int, costs: tuple[CostPoint, ...], *, is_inline: bool
    ) -> PoolStatistics:
        """The counters as they are now."""
        return PoolStatistics(
            name=self._name,
            admitted=self.admitted,
            ok=self.ok,
            failed=self.failed,
            expired=self.expired,
            cancelled=self.cancelled,
            refused=dict(self.refused),
            in_flight=in_flight,
            queue=queue,
            batches=dict(self.batches),
            computed_rows=self.computed_rows,
            costs=costs,
            is_inline=is_inline,
        )
