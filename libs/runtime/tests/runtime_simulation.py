"""A small discrete-event loop over the decision modules, in virtual time: one replica, closed or open arrivals.

It holds no decision of its own: when a batch leaves and what is refused is asked of the modules under test.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from slipway_runtime.admission import Admission
from slipway_runtime.arrivals import ArrivalPredictor
from slipway_runtime.batching import Send, decide, shed_late
from slipway_runtime.latency import CostTable
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Limits, Ticket

Cost = Callable[[int], float]


def accelerator(rows: int) -> float:
    """5 ms + 0.1 ms a row: the model of the table in `docs/batching.md`."""
    return 0.005 + 0.0001 * rows


@dataclass
class Outcome:
    """What came of a simulated run."""

    in_time: int = 0
    late: int = 0
    expired: int = 0
    refused: int = 0
    answered_at: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    retry_errors: list[float] = field(default_factory=list)

    def goodput(self, start: float, end: float) -> float:
        """Answers in time per second between two times."""
        return sum(start <= at < end for at in self.answered_at) / (end - start)


class Simulation:
    """One pool with one replica in virtual time."""

    def __init__(self, cost: Cost, limits: Limits, *, with_admission: bool = False, gather: bool = True) -> None:
        self.cost = cost
        self.limits = limits if gather else Limits(max_rows=limits.max_rows, gather_s=0.0)
        self.queue = TicketQueue(limits.max_queued_rows)
        self.costs = CostTable(limits.max_rows)
        self.arrivals = ArrivalPredictor(limits.gather_s)
        self.admission = Admission(self.queue, self.costs, limits) if with_admission else None
        self.flight: list[Ticket] = []
        self.outcome = Outcome()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._next_turn = float("inf")
        self.on_answer: Callable[[Ticket], None] = lambda ticket: None

    def at(self, time: float, event: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, event))

    def run(self, until: float) -> Outcome:
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self.outcome

    def warm(self) -> None:
        """Seed the cost table as a pool's warm-up does."""
        for size in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            for _ in range(3):
                if size <= self.limits.max_rows:
                    self.costs.learn(size, self.cost(size))
        if self.admission is not None:
            self.admission.believe(self.costs)

    def submit(self, timeout_s: float) -> None:
        now, deadline = self.now, self.now + timeout_s
        if self.admission is not None and self.admission.judge(1, deadline, now) is not None:
            self.outcome.refused += 1
            return
        self.queue.push(Ticket(b"", 1, deadline, now))
        self.arrivals.arrived(now, self.queue.tickets)
        self.turn()

    def turn(self) -> None:
        if self.flight:
            return
        self.outcome.expired += len(self.queue.expire(self.now))
        self.outcome.expired += len(shed_late(self.queue, self.costs, self.limits, self.now))
        decision = decide(self.queue, self.costs, self.arrivals, self.limits, self.now)
        if isinstance(decision, Send):
            self._send(decision.rows)
        elif self.queue.tickets and decision.until < self._next_turn:
            self._next_turn = decision.until
            self.at(decision.until, self._wake)

    def _wake(self) -> None:
        self._next_turn = float("inf")
        self.turn()

    def _send(self, rows: int) -> None:
        self.flight = self.queue.take(rows)
        size = sum(ticket.rows for ticket in self.flight)
        assert 0 < size <= self.limits.max_rows
        self.outcome.batches.append(size)
        self.outcome.waits += [self.now - ticket.arrived for ticket in self.flight]
        self.arrivals.sent(self.queue.tickets, len(self.flight))
        if self.admission is not None:
            self.admission.sent(size, self.now)
        seconds = self.cost(size)
        self.at(self.now + seconds, lambda: self._land(size, seconds))

    def _land(self, size: int, seconds: float) -> None:
        tickets, self.flight = self.flight, []
        self.costs.learn(size, seconds)
        self.arrivals.answered(self.now, len(tickets))
        if self.admission is not None:
            self.admission.answered()
            self.admission.believe(self.costs)
        for ticket in tickets:
            if ticket.deadline >= self.now:
                self.outcome.in_time += 1
                self.outcome.answered_at.append(self.now)
            else:
                self.outcome.late += 1
            self.on_answer(ticket)
        self.turn()


def closed_loop(simulation: Simulation, clients: int, stack_s: float, seconds: float) -> float:
    """Answers per second of `clients` that ask again at once, through a serial HTTP stack; the first second aside."""
    stack_free = [0.0]

    def come_back(_: Ticket | None) -> None:
        stack_free[0] = max(stack_free[0], simulation.now) + stack_s
        simulation.at(stack_free[0], lambda: simulation.submit(60.0))

    simulation.on_answer = come_back
    for _ in range(clients):
        come_back(None)
    return simulation.run(seconds).goodput(1.0, seconds)


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Times of arrival."""
    source = random.Random(seed)  # noqa: S311 - arrivals of a simulation, not a secret
    now = 0.0
    while True:
        now += source.expovariate(rate)
        yield now


def open_loop(simulation: Simulation, times: Iterator[float], timeout_s: float, seconds: float) -> float:
    """Answers in time per second of arrivals that do not wait for each other; the first second aside."""

    def come() -> None:
        simulation.at(next(times), come)
        simulation.submit(timeout_s)

    simulation.at(next(times), come)
    return simulation.run(seconds).goodput(1.0, seconds)
