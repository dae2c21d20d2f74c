"""The decision modules in virtual time: closed loops reach the optimum, overload does not hurt."""

import random
from collections.abc import Callable

import pytest
from runtime_simulation import Simulation, accelerator, closed_loop, open_loop, poisson

from slipway_runtime.request import Limits

STACK_S = 40e-6
CAPACITY = 64 / accelerator(64)


def noisy(sigma: float, seed: int = 1) -> Callable[[int], float]:
    source = random.Random(seed)  # noqa: S311
    return lambda rows: accelerator(rows) * source.lognormvariate(0.0, sigma)


@pytest.mark.parametrize(
    ("clients", "max_rows", "optimum"), [(16, 64, 2210), (64, 64, 4585), (256, 64, 5614), (256, 256, 7189)]
)
def test_a_closed_loop_reaches_the_optimum(clients: int, max_rows: int, optimum: float) -> None:
    """The table of `docs/batching.md`: 5 ms + 0.1 ms a row, 40 us of HTTP a request."""
    simulation = Simulation(accelerator, Limits(max_rows=max_rows))
    simulation.warm()

    assert closed_loop(simulation, clients, STACK_S, 4.0) >= 0.95 * optimum


@pytest.mark.parametrize("clients", [16, 64])
def test_a_closed_loop_reaches_the_optimum_without_a_warm_up(clients: int) -> None:
    simulation = Simulation(accelerator, Limits(max_rows=64))

    rate = closed_loop(simulation, clients, STACK_S, 4.0)

    assert rate >= 0.95 * clients / (accelerator(clients) + clients * STACK_S)


def test_sending_at_once_is_what_it_is_measured_against() -> None:
    """The same loop without gathering splits its clients in two: the figures of the table's column "now"."""
    for clients, now in [(16, 1379), (64, 3902)]:
        simulation = Simulation(accelerator, Limits(max_rows=64), gather=False)
        simulation.warm()

        assert closed_loop(simulation, clients, STACK_S, 4.0) == pytest.approx(now, rel=0.02)


def test_one_client_is_never_delayed() -> None:
    simulation = Simulation(accelerator, Limits(max_rows=64))
    simulation.warm()

    closed_loop(simulation, 1, STACK_S, 2.0)

    assert max(simulation.outcome.waits) == 0.0
    assert set(simulation.outcome.batches) == {1}


def test_an_idle_service_adds_no_latency() -> None:
    """At a quarter of what one row at a time could carry, requests wait for the batch before them and nothing else."""
    simulation = Simulation(accelerator, Limits(max_rows=64))
    simulation.warm()

    open_loop(simulation, poisson(50.0, seed=3), 1.0, 20.0)

    waits = sorted(simulation.outcome.waits)
    assert waits[len(waits) // 2] == 0.0
    assert waits[-1] <= 2 * accelerator(4)


@pytest.mark.parametrize("timeout_s", [0.050, 0.250])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_goodput_at_three_times_the_capacity_is_that_of_the_peak(timeout_s: float, sigma: float) -> None:
    simulation = Simulation(noisy(sigma), Limits(max_rows=64), with_admission=True)
    simulation.warm()

    goodput = open_loop(simulation, poisson(3 * CAPACITY, seed=5), timeout_s, 3.0)

    assert goodput >= 0.95 * CAPACITY


def test_what_was_admitted_below_the_capacity_is_answered_in_time() -> None:
    simulation = Simulation(noisy(0.1), Limits(max_rows=64), with_admission=True)
    simulation.warm()

    open_loop(simulation, poisson(0.9 * CAPACITY, seed=5), 0.050, 4.0)

    outcome = simulation.outcome
    lost = outcome.late + outcome.expired + outcome.refused
    assert lost <= 0.001 * outcome.in_time


def test_an_overload_that_ends_leaves_no_trace() -> None:
    """Ten times the capacity for a second, then half: everything of the second half is answered in time."""
    simulation = Simulation(accelerator, Limits(max_rows=64), with_admission=True)
    simulation.warm()
    burst, calm = poisson(10 * CAPACITY, seed=5), poisson(0.5 * CAPACITY, seed=6)
    times = sorted([next(burst) for _ in range(int(10 * CAPACITY))] + [2.0 + next(calm) for _ in range(5000)])

    open_loop(simulation, iter([*times, 1e9]), 0.050, 3.5)
    before = simulation.outcome.refused

    assert simulation.outcome.goodput(2.1, 3.4) == pytest.approx(0.5 * CAPACITY, rel=0.05)
    assert simulation.outcome.refused == before
    assert simulation.outcome.expired == 0
