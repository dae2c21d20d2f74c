"""A discrete-event loop around the dispatcher's core, in virtual time: replicas that compute, clients that ask, deaths.

It holds no decision of its own. A replica computes its batches one after the other, in the order it got them; a batch
with a poisonous ticket kills its replica half-way.
"""

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from slipway_runtime.admission import Refusal
from slipway_runtime.dispatch import Batch, Dispatcher, Loss, Plan, PoolSpec
from slipway_runtime.request import Ticket

T = TypeVar("T")
Cost = Callable[[int], float]
POISON = b"poison"


class Replicas:
    """What runs beside the dispatcher, and what came of every ticket.

    `ended` says for every ticket how it ended; `batches` holds every batch in the order they left; `device_s` the
    seconds of computing by pool and model.
    """

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()
        self.now = 0.0
        self.costs: dict[tuple[str, str], Cost] = {}
        self.batches: list[Batch] = []
        self.losses: list[Loss] = []
        self.ended: dict[int, str] = {}
        self.waited: dict[str, list[float]] = defaultdict(list)
        self.answered_at: dict[str, list[float]] = defaultdict(list)
        self.device_s: dict[tuple[str, str], float] = defaultdict(float)
        self.on_answer: Callable[[str, str, Ticket], None] = lambda pool, model, ticket: None
        self.restart_s = math.inf
        self._tickets: list[Ticket] = []
        self._pools: dict[int, str] = {}
        self._free_at: dict[int, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._wakes: set[float] = set()

    def pool(self, spec: PoolSpec, *costs: Cost, replicas: int = 1, is_warm: bool = True) -> None:
        """A pool whose models cost so much, with so many replicas that have joined."""
        self.dispatcher.add_pool(spec)
        for model, cost in zip(spec.models, costs, strict=True):
            self.costs[spec.name, model.name] = cost
            if is_warm:
                sizes = [1 << power for power in range(10) if 1 << power <= model.max_rows]
                self.dispatcher.teach(spec.name, model.name, b"", [(size, cost(size)) for size in sizes for _ in "123"])
        for _ in range(replicas):
            self.join(spec.name)

    def join(self, pool: str) -> int:
        """One more replica."""
        number = len(self._pools) + 1
        self._pools[number] = pool
        self._free_at[number] = self.now
        self.dispatcher.join(number, pool, self.now)
        self.plan()
        return number

    def lose(self, number: int) -> Loss:
        """A replica dies."""
        loss = self.dispatcher.lose(number, self.now)
        self.losses.append(loss)
        for ticket in loss.quarantined:
            self._end(ticket, "quarantined")
        for ticket in loss.expired:
            self._end(ticket, "expired")
        if self.restart_s < math.inf:
            self.at(self.now + self.restart_s, partial(self._do, self.join, self._pools[number]))
        self.plan()
        return loss

    def submit(
        self, pool: str, model: str, timeout_s: float, *, payload: bytes = b"", rows: int = 1, key: bytes = b""
    ) -> Ticket | Refusal:
        """One request, now."""
        ticket = Ticket(payload, rows, self.now + timeout_s, self.now, len(self._tickets))
        refusal = self.dispatcher.offer(pool, model, key, ticket, self.now)
        if refusal is not None:
            return refusal
        self._tickets.append(ticket)
        self.plan()
        return ticket

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Something happens then."""
        self._count += 1
        heapq.heappush(self._events, (time, self._count, event))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def plan(self) -> Plan:
        """Do what the dispatcher says."""
        plan = self.dispatcher.plan(self.now)
        for ticket in plan.expired:
            self._end(ticket, "expired")
        for batch in plan.batches:
            self._compute(batch)
        assert plan.wake_at > self.now
        if plan.wake_at < math.inf and plan.wake_at not in self._wakes:
            self._wakes.add(plan.wake_at)
            self.at(plan.wake_at, self._wake)
        return plan

    @staticmethod
    def _do(event: Callable[[T], object], what: T) -> None:
        event(what)

    def _wake(self) -> None:
        self._wakes.discard(self.now)
        self.plan()

    def _compute(self, batch: Batch) -> None:
        self.batches.append(batch)
        for ticket in batch.tickets:
            self.waited[batch.model].append(self.now - ticket.arrived)
        seconds = self.costs[batch.pool, batch.model](batch.rows)
        began = max(self.now, self._free_at[batch.replica])
        self._free_at[batch.replica] = began + seconds
        if any(ticket.payload == POISON for ticket in batch.tickets):
            self.at(began + seconds / 2, partial(self._do, self.lose, batch.replica))
        else:
            self.at(began + seconds, lambda: self._land(batch, seconds))

    def _land(self, batch: Batch, seconds: float) -> None:
        if self.dispatcher.landed(batch.number, self.now) is None:
            return
        self.device_s[batch.pool, batch.model] += seconds
        for ticket in batch.tickets:
            if ticket.cancelled:
                continue
            self._end(ticket, "answered" if self.now <= ticket.deadline else "late")
            self.answered_at[batch.model].append(self.now)
            self.on_answer(batch.pool, batch.model, ticket)
        self.plan()

    def _end(self, ticket: Ticket, how: str) -> None:
        number = ticket.future
        assert isinstance(number, int)
        assert number not in self.ended
        self.ended[number] = how

    def how(self, tickets: Sequence[Ticket | Refusal]) -> list[str]:
        """How these ended: answered, late, expired, quarantined, refused or open."""
        return [
            "refused" if isinstance(ticket, Refusal) else self.ended.get(self._tickets.index(ticket), "open")
            for ticket in tickets
        ]

    def rate(self, model: str, start: float, end: float) -> float:
        """Answers per second between two times."""
        return sum(start <= at < end for at in self.answered_at[model]) / (end - start)


def closed_loop(replicas: Replicas, pool: str, model: str, clients: int, *, stack_s: float = 40e-6) -> None:
    """Clients that ask again after each answer, through a serial HTTP stack. The clients of one model only."""
    stack_free = [0.0]

    def ask() -> None:
        replicas.submit(pool, model, 60.0)

    def come_back() -> None:
        stack_free[0] = max(stack_free[0], replicas.now) + stack_s
        replicas.at(stack_free[0], ask)

    before = replicas.on_answer

    def answered(its_pool: str, its_model: str, ticket: Ticket) -> None:
        before(its_pool, its_model, ticket)
        if (its_pool, its_model) == (pool, model):
            come_back()

    replicas.on_answer = answered
    for _ in range(clients):
        come_back()


def open_loop(replicas: Replicas, pool: str, model: str, rate: float, timeout_s: float, *, seed: int = 1) -> None:
    """Arrivals that do not wait for each other, for ever."""
    source = random.Random(seed)  # noqa: S311 - arrivals of a simulation, not a secret

    def come() -> None:
        replicas.at(replicas.now + source.expovariate(rate), come)
        replicas.submit(pool, model, timeout_s)

    replicas.at(replicas.now, come)
