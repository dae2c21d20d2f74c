"""Ratios of quantiles: exact on every distribution that can be written down, symmetric, and not too slow."""

from itertools import pairwise, product

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats as oracle

from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.power import spread_at
from slipway_signals.gate.quantiles import QuantileComparison, _Arm

VALUES = (100, 105, 110, 121)


def histogram(counts: tuple[int, ...]) -> Histogram:
    kept = [(value, count) for value, count in zip(VALUES, counts, strict=True) if count]
    return Histogram(values=[value for value, _ in kept], counts=[count for _, count in kept])


def samples(n: int) -> list[tuple[int, ...]]:
    return [counts for counts in product(range(n + 1), repeat=len(VALUES)) if sum(counts) == n]


def quantile_of(shares: tuple[float, ...], q: float) -> int:
    return VALUES[int(np.searchsorted(np.cumsum(shares), q - 1e-12))]


def lognormal(draw: np.random.Generator, n: int, times: float = 1.0) -> Histogram:
    return Histogram.of(10_000 * times * np.exp(0.5 * draw.normal(size=n)))


@pytest.mark.parametrize("q", [0.5, 0.8])
def test_evidence_is_at_most_one_on_average_wherever_the_candidate_is_slower_by_the_margin(q: float) -> None:
    """All samples of 5 and 4 requests of four latencies, with their probabilities: no simulation."""
    comparison = QuantileComparison(q, 1.1, 0.05, spread=0.1)  # large bets, so that a wrong sign shows
    ours, theirs = samples(5), samples(4)
    evidence = np.empty((len(ours), len(theirs)))
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            against = comparison._evidence(_Arm(histogram(a)), _Arm(histogram(b)), comparison._bets, 1.0)
            evidence[i, j] = np.exp(against(1.1))
    checked = 0
    for stable, candidate in product([(0.5, 0.3, 0.2, 0.0), (0.2, 0.6, 0.15, 0.05), (0.8, 0.2, 0.0, 0.0)], [
        (0.0, 0.2, 0.8, 0.0), (0.4, 0.1, 0.4, 0.1), (0.5, 0.0, 0.0, 0.5), (0.1, 0.1, 0.0, 0.8), (0.45, 0.04, 0.31, 0.2)
    ]):  # fmt: skip
        if quantile_of(candidate, q) < 1.1 * quantile_of(stable, q):
            continue

        expected = oracle.multinomial.pmf(ours, 5, stable) @ evidence @ oracle.multinomial.pmf(theirs, 4, candidate)

        assert expected <= 1.0 + 1e-9, (stable, candidate)
        checked += 1
    assert checked >= 3


def test_equal_arms_are_shown_and_slower_ones_caught_by_what_the_preflight_would_say() -> None:
    draw = np.random.default_rng(11)
    shown = caught = 0
    for _ in range(10):
        equal, slower = QuantileComparison(0.95, 1.1, 0.05), QuantileComparison(0.95, 1.1, 0.05)
        stable, candidate, slow = Histogram(), Histogram(), Histogram()
        for _ in range(22):
            stable.merge(lognormal(draw, 250))
            candidate.merge(lognormal(draw, 250))
            slow.merge(lognormal(draw, 250, 1.15))
            passing, failing = equal.look(stable, candidate), slower.look(stable, slow)
        shown += passing.p_inferior <= 0.05 and passing.upper <= 1.1 + 1e-9
        caught += failing.p_worse <= 0.05 and failing.lower >= 1.0
        assert passing.p_worse > 0.05
        assert failing.p_inferior > 0.05
    assert shown >= 7
    assert caught >= 9


def test_bounds_never_move_back_and_hold_the_true_ratio() -> None:
    draw = np.random.default_rng(5)
    comparison, stable, candidate = QuantileComparison(0.5, 1.1, 0.05), Histogram(), Histogram()
    found = []
    for _ in range(30):
        stable.merge(lognormal(draw, 100))
        candidate.merge(lognormal(draw, 100, 1.2))
        found.append(comparison.look(stable, candidate))

    for before, after in pairwise(found):
        assert before.lower <= after.lower <= 1.2 <= after.upper <= before.upper
        assert after.p_worse <= before.p_worse
        assert after.p_inferior <= before.p_inferior
    assert found[-1].lower >= 1.09
    assert found[-1].estimate == pytest.approx(1.2, rel=0.05)


def test_exchanged_arms_give_the_inverse_bounds() -> None:
    draw = np.random.default_rng(3)
    stable, candidate = lognormal(draw, 2_000), lognormal(draw, 2_000, 1.2)

    one = QuantileComparison(0.95, 1.1, 0.05).look(stable, candidate)
    other = QuantileComparison(0.95, 1.1, 0.05).look(candidate, stable)

    assert one.lower == pytest.approx(1.0 / other.upper)
    assert one.upper == pytest.approx(1.0 / other.lower)


def test_only_the_ratio_matters_not_the_unit() -> None:
    draw = np.random.default_rng(4)
    values = [10_000 * np.exp(0.5 * draw.normal(size=1_500)) for _ in range(2)]

    seen = [
        QuantileComparison(0.95, 1.1, 0.05).look(*(Histogram.of(one.astype(int) * times) for one in values))
        for times in (8, 1_024)
    ]

    assert seen[0].estimate == pytest.approx(seen[1].estimate, rel=1e-6)
    assert replace(seen[0], estimate=1.0) == replace(seen[1], estimate=1.0)


def test_without_an_arm_nothing_is_known() -> None:
    some = lognormal(np.random.default_rng(1), 100)
    for arms in ((Histogram(), Histogram()), (some, Histogram()), (Histogram(), some)):
        found = QuantileComparison(0.95, 1.1, 0.05).look(*arms)

        assert (found.p_worse, found.p_inferior, found.estimate) == (1.0, 1.0, 1.0)
        assert found.lower < 0.02
        assert found.upper > 50.0


def test_one_latency_for_all_is_no_difference() -> None:
    """Atoms: a cache that answers everything in 200 µs has no density at its quantiles."""
    comparison = QuantileComparison(0.95, 1.1, 0.05)

    for look in range(1, 11):
        found = comparison.look(Histogram.of([200] * 200 * look), Histogram.of([200] * 200 * look))

    assert found.p_worse == 1.0
    assert found.p_inferior < 0.05
    assert found.lower <= 1.0 <= found.upper < 1.1


def test_a_bad_beginning_of_one_arm_is_no_difference() -> None:
    """Two servers of one bundle, on a machine where somebody else worked for three seconds: seen 9 times in 23 runs."""
    draw = np.random.default_rng(4)
    comparison, stable, candidate = QuantileComparison(0.5, 1.1, 0.05), Histogram(), Histogram()
    worst = 1.0

    for second in range(40):
        stable.merge(lognormal(draw, 400))
        candidate.merge(lognormal(draw, 400, 1.3 if second < 3 else 1.0))
        found = comparison.look(stable, candidate)
        worst = min(worst, found.p_worse)

    assert worst > 0.05


def test_requests_that_come_in_bursts_count_less() -> None:
    draw = np.random.default_rng(9)
    comparison, stable, candidate = QuantileComparison(0.95, 1.1, 0.05), Histogram(), Histogram()
    for _ in range(40):
        stable.merge(lognormal(draw, 100, 3.0 if draw.random() < 0.15 else 1.0))
        candidate.merge(lognormal(draw, 100, 3.0 if draw.random() < 0.15 else 1.0))
        found = comparison.look(stable, candidate)

    assert found.design_effect > 4.0
    assert found.p_worse > 0.05


def test_the_spread_of_a_warm_up_is_found() -> None:
    draw = np.random.default_rng(2)
    for spread in (0.1, 0.5, 1.2):
        latencies = Histogram.of(1e6 * np.exp(spread * draw.normal(size=20_000)))
        assert spread_at(latencies, 0.95) == pytest.approx(spread, rel=0.15)
    assert spread_at(Histogram.of([5_000] * 100), 0.95) == 0.5
