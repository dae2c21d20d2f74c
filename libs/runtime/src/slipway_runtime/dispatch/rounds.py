"""One round of planning: what every device with something waiting does now.

It keeps nothing from one round to the next and reads no clock. The invariants: what is due is given up before anything
is sent; a suspect leaves before everything else of its pool, to a replica that has nothing else; a replica that already
has a batch gets full ones only, because whatever waits here can still grow.
"""

import math

from slipway_runtime.dispatch.flights import Flights
from slipway_runtime.dispatch.line import Line, line_of
from slipway_runtime.dispatch.outcome import Batch, Plan
from slipway_runtime.dispatch.replicas import Device, Replica
from slipway_runtime.observer import SendReason
from slipway_runtime.request import Ticket

__all__ = ["Round"]


class Round:
    """A plan in the making. `number` is different for every round."""

    __slots__ = ("_batches", "_expired", "_flights", "_now", "_number", "_wake_at")

    def __init__(self, number: int, flights: Flights, now: float) -> None:
        self._number = number
        self._flights = flights
        self._now = now
        self._batches: list[Batch] = []
        self._expired: list[Ticket] = []
        self._wake_at = math.inf

    def plan(self) -> Plan:
        """What has been decided."""
        wake_at = min(self._wake_at, self._flights.next_overdue(self._now))
        return Plan(tuple(self._batches), tuple(self._expired), wake_at)

    def visit(self, device: Device) -> None:
        """Decide for one device that has something waiting."""
        if self._now >= device.expires_at:
            self._expire(device)
        if device.has_suspects:
            self._retry(device)
        while device.waiting and device.has_room():
            line = self._choose(device)
            if line is None or line.send is None or (replica := line.flow.pool.next) is None:
                break
            reason = line.send.reason
            tickets, rows = line.take(line.send.rows)
            self._send(replica, line, tickets, rows, reason)
        if not device.waiting and not device.has_suspects:
            device.expires_at = math.inf
        self._wake_at = min(self._wake_at, device.expires_at)

    def _expire(self, device: Device) -> None:
        """Give up what is due, and find the next deadline."""
        heads: list[Ticket | None] = []
        for flow in list(device.waiting):
            for line in list(flow.waiting):
                self._expired += line.expire(self._now)
                heads.append(line.queue.head())
        for pool in device.pools.values():
            for ticket in pool.suspects.expire(self._now):
                line_of(ticket).give_up_suspect()
                self._expired.append(ticket)
            heads.append(pool.suspects.head())
        device.expires_at = min([head.deadline for head in heads if head is not None], default=math.inf)

    def _retry(self, device: Device) -> None:
        """Send what is to be tried again, each ticket alone."""
        device.has_suspects = False
        for pool in device.pools.values():
            suspects = pool.suspects
            while suspects.tickets and device.has_room() and (replica := pool.next) and not replica.flights:
                ticket = suspects.discard_head()
                if ticket is None:
                    break
                line = line_of(ticket)
                line.flow.counts.suspects -= 1
                self._send(replica, line, [ticket], ticket.rows, "idle")
            device.has_suspects = device.has_suspects or suspects.tickets > 0

    def _choose(self, device: Device) -> Line | None:
        """The line whose turn it is, of those that would send now."""
        chosen: Line | None = None
        first = (math.inf, math.inf)
        now, number, expired = self._now, self._number, self._expired
        for flow in device.waiting:
            pool = flow.pool
            replica = pool.next
            if replica is None or pool.suspects.tickets:
                continue
            rank = (device.turns.start_s(pool.share), pool.turns.start_s(flow.share))
            if chosen is not None and rank >= first:
                continue
            least = flow.limits.max_rows if replica.flights else 1
            for line in flow.by_deadline():
                if line.queue.rows < least:
                    continue
                if line.decide(number, now, expired) is None:
                    self._wake_at = min(self._wake_at, line.until)
                    continue
                chosen, first = line, rank
                break
        return chosen

    def _send(self, replica: Replica, line: Line, tickets: list[Ticket], rows: int, reason: SendReason) -> None:
        flow, pool = line.flow, replica.pool
        device = pool.device
        others = device.waiting_weight(pool)
        pool.share.weight = others if flow in device.waiting else others + flow.share.weight
        flight = self._flights.start(replica, line, tickets, rows, reason, self._now)
        device.turns.take(pool.share, flight.predicted_s)
        pool.turns.take(flow.share, flight.predicted_s)
        pool.choose_next()
        self._batches.append(flight.batch)
