"""One simulated run: arrivals through the dispatcher's own decisions, in virtual time.

Nothing is decided here: what is admitted, when a batch leaves, how large it is and what is shed is asked of
`slipway_runtime.dispatch`, the code that serves. The invariants: no clock and no randomness beside the seed, so a run
repeats exactly; every arrival ends in exactly one of in time, late, expired, refused.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from slipway_runtime.dispatch import Batch, Dispatcher, ModelSpec, PoolSpec
from slipway_runtime.request import Ticket
from slipway_runtime.simulation.costs import Cost
from slipway_runtime.simulation.traces import Arrival

__all__ = ["Outcome", "Setup", "simulate"]

_POOL, _MODEL = "simulated", "simulated"
_WARM = 3


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The pool that is simulated."""

    replicas: int = 1
    max_rows: int = 64
    queue_rows: int = 4_096
    gather_s: float = 0.002
    in_flight: int = 1
    deadline_s: float = 0.3
    """From each arrival to its deadline."""
    overhead_s: float = 0.0
    """What a batch takes beside its computation: frames, wake-ups."""
    seed: int = 0
    """Of the noise of the costs."""


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a run. Counts are requests, except where a name says rows or batches."""

    offered: int = 0
    in_time: int = 0
    late: int = 0
    """Answered after their deadline."""
    expired: int = 0
    refused: int = 0
    seconds: float = 0.0
    """Of the trace; answers may come after it."""
    busy_s: float = 0.0
    """Of all replicas together."""
    latencies_s: list[float] = []
    """Of those answered, in order of their answers."""
    answered_at: list[float] = []
    batches: Counter[int] = msgspec.field(default_factory=Counter)
    """Rows of a batch → how many."""

    @property
    def goodput(self) -> float:
        """Answers in time a second."""
        return self.in_time / self.seconds if self.seconds else 0.0

    def quantile_s(self, share: float) -> float:
        """Latency of those answered; nan when nobody was."""
        if not self.latencies_s:
            return math.nan
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def simulate(arrivals: Sequence[Arrival], cost: Cost, setup: Setup) -> Outcome:
    """Run a trace, in order of time, through a pool; a million arrivals take about half a minute."""
    return _Run(cost, setup).through(arrivals)


class _Run:
    """The state of one run."""

    def __init__(self, cost: Cost, setup: Setup) -> None:
        self._cost = cost
        self._setup = setup
        self._generator = random.Random(setup.seed)  # noqa: S311  # a simulation, repeatable on purpose
        self._core = Dispatcher()
        model = ModelSpec(
            name=_MODEL, max_rows=setup.max_rows, max_queued_rows=setup.queue_rows, gather_s=setup.gather_s
        )
        self._core.add_pool(
            PoolSpec(
                name=_POOL,
                models=(model,),
                replicas=setup.replicas,
                in_flight=setup.in_flight,
                hang_s=math.inf,
            )
        )
        sizes = {min(1 << power, setup.max_rows) for power in range(setup.max_rows.bit_length() + 1)}
        warm = [(size, cost.mean_s(size) + setup.overhead_s) for size in sorted(sizes) for _ in range(_WARM)]
        self._core.teach(_POOL, _MODEL, b"", warm)
        for replica in range(setup.replicas):
            self._core.join(replica, _POOL, 0.0)
        self._landings: list[tuple[float, int, float]] = []
        self._free_at = [0.0] * setup.replicas
        self._outcome = Outcome()

    def through(self, arrivals: Sequence[Arrival]) -> Outcome:
        """Until every arrival has ended."""
        outcome = self._outcome
        outcome.offered = len(arrivals)
        outcome.seconds = arrivals[-1].at if arrivals else 0.0
        wake_at, place = math.inf, 0
        while place < len(arrivals) or self._landings or wake_at < math.inf:
            next_at = arrivals[place].at if place < len(arrivals) else math.inf
            landing_at = self._landings[0][0] if self._landings else math.inf
            now = min(next_at, landing_at, wake_at)
            if landing_at <= now:
                self._land(now)
            elif next_at <= now:
                place = self._arrive(arrivals, place, now)
            wake_at = self._plan(now)
        return outcome

    def _arrive(self, arrivals: Sequence[Arrival], place: int, now: float) -> int:
        """Everybody who arrives now: like requests that one turn of a loop has read."""
        while place < len(arrivals) and arrivals[place].at <= now:
            arrival = arrivals[place]
            ticket = Ticket(b"", arrival.rows, arrival.at + self._setup.deadline_s, arrival.at)
            if self._core.offer(_POOL, _MODEL, b"", ticket, now) is not None:
                self._outcome.refused += 1
            place += 1
        return place

    def _plan(self, now: float) -> float:
        plan = self._core.plan(now)
        self._outcome.expired += len(plan.expired)
        for batch in plan.batches:
            self._send(batch, now)
        return max(plan.wake_at, math.nextafter(now, math.inf)) if plan.wake_at < math.inf else math.inf

    def _send(self, batch: Batch, now: float) -> None:
        compute_s = self._cost.draw_s(batch.rows, self._generator)
        starts = max(now, self._free_at[batch.replica])
        lands = starts + compute_s + self._setup.overhead_s
        self._free_at[batch.replica] = lands
        self._outcome.busy_s += compute_s
        self._outcome.batches[batch.rows] += 1
        heapq.heappush(self._landings, (lands, batch.number, now))

    def _land(self, now: float) -> None:
        _, number, _ = heapq.heappop(self._landings)
        batch = self._core.landed(number, now)
        if batch is None:
            raise RuntimeError("this is a bug in slipway: the core does not know a batch that it sent")
        for ticket in batch.tickets:
            self._outcome.latencies_s.append(now - ticket.arrived)
            self._outcome.answered_at.append(now)
            if now <= ticket.deadline:
                self._outcome.in_time += 1
            else:
                self._outcome.late += 1
