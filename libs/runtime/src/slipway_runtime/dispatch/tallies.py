"""What the dispatcher has counted for one model of one pool.

It decides nothing and reads no clock. The invariant, told by `ModelStatistics.is_conserved`: every admitted ticket is
in exactly one of answered, expired, cancelled, quarantined, dropped, waiting, in flight.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipway_runtime.observer import SendReason

__all__ = ["Counts"]


class Counts:
    """Plain attributes, because the hot path adds to them. Tickets, except where a name says otherwise."""

    __slots__ = (
        *("admitted", "answered", "batches", "cancelled", "cold", "computed_rows", "dropped", "expired", "in_flight"),
        *("lost_batches", "quarantined", "refused", "retried", "suspects"),
    )

    def __init__(self) -> None:
        self.admitted = 0
        self.cold = 0
        self.answered = 0
        self.expired = 0
        self.cancelled = 0
        self.retried = 0
        self.quarantined = 0
        self.dropped = 0
        self.in_flight = 0
        self.suspects = 0
        """Waiting for their second attempt."""
        self.computed_rows = 0
        self.lost_batches = 0
        self.refused: dict[str, int] = {}
        self.batches: dict[SendReason, int] = {}
