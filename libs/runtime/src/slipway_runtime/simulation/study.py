"""A simulated run as figures a person or a program can read: what came of it, and how far it is from the best.

Pure; it draws nothing (`plot`). The invariant: the figures are those of one run that repeats exactly from its inputs.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from slipway_runtime.simulation.costs import Cost
from slipway_runtime.simulation.optimum import best_rate, most_in_time, upper_bound
from slipway_runtime.simulation.plot import histogram
from slipway_runtime.simulation.run import Outcome, Setup, simulate
from slipway_runtime.simulation.traces import Arrival

__all__ = ["Study", "study", "study_of"]

EXACT_ARRIVALS: Final = 300
"""The exact optimum takes a few seconds for so many."""


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one run. Counts are requests."""

    replicas: int
    max_rows: int
    deadline_ms: float
    offered: int
    offered_per_s: float
    in_time: int
    late: int
    expired: int
    refused: int
    goodput_per_s: float
    """Answers in time a second."""
    capacity_per_s: float
    """The most rows a second that the replicas could compute in full batches."""
    best_in_time: int
    """What a scheduler that knows the future could answer in time: exactly, or at most."""
    is_best_exact: bool
    of_best: float
    """`in_time` over `best_in_time`."""
    p50_ms: float | None
    p99_ms: float | None
    utilisation: float
    """Share of the replicas' time that was spent computing."""
    batches: dict[str, int]
    """Rows of a batch, in powers of two → how many."""


def study(arrivals: Sequence[Arrival], cost: Cost, setup: Setup) -> tuple[Study, Outcome]:
    """Simulate, and compare with the best that could have been done."""
    outcome = simulate(arrivals, cost, setup)
    return study_of(outcome, arrivals, cost, setup), outcome


def study_of(outcome: Outcome, arrivals: Sequence[Arrival], cost: Cost, setup: Setup) -> Study:
    """The figures of a run that was made with these arguments."""
    is_exact = (
        len(arrivals) <= EXACT_ARRIVALS
        and setup.replicas == 1
        and not setup.overhead_s
        and all(arrival.rows == 1 for arrival in arrivals)
    )
    if is_exact:
        best = most_in_time(arrivals, cost, deadline_s=setup.deadline_s, max_rows=setup.max_rows)
    else:
        best = upper_bound(
            arrivals, cost, deadline_s=setup.deadline_s, max_rows=setup.max_rows, replicas=setup.replicas
        )
    seconds = max(outcome.seconds, *outcome.answered_at[-1:], 1e-9)
    return Study(
        replicas=setup.replicas,
        max_rows=setup.max_rows,
        deadline_ms=setup.deadline_s * 1e3,
        offered=outcome.offered,
        offered_per_s=outcome.offered / max(outcome.seconds, 1e-9),
        in_time=outcome.in_time,
        late=outcome.late,
        expired=outcome.expired,
        refused=outcome.refused,
        goodput_per_s=outcome.goodput,
        capacity_per_s=best_rate(cost, setup.max_rows) * setup.replicas,
        best_in_time=best,
        is_best_exact=is_exact,
        of_best=outcome.in_time / best if best else 1.0,
        p50_ms=outcome.quantile_s(0.5) * 1e3 if outcome.latencies_s else None,
        p99_ms=outcome.quantile_s(0.99) * 1e3 if outcome.latencies_s else None,
        utilisation=outcome.busy_s / (seconds * setup.replicas),
        batches=dict(histogram(outcome)),
    )
