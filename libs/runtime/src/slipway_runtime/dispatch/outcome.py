"""What the dispatcher's core tells its shell: batches to send, tickets that ended, what a lost replica leaves behind.

Nothing here decides. The invariant: a ticket is in at most one field of one outcome.
"""

import msgspec

from slipway_runtime.observer import SendReason
from slipway_runtime.request import Ticket

__all__ = ["Batch", "Loss", "Plan"]


class Batch(msgspec.Struct, eq=False, kw_only=True):
    """Tickets that were given to one replica, to be computed together. The shell only reads it."""

    number: int
    """Unique for the life of the dispatcher's core; names the batch on the wire."""
    replica: int
    pool: str
    model: str
    key: bytes
    tickets: list[Ticket]
    """Earliest deadline first. One of them may be cancelled by the time the batch is back: look before answering."""
    rows: int
    reason: SendReason
    sent_at: float
    is_suspect: bool = False
    """One ticket, alone, whose first runner died."""


class Plan(msgspec.Struct, frozen=True):
    """What to do now."""

    batches: tuple[Batch, ...]
    """Send these, in this order."""
    expired: tuple[Ticket, ...]
    """Their deadline passed, or they could not be in time any more: tell their owners."""
    wake_at: float
    """Plan again then at the latest; inf: there is nothing to wait for."""


class Loss(msgspec.Struct, frozen=True):
    """What became of the tickets of a lost replica. Each of them is in exactly one field."""

    retried: tuple[Ticket, ...] = ()
    """They wait again, each for a batch of its own."""
    quarantined: tuple[Ticket, ...] = ()
    """Each was alone when its second runner died."""
    expired: tuple[Ticket, ...] = ()
    """Their deadline has passed."""
    promoted: int | None = None
    """The standby that takes the place."""
    cancelled: tuple[Ticket, ...] = ()
    """Their callers had left: only now is what they held free."""
    dropped: tuple[Ticket, ...] = ()
    """Their pool was dropped while they were in flight: there is nowhere to try again."""
