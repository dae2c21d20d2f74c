"""A dispatcher's core beside the shell's own account of every ticket: each event is checked against what must never be.

Time passes only when told. A batch with a poisonous ticket never lands: it kills its replica.
"""

import math
from collections import Counter
from typing import Literal

from slipway_runtime.dispatch import Batch, Dispatcher, Loss, ModelSpec, PoolSpec
from slipway_runtime.request import Ticket

State = Literal["waiting", "in flight", "answered", "expired", "cancelled", "quarantined", "dropped"]

SPECS = {
    spec.name: spec
    for spec in (
        PoolSpec(
            name="shared",
            models=(
                ModelSpec(name="wide", max_rows=8, max_queued_rows=40),
                ModelSpec(name="narrow", max_rows=2, max_queued_rows=10, weight=3.0),
            ),
            device="gpu",
            device_concurrency=2,
        ),
        PoolSpec(
            name="deep",
            models=(ModelSpec(name="deep", max_rows=4, max_queued_rows=20),),
            replicas=2,
            in_flight=2,
            device="gpu",
            device_concurrency=2,
        ),
        PoolSpec(
            name="alone", models=(ModelSpec(name="single", max_rows=4, max_queued_rows=16, gather_s=0.0),), replicas=2
        ),
    )
}
MODELS = [(spec.name, model) for spec in SPECS.values() for model in spec.models]


class Ledger:
    """Tickets by state, batches by replica."""

    def __init__(self) -> None:
        self.core = Dispatcher()
        self.now = 0.0
        self.states: dict[int, State] = {}
        self.tickets: list[Ticket] = []
        self.homes: list[tuple[str, ModelSpec, bytes]] = []
        self.poison: set[int] = set()
        self.computed: Counter[int] = Counter()
        self.flights: dict[int, Batch] = {}
        self.members: dict[int, str] = {}
        self.retired: set[int] = set()
        self.numbers = 0
        self.wake_at = math.inf
        for spec in SPECS.values():
            self.core.add_pool(spec)

    def join(self, pool: str) -> None:
        self.numbers += 1
        self.core.add_pool(SPECS[pool])
        self.core.join(self.numbers, pool, self.now)
        self.members[self.numbers] = pool

    def retire(self, replica: int) -> None:
        self.core.retire(replica, self.now)
        self.retired.add(replica)

    def lose(self, replica: int) -> Loss:
        held = [batch for batch in self.flights.values() if batch.replica == replica]
        loss = self.core.lose(replica, self.now)
        del self.members[replica]
        for batch in held:
            del self.flights[batch.number]
            assert self.core.landed(batch.number, self.now) is None
        for tickets, state in [
            (loss.retried, "waiting"),
            (loss.quarantined, "quarantined"),
            (loss.expired, "expired"),
            (loss.cancelled, "cancelled"),
            (loss.dropped, "dropped"),
        ]:
            for ticket in tickets:
                self._move(ticket, "in flight", state)  # type: ignore[arg-type]  # a Literal from the table above
        for ticket in loss.retried:
            assert ticket.deadline > self.now
            assert not ticket.cancelled
        assert sum(len(batch.tickets) for batch in held) == sum(
            map(len, (loss.retried, loss.quarantined, loss.expired, loss.cancelled, loss.dropped))
        )
        return loss

    def offer(self, home: tuple[str, ModelSpec], key: bytes, rows: int, timeout_s: float, *, poison: bool) -> None:
        pool, model = home
        number = len(self.tickets)
        ticket = Ticket(b"", min(rows, model.max_rows), self.now + timeout_s, self.now, number)
        if self.core.offer(pool, model.name, key, ticket, self.now) is None:
            assert timeout_s > 0
            self.tickets.append(ticket)
            self.homes.append((pool, model, key))
            self.states[number] = "waiting"
            if poison:
                self.poison.add(number)

    def cancel(self, number: int) -> None:
        waited = self.states[number] == "waiting"
        assert self.core.cancel(self.tickets[number]) is waited
        if waited:
            self.states[number] = "cancelled"

    def drop(self, pool: str) -> None:
        for ticket in self.core.drop_pool(pool):
            self._move(ticket, "waiting", "dropped")
        self.retired |= {replica for replica, its_pool in self.members.items() if its_pool == pool}
        assert not any(home[0] == pool and self.states[number] == "waiting" for number, home in enumerate(self.homes))

    def plan(self) -> list[Batch]:
        plan = self.core.plan(self.now)
        for ticket in plan.expired:
            self._move(ticket, "waiting", "expired")
        for batch in plan.batches:
            self._check_batch(batch)
            self.flights[batch.number] = batch
        self._check_limits()
        waiting = [ticket for number, ticket in enumerate(self.tickets) if self.states[number] == "waiting"]
        assert self.now < plan.wake_at <= min([ticket.deadline for ticket in waiting], default=math.inf)
        self.wake_at = plan.wake_at
        return list(plan.batches)

    def land(self, number: int) -> None:
        batch = self.flights[number]
        if any(ticket.future in self.poison for ticket in batch.tickets):
            self.lose(batch.replica)
            return
        del self.flights[number]
        assert self.core.landed(number, self.now) is batch
        for ticket in batch.tickets:
            self._move(ticket, "in flight", "cancelled" if ticket.cancelled else "answered")

    def _check_batch(self, batch: Batch) -> None:
        pool, model, key = batch.pool, batch.model, batch.key
        mates = [other for other in self.flights.values() if other.replica == batch.replica]
        assert self.members[batch.replica] == pool
        assert batch.replica not in self.retired
        assert 0 < batch.rows == sum(ticket.rows for ticket in batch.tickets)
        assert len(mates) < SPECS[pool].in_flight
        assert not any(mate.is_suspect for mate in mates)
        assert not (batch.is_suspect and (mates or len(batch.tickets) > 1))
        for ticket in batch.tickets:
            assert isinstance(ticket.future, int)
            home_pool, home_model, home_key = self.homes[ticket.future]
            assert (home_pool, home_model.name, home_key) == (pool, model, key)
            assert batch.rows <= home_model.max_rows
            assert ticket.deadline > self.now
            assert not ticket.cancelled
            assert batch.is_suspect == (self.computed[ticket.future] > 0)
            self.computed[ticket.future] += 1
            assert self.computed[ticket.future] <= 2
            self._move(ticket, "waiting", "in flight")

    def _check_limits(self) -> None:
        on_device: Counter[str] = Counter()
        for batch in self.flights.values():
            on_device[SPECS[batch.pool].device] += 1
        assert on_device["gpu"] <= 2
        for replica in self.members:
            held = sum(batch.replica == replica for batch in self.flights.values())
            assert self.core.in_flight(replica) == held

    def check(self) -> None:
        """The core's account is the shell's, and every queue is bounded."""
        totals = Counter(
            (*self.homes[number][:1], self.homes[number][1].name)
            for number, state in self.states.items()
            if state == "waiting"
        )
        for pool in self.core.statistics().pools:
            assert pool.active <= SPECS[pool.name].replicas
            assert pool.standby == 0 or pool.active == SPECS[pool.name].replicas
            for model in pool.models:
                assert model.is_conserved
                assert model.waiting == totals[pool.name, model.name]
                limit = next(spec.max_queued_rows for spec in SPECS[pool.name].models if spec.name == model.name)
                assert sum(line.queue.rows for line in model.lines) <= limit

    def finish(self) -> None:
        """With a healthy replica everywhere, everything ends."""
        for pool in SPECS:
            self.join(pool)
        for _ in range(10 * len(self.tickets) + 10):
            self.plan()
            if self.flights:
                self.now += 0.001
                pool = self.members[self.flights[min(self.flights)].replica]
                self.land(min(self.flights))
                self.join(pool)
            elif self.wake_at < math.inf:
                self.now = self.wake_at
            else:
                break
        self.check()
        assert set(self.states.values()) <= {"answered", "expired", "cancelled", "quarantined", "dropped"}

    def _move(self, ticket: Ticket, before: State, after: State) -> None:
        assert isinstance(ticket.future, int)
        assert self.states[ticket.future] == before
        self.states[ticket.future] = after
