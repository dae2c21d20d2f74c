"""Batches in flight: what each was predicted to cost, when it is overdue, and what is undone when it is back.

It decides nothing and reads no clock. The invariant: a flight is known here, to its replica, and to the slots of its
pool and device, or to none of them.
"""

import math
from typing import TYPE_CHECKING

from slipway_runtime.dispatch.line import Line
from slipway_runtime.dispatch.outcome import Batch
from slipway_runtime.observer import SendReason
from slipway_runtime.request import Ticket

if TYPE_CHECKING:
    from slipway_runtime.dispatch.replicas import Replica

__all__ = ["Flight", "Flights"]

_COLD_S = 30.0
"""How long a batch may take while no cost of its line is known: libraries compile and tune themselves in the first."""
_OVERDUE = 10.0
"""A batch is overdue after so many times its p95."""


class Flight:
    """One batch in flight, and the tags that its end gives back."""

    __slots__ = (
        *("batch", "device", "device_end", "limit_s", "line", "overdue_at", "pool_end", "pool_weight", "predicted_s"),
        *("replica", "weight"),
    )

    def __init__(self, batch: Batch, line: Line, replica: "Replica") -> None:
        pool, costs, now = replica.pool, line.costs, batch.sent_at
        self.batch = batch
        self.line = line
        self.replica = replica
        self.device = device = pool.device
        self.predicted_s = seconds = costs.p50(batch.rows)
        self.limit_s = max(pool.spec.hang_s, _OVERDUE * costs.p95(batch.rows) if costs.is_known else _COLD_S)
        self.overdue_at = math.inf if replica.flights else now + self.limit_s
        self.pool_end = pool.slots.sent(seconds, now)
        self.device_end = device.slots.sent(seconds, now)
        self.weight = line.flow.share.weight
        self.pool_weight = pool.share.weight

    def land(self, now: float) -> None:
        """The answer is there: learn what it cost, which is the time it had the replica to itself."""
        batch, line, replica = self.batch, self.line, self.replica
        seconds = now - max(batch.sent_at, replica.free_since)
        replica.free_since = now
        line.teach(batch.rows, seconds)
        self.end(now)
        counts = line.flow.counts
        cancelled = sum([ticket.cancelled for ticket in batch.tickets])
        counts.cancelled += cancelled
        counts.answered += len(batch.tickets) - cancelled
        counts.computed_rows += batch.rows
        more_s = seconds - self.predicted_s
        self.device.turns.correct(replica.pool.share, more_s, self.pool_weight)
        replica.pool.turns.correct(line.flow.share, more_s, self.weight)

    def end(self, now: float) -> None:
        """It is not in flight any more, by whatever outcome."""
        replica = self.replica
        del replica.flights[self.batch.number]
        replica.has_suspect = False
        replica.pool.slots.answered(self.pool_end)
        self.device.slots.answered(self.device_end)
        self.line.answered(len(self.batch.tickets), now)


class Flights:
    """All that is in flight, by number. `overdue_from` is a time before which nothing is overdue."""

    __slots__ = ("_numbers", "by_number", "overdue_from")

    def __init__(self) -> None:
        self.by_number: dict[int, Flight] = {}
        self.overdue_from = math.inf
        self._numbers = 0

    def start(
        self, replica: "Replica", line: Line, tickets: list[Ticket], rows: int, reason: SendReason, now: float
    ) -> Flight:
        """A batch of these tickets leaves for a replica."""
        flow = line.flow
        self._numbers += 1
        batch = Batch(
            number=self._numbers,
            replica=replica.number,
            pool=replica.pool.spec.name,
            model=flow.spec.name,
            key=line.key,
            tickets=tickets,
            rows=rows,
            reason=reason,
            sent_at=now,
            is_suspect=tickets[0].attempts > 0,
        )
        flight = Flight(batch, line, replica)
        replica.flights[batch.number] = self.by_number[batch.number] = flight
        replica.has_suspect = batch.is_suspect
        self.overdue_from = min(self.overdue_from, flight.overdue_at)
        line.sent(len(tickets))
        flow.counts.batches[reason] = flow.counts.batches.get(reason, 0) + 1
        return flight

    def landed(self, number: int, now: float) -> Flight | None:
        """The answer of a batch is there; None when nobody waits for it."""
        flight = self.by_number.pop(number, None)
        if flight is None:
            return None
        flight.land(now)
        for behind in flight.replica.flights.values():  # the replica begins the next one now
            behind.overdue_at = now + behind.limit_s
            self.overdue_from = min(self.overdue_from, behind.overdue_at)
            break
        return flight

    def lost(self, flight: Flight, now: float) -> None:
        """A batch will not come back."""
        del self.by_number[flight.batch.number]
        flight.end(now)

    def overdue(self, now: float) -> list[int]:
        """Replicas with a batch beyond its limit. O(1) while there is none."""
        if now < self.overdue_from or self._first_overdue() > now:
            return []
        late = [flight.replica.number for flight in self.by_number.values() if flight.overdue_at <= now]
        return list(dict.fromkeys(late))

    def next_overdue(self, now: float) -> float:
        """A time at which to look again: the next limit that has not passed, or a little before it."""
        if not self.by_number:
            return math.inf
        if now < self.overdue_from or self._first_overdue() > now:
            return self.overdue_from
        return min([at for flight in self.by_number.values() if (at := flight.overdue_at) > now], default=math.inf)

    def _first_overdue(self) -> float:
        self.overdue_from = min([flight.overdue_at for flight in self.by_number.values()], default=math.inf)
        return self.overdue_from
