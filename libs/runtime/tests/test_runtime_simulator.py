"""The simulator: how near the runtime's own decisions come to a scheduler that knows the future."""

import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_runtime.simulation import (
    Arrival,
    LinearCost,
    MeasuredCost,
    Setup,
    bursts,
    choose,
    decode_trace,
    diurnal,
    draw,
    most_in_time,
    parse_cost,
    poisson,
    simulate,
    study,
    upper_bound,
)
from slipway_runtime.simulation.costs import CostError
from slipway_runtime.simulation.sizing import SizingError
from slipway_runtime.simulation.traces import TraceError

ACCELERATOR = LinearCost(0.005, 0.0001)
FULL_S = ACCELERATOR.mean_s(64)


def brute_force(times: list[float], cost: LinearCost, deadline_s: float, max_rows: int) -> int:
    """The most in time over every choice of requests and every cut of them into batches, in order of arrival."""
    best = 0
    for size in range(len(times), 0, -1):
        for chosen in itertools.combinations(times, size):
            if size > best and any(fits(chosen, cuts, cost, deadline_s, max_rows) for cuts in range(1 << (size - 1))):
                best = size
    return best


def fits(chosen: tuple[float, ...], cuts: int, cost: LinearCost, deadline_s: float, max_rows: int) -> bool:
    now, start = 0.0, 0
    for place in range(len(chosen)):
        if place + 1 < len(chosen) and not cuts >> place & 1:
            continue
        batch = chosen[start : place + 1]
        now = max(now, batch[-1]) + cost.mean_s(len(batch))
        if len(batch) > max_rows or now > batch[0] + deadline_s + 1e-12:
            return False
        start = place + 1
    return True


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 0.05), min_size=1, max_size=7),
    st.floats(0.004, 0.03),
    st.integers(1, 4),
    st.floats(0.0, 0.004),
)
def test_the_exact_optimum_is_that_of_trying_everything(
    gaps: list[float], deadline_s: float, max_rows: int, row_s: float
) -> None:
    times = list(itertools.accumulate(gaps))
    cost = LinearCost(0.003, row_s)

    found = most_in_time([Arrival(at) for at in times], cost, deadline_s=deadline_s, max_rows=max_rows)

    assert found == brute_force(times, cost, deadline_s, max_rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([500.0, 3_000.0, 9_000.0]), st.floats(0.006, 0.06))
def test_nothing_beats_the_exact_optimum_and_nothing_the_bound(seed: int, rate: float, deadline_s: float) -> None:
    arrivals = poisson(rate, 120 / rate, seed)
    setup = Setup(deadline_s=deadline_s, max_rows=32)
    if not arrivals:
        return

    exact = most_in_time(arrivals, ACCELERATOR, deadline_s=deadline_s, max_rows=32)
    bound = upper_bound(arrivals, ACCELERATOR, deadline_s=deadline_s, max_rows=32, replicas=1)
    outcome = simulate(arrivals, ACCELERATOR, setup)

    assert outcome.in_time <= exact <= bound
    assert outcome.in_time + outcome.late + outcome.expired + outcome.refused == len(arrivals)


@pytest.mark.parametrize("rate", [300.0, 1_000.0, 3_000.0, 5_000.0, 8_000.0])
@pytest.mark.parametrize("deadline_s", [2.5 * FULL_S, 0.05, 0.3])
def test_goodput_on_poisson_is_95_percent_of_the_optimum(rate: float, deadline_s: float) -> None:
    arrivals = poisson(rate, 20_000 / rate, seed=7)

    figures, _ = study(arrivals, ACCELERATOR, Setup(deadline_s=deadline_s))

    assert figures.of_best >= 0.95, figures


@pytest.mark.parametrize("rate", [300.0, 1_000.0, 3_000.0, 5_000.0])
@pytest.mark.parametrize("deadline_s", [2.5 * FULL_S, 0.05, 0.3])
def test_goodput_on_bursts_is_90_percent_of_the_optimum(rate: float, deadline_s: float) -> None:
    arrivals = bursts(rate, 20_000 / rate, seed=7)

    figures, _ = study(arrivals, ACCELERATOR, Setup(deadline_s=deadline_s))

    assert figures.of_best >= 0.90, figures


@pytest.mark.parametrize("seed", range(5))
def test_goodput_is_near_the_exact_optimum_on_short_traces(seed: int) -> None:
    setup = Setup(deadline_s=2 * FULL_S)

    calm, _ = study(poisson(4_000, 0.07, seed)[:290], ACCELERATOR, setup)
    wild, _ = study(bursts(3_000, 0.08, seed, burst_s=0.02, pause_s=0.04)[:290], ACCELERATOR, setup)

    assert calm.is_best_exact
    assert wild.is_best_exact
    assert calm.of_best >= 0.95, calm
    assert wild.of_best >= 0.90, wild


def test_three_times_the_capacity_keeps_the_goodput_of_the_peak() -> None:
    slow = LinearCost(0.020, 0.0004)  # at most 1,404 rows a second
    peak, _ = study(poisson(1_350, 10, 1), slow, Setup(deadline_s=0.3))

    flood, _ = study(poisson(3 * 1_404, 10, 1), slow, Setup(deadline_s=0.3))

    assert flood.goodput_per_s >= 0.95 * peak.goodput_per_s
    assert flood.late + flood.expired <= 0.01 * flood.offered, "what cannot be in time is refused at the door"


def test_two_replicas_do_twice_as_much() -> None:
    arrivals = poisson(20_000, 2, 3)

    one, _ = study(arrivals, ACCELERATOR, Setup(deadline_s=0.05))
    two, _ = study(arrivals, ACCELERATOR, Setup(deadline_s=0.05, replicas=2))

    assert 1.9 <= two.in_time / one.in_time <= 2.1


def test_a_run_repeats_exactly() -> None:
    setup = Setup(deadline_s=0.05, seed=11)
    noisy = LinearCost(0.005, 0.0001, noise=0.2)

    first, second = (study(bursts(2_000, 2, 5), noisy, setup)[0] for _ in range(2))

    assert first == second
    assert first != study(bursts(2_000, 2, 6), noisy, setup)[0]


def test_the_smallest_pool_that_keeps_its_promise() -> None:
    arrivals = poisson(12_000, 2, 1)
    setup = Setup(max_rows=64)

    choice = choose(arrivals, ACCELERATOR, setup, within_s=0.05)

    assert choice.replicas == 3  # two compute 11,228 rows a second at most
    assert choice.kept >= 0.99
    fewer = simulate(arrivals, ACCELERATOR, Setup(replicas=2, max_rows=64, deadline_s=0.05))
    assert fewer.in_time < 0.99 * len(arrivals)


def test_a_promise_that_one_row_breaks_is_refused() -> None:
    with pytest.raises(SizingError, match=r"one row alone takes 5\.1 ms, expected at most 3\.0 ms"):
        choose(poisson(100, 1, 1), ACCELERATOR, Setup(), within_s=0.003)


def test_traces_have_the_rate_that_was_asked_for() -> None:
    for made in (poisson(500, 200, 1), bursts(500, 200, 1), diurnal(500, 200, 1)):
        assert len(made) == pytest.approx(100_000, rel=0.08)
        assert all(a.at <= b.at for a, b in itertools.pairwise(made))
    day = diurnal(500, 200, 1)
    night, noon = (sum(start <= arrival.at < start + 20 for arrival in day) for start in (0, 90))
    assert noon > 4 * night


def test_a_recorded_trace_is_read_and_a_bad_line_is_named() -> None:
    lines = ["seconds,rows", "# a comment", "10.5", "10.25,3", ""]

    assert decode_trace(lines) == [Arrival(0.0, 3), Arrival(0.25, 1)]
    for bad in ("nonsense", "1.0,0", "inf", "1.0,x"):
        with pytest.raises(TraceError, match="line 2 of the trace"):
            decode_trace(["1.0", bad])
    with pytest.raises(TraceError, match="no arrival"):
        decode_trace(["", "# nothing"])


@pytest.mark.parametrize("text", ["", "five", "5+", "1:5,1:6", "0:5", "5+0.1+3"])
def test_a_cost_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CostError, match="cost is"):
        parse_cost(text)


def test_costs_are_read_in_milliseconds() -> None:
    assert parse_cost("5+0.1").mean_s(10) == pytest.approx(0.006)
    measured = parse_cost("64:11.4, 1:5.1")
    assert isinstance(measured, MeasuredCost)
    assert [measured.mean_s(rows) for rows in (1, 64)] == pytest.approx([0.0051, 0.0114])
    assert measured.mean_s(32) == pytest.approx(0.0051 + 0.0063 * 31 / 63)


def test_a_drawn_run_is_an_svg_that_says_what_it_shows() -> None:
    arrivals = poisson(1_000, 1, 1)
    _, outcome = study(arrivals, ACCELERATOR, Setup(deadline_s=0.05))

    page = ET.fromstring(  # noqa: S314  # ours
        draw("a <run>", arrivals, outcome)
    )

    assert page.attrib["aria-label"] == f"a <run>: {outcome.in_time} of {outcome.offered} in time"
    lines = [line.attrib["points"] for line in page.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 3
    assert all(math.isfinite(float(number)) for line in lines for pair in line.split() for number in pair.split(","))
