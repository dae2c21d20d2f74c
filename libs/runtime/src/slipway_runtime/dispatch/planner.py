"""The pure half of the dispatcher: which batch goes to which replica, when, and what is refused, retried or given up.

It knows no clock, no socket and no payload: the shell tells it what happened and when, and does what a plan says. The
invariants: every admitted ticket ends exactly once (in an answered batch, a plan, a loss, a cancellation or a dropped
pool) or is in exactly one place; no batch exceeds its model's `max_rows`, mixes keys, or holds a ticket that was
expired or cancelled when it left; no replica and no device has more batches than its limit; a ticket is computed at
most twice, the second time alone, and only a ticket that was alone is quarantined.

Replicas are bound late: a batch is formed when one is free, never before. Among what could leave, tickets on their
second attempt go first; then the device's turns choose the pool, the pool's turns the model, and the earliest deadline
the line. Source: `docs/batching.md`.
"""

import math
from collections.abc import Sequence

from slipway_runtime.admission import Refusal
from slipway_runtime.dispatch.flights import Flights
from slipway_runtime.dispatch.line import Line
from slipway_runtime.dispatch.losses import Losses
from slipway_runtime.dispatch.outcome import Batch, Loss, Plan
from slipway_runtime.dispatch.replicas import Device, Replica, RunnerPool
from slipway_runtime.dispatch.reports import DispatcherStatistics, report
from slipway_runtime.dispatch.rounds import Round
from slipway_runtime.dispatch.spec import PoolSpec
from slipway_runtime.request import Ticket

__all__ = ["Dispatcher"]


class Dispatcher:
    """Decides for all pools. Not thread-safe: one owner. All times are seconds on one monotonic clock."""

    def __init__(self) -> None:
        self._pools: dict[str, RunnerPool] = {}
        self._devices: dict[str, Device] = {}
        self._lines: dict[tuple[str, str, bytes], Line] = {}
        self._replicas: dict[int, Replica] = {}
        self._flights = Flights()
        self._plans = 0

    def add_pool(self, spec: PoolSpec) -> None:
        """Know a pool, or its new limits. Idempotent; a model's new limits hold for a line once nothing waits in it."""
        pool = self._pools.get(spec.name)
        if pool is not None and pool.spec == spec:
            return
        device = self._device(spec)
        if pool is None:
            self._pools[spec.name] = pool = RunnerPool(spec, device)
        elif pool.device is not device:
            device.pools[spec.name] = pool
            self._leave_device(pool)
            pool.device = device
            device.waiting.update({flow: None for flow in pool.flows.values() if flow.waiting})
            device.expires_at = -math.inf
            device.has_suspects = True
        device.pools[spec.name] = pool
        pool.respecify(spec)
        device.limit()

    def _device(self, spec: PoolSpec) -> Device:
        name = f"device {spec.device}" if spec.device else f"pool {spec.name}"
        if name not in self._devices:
            self._devices[name] = Device(name)
        return self._devices[name]

    def _leave_device(self, pool: RunnerPool) -> None:
        device = pool.device
        del device.pools[pool.spec.name]
        for flow in pool.flows.values():
            device.waiting.pop(flow, None)
        device.limit()
        for unused in [name for name, device in self._devices.items() if not device.pools and not device.slots.ends]:
            del self._devices[unused]  # one with batches of a dropped pool in flight still counts them

    def drop_pool(self, name: str) -> list[Ticket]:
        """Forget a pool; unknown names are ignored.

        Returns:
            What still waited. What is in flight comes back by `landed` or `lose`; its replicas get nothing more.
        """
        pool = self._pools.pop(name, None)
        if pool is None:
            return []
        waited = pool.suspects.expire(math.inf)
        for model, flow in pool.flows.items():
            for key, line in flow.lines.items():
                waited += line.expire(math.inf)
                del self._lines[name, model, key]
        pool.active, pool.standby, pool.next, pool.is_dropped = [], [], None, True
        self._leave_device(pool)
        return waited

    def join(self, replica: int, pool: str, now: float) -> bool:
        """A replica is ready. Its number must not be in use.

        Returns:
            Whether it is active; if not, it is a standby and takes the place of the next that leaves.

        Raises:
            ValueError: The pool is unknown or the number is in use. This is a bug in slipway.
        """
        if pool not in self._pools or replica in self._replicas:
            msg = f"replica {replica} cannot join pool {pool!r}: unknown pool or number in use; a bug in slipway"
            raise ValueError(msg)
        owner = self._pools[pool]
        self._replicas[replica] = joined = Replica(replica, owner, now)
        return owner.join(joined)

    def teach(self, pool: str, model: str, key: bytes, samples: Sequence[tuple[int, float]]) -> None:
        """Measured batches, (rows, seconds) each, of a warm-up. Unknown pools and models are ignored."""
        line = self._lines.get((pool, model, key)) or self._open(pool, model, key)
        if line is not None:
            for rows, seconds in samples:
                line.teach(rows, seconds)

    def retire(self, replica: int, now: float) -> None:  # noqa: ARG002 - every event of the core carries its time
        """Give a replica nothing more; a standby takes its place. What it has in flight still lands."""
        leaving = self._replicas.get(replica)
        if leaving is not None:
            leaving.pool.leave(leaving)

    def lose(self, replica: int, now: float) -> Loss:
        """A replica is gone; what it had in flight is tried once more, each ticket alone. Unknown ones lost nothing."""
        lost = self._replicas.pop(replica, None)
        if lost is None:
            return Loss()
        losses = Losses(now)
        for flight in list(lost.flights.values()):
            self._flights.lost(flight, now)
            losses.add(flight)
        promoted = lost.pool.leave(lost)
        return losses.sorted_out(promoted.number if promoted is not None else None)

    def offer(self, pool: str, model: str, key: bytes, ticket: Ticket, now: float) -> Refusal | None:
        """Take a ticket in, or say why not. HOT: once a request.

        Raises:
            RowsExceeded: The ticket is larger than a batch of its model, or empty; nothing was kept.
        """
        line = self._lines.get((pool, model, key))
        if line is None:
            line = self._open(pool, model, key)
            if line is None:
                return self._refuse_line(pool, model, now)
        return line.offer(ticket, now)

    def _open(self, pool: str, model: str, key: bytes) -> Line | None:
        flow = self._pools[pool].flows.get(model) if pool in self._pools else None
        if flow is None:
            return None
        line, dropped = flow.open(key)
        if dropped is not None:
            del self._lines[pool, model, dropped.key]
        if line is not None:
            self._lines[pool, model, key] = line
        return line

    def _refuse_line(self, pool: str, model: str, now: float) -> Refusal:
        flow = self._pools[pool].flows.get(model) if pool in self._pools else None
        if flow is None:
            return Refusal("draining", 0.0)
        flow.counts.refused["queue_full"] = flow.counts.refused.get("queue_full", 0) + 1
        return Refusal("queue_full", next(iter(flow.lines.values())).admission.drain_s(now))

    def cancel(self, ticket: Ticket) -> bool:
        """The caller left.

        Returns:
            True when it waited and is gone; False when it is in flight (it is never tried again, and comes back with
            its batch or its loss) or over.
        """
        line = ticket.line
        if not ticket.queued or not isinstance(line, Line):
            ticket.cancelled = True
            return False
        if ticket.attempts:
            line.flow.pool.suspects.cancel(ticket)
            line.cancel_suspect()
        else:
            line.cancel(ticket)
        return True

    def plan(self, now: float) -> Plan:
        """What to send and to give up now, and when to ask again. O(models and keys that have something waiting)."""
        self._plans += 1
        round_ = Round(self._plans, self._flights, now)
        for device in self._devices.values():
            if device.waiting or device.has_suspects:
                round_.visit(device)
        return round_.plan()

    def landed(self, number: int, now: float) -> Batch | None:
        """A batch is back, by whatever outcome inside it; its turnaround is learned. None: nobody waits for it."""
        flight = self._flights.landed(number, now)
        if flight is None:
            return None
        flight.replica.pool.choose_next()
        return flight.batch

    def overdue(self, now: float) -> list[int]:
        """Replicas with a batch beyond its limit, every time until they are lost or land it."""
        return self._flights.overdue(now)

    def in_flight(self, replica: int) -> int:
        """Batches that a replica has; 0 for one that is not known."""
        known = self._replicas.get(replica)
        return len(known.flights) if known is not None else 0

    def statistics(self) -> DispatcherStatistics:
        """How everything is now. O(pools, models, keys)."""
        return report(self._pools.values(), self._replicas.values())
