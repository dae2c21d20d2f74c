"""One request inside the runtime: the ticket that waits, the answer that comes back, and the limits of a pool.

Nothing here decides or acts. The invariant: a ticket's payload is opaque bytes (rows packed by the bundle's codec) and
its `future` belongs to the shell that made it; the pure modules never look into either. Times are seconds on one
monotonic clock.
"""

import math
from typing import Protocol

import msgspec

__all__ = ["Answer", "BatchFacts", "Limits", "Ticket"]


class Ticket(msgspec.Struct, eq=False, weakref=False):
    """One admitted request: `rows` packed rows that must be computed in one batch, before `deadline`.

    Mutable on purpose (the queue and the shell mark it) and compared by identity. A C-level Struct: making one costs a
    quarter of a Python class with the same slots.
    """

    payload: bytes
    rows: int
    deadline: float
    arrived: float
    future: object = None
    """Opaque to the pure modules: whatever the shell resolves (an asyncio future, a frame's address)."""
    sequence: int = 0
    """Order of arrival; set by the queue, breaks ties between equal deadlines."""
    queued: bool = False
    """Set by the queue: the ticket is in it and counts in its rows."""
    cancelled: bool = False
    """The caller left: never compute it."""
    attempts: int = 0
    """Set by the dispatcher: runners that died while they computed it."""
    line: object = None
    """Set by the dispatcher: the queue that admitted it."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Where a ticket's rows are in the result of its batch: `result` rows `start` to `stop` (exclusive).

    `result` is whatever compute returned for the whole batch; its tickets share it and must not change it.
    """

    result: object
    start: int
    stop: int
    batch: "BatchFacts | None" = None
    """Of its batch; shared by its tickets."""


class BatchFacts(Protocol):
    """How a batch was computed, for whoever follows a request. Times are seconds on the monotonic clock."""

    @property
    def number(self) -> int:
        """Of the batch, by who formed it."""

    @property
    def rows(self) -> int:
        """Computed together."""

    @property
    def sent_at(self) -> float:
        """When it left the queue."""

    @property
    def started_at(self) -> float:
        """When the model began; 0 when that is not known."""

    @property
    def compute_s(self) -> float:
        """Time in the model."""

    @property
    def reason(self) -> str:
        """Why it left: `observer.SendReason`."""

    @property
    def replica(self) -> str:
        """Name of who computed it; empty in this process."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one pool. `max_rows=1` switches batching off; `gather_s=0` never waits for company."""

    max_rows: int = 64
    """Rows of the largest batch, at least 1."""
    max_queued_rows: int = 4096
    """Rows that may wait; more are refused with `queue_full`. Bounds memory, not latency: deadlines bound that."""
    gather_s: float = 0.010
    """Longest time in seconds that a free replica waits for more rows; one predicted batch cost bounds it too."""
    inline_s: float = 0.002
    """In-process lane: a batch whose predicted p95 is at most this runs on the event loop, a longer one in a thread."""
    isolation_calls: int = 64
    """Calls of compute that one failed batch may cost while its bad tickets are looked for."""

    def __post_init__(self) -> None:
        if self.max_rows < 1 or self.max_queued_rows < self.max_rows or self.isolation_calls < 1:
            msg = (
                "limits contradict each other: expected 1 <= max_rows <= max_queued_rows and isolation_calls >= 1, "
                f"got max_rows={self.max_rows}, max_queued_rows={self.max_queued_rows}, "
                f"isolation_calls={self.isolation_calls}"
            )
            raise ValueError(msg)
        if not (0 <= self.gather_s < math.inf and self.inline_s >= 0):
            msg = f"limits need times >= 0 s, got gather_s={self.gather_s}, inline_s={self.inline_s}"
            raise ValueError(msg)
