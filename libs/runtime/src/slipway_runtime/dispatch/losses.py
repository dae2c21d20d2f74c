"""What becomes of the tickets that a lost replica had in flight.

It reads no clock and kills nobody. The invariants: a ticket is tried again at most once, alone, and never past its
deadline; only a ticket that was alone on its replica is blamed, so an innocent batch mate of a killer is never
quarantined by it.

A batch that kills its process cannot be bisected inside it, and trying halves would kill a replica for each level; one
loss splits the batch into single tickets at once, so a killer costs exactly one more replica.
"""

from slipway_runtime.dispatch.flights import Flight
from slipway_runtime.dispatch.outcome import Loss
from slipway_runtime.request import Ticket

__all__ = ["Losses"]


class Losses:
    """Sorts the tickets of one lost replica."""

    __slots__ = ("_cancelled", "_dropped", "_expired", "_now", "_quarantined", "_retried")

    def __init__(self, now: float) -> None:
        self._now = now
        self._retried: list[Ticket] = []
        self._quarantined: list[Ticket] = []
        self._expired: list[Ticket] = []
        self._cancelled: list[Ticket] = []
        self._dropped: list[Ticket] = []

    def add(self, flight: Flight) -> None:
        """A batch that was in flight on the replica."""
        batch = flight.batch
        counts = flight.line.flow.counts
        counts.lost_batches += 1
        for ticket in batch.tickets:
            if ticket.cancelled:
                counts.cancelled += 1
                self._cancelled.append(ticket)
            elif batch.is_suspect:
                counts.quarantined += 1
                self._quarantined.append(ticket)
            elif ticket.deadline <= self._now:
                counts.expired += 1
                self._expired.append(ticket)
            elif flight.replica.pool.is_dropped:
                counts.dropped += 1
                self._dropped.append(ticket)
            else:
                self._try_again(ticket, flight)

    def _try_again(self, ticket: Ticket, flight: Flight) -> None:
        pool, counts = flight.replica.pool, flight.line.flow.counts
        ticket.attempts += 1
        counts.retried += 1
        counts.suspects += 1
        pool.suspects.push(ticket)
        pool.device.has_suspects = True
        pool.device.expires_at = min(pool.device.expires_at, ticket.deadline)
        self._retried.append(ticket)

    def sorted_out(self, promoted: int | None) -> Loss:
        """The whole loss."""
        return Loss(
            retried=tuple(self._retried),
            quarantined=tuple(self._quarantined),
            expired=tuple(self._expired),
            promoted=promoted,
            cancelled=tuple(self._cancelled),
            dropped=tuple(self._dropped),
        )
