"""Shares: exact by enumeration, nearest points as scipy finds them, and what one expects of no error at all."""

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize
from scipy import stats as oracle

from slipway_signals.gate.comparison import log_mix
from slipway_signals.gate.proportions import (
    DISTANCE_WEIGHTS,
    ProportionComparison,
    ProportionLimit,
    nearest_null,
    share_evidence,
)


def chances_of(
    outcomes: list[tuple[int, ...]], sizes: tuple[int, ...], rates: tuple[float, ...]
) -> NDArray[np.float64]:
    """How probable each outcome of several looks is."""
    each = [oracle.binom.pmf(k, n, p) for k, n, p in zip(np.transpose(outcomes), sizes, rates, strict=True)]
    return np.asarray(np.prod(each, axis=0), dtype=np.float64)


def test_evidence_of_two_looks_is_at_most_one_on_average_in_the_whole_hypothesis() -> None:
    """All outcomes of looks of 3 and 2, then 2 and 4 requests, with their probabilities; 60 pairs of true rates."""
    sizes = (3, 2, 2, 4)
    outcomes = list(product(*(range(n + 1) for n in sizes)))
    evidence = []
    for first_stable, first_candidate, more_stable, more_candidate in outcomes:
        comparison = ProportionComparison(0.1, 0.05)
        comparison.look((first_stable, 3), (first_candidate, 2))
        comparison.look((first_stable + more_stable, 5), (first_candidate + more_candidate, 6))
        evidence.append(np.exp(log_mix(comparison._logs, DISTANCE_WEIGHTS)))
    differences = comparison._inner
    checked = 0
    for stable, candidate in product((0.0, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0), (0.0, 0.05, 0.1, 0.2, 0.45, 0.7, 1.0)):
        rates = (stable, candidate, stable, candidate)
        chances = chances_of(outcomes, sizes, rates)

        at_least, at_most = np.tensordot(chances, np.array(evidence), axes=1)

        difference = candidate - stable
        assert (at_least[differences <= difference + 1e-12] <= 1.0 + 1e-6).all(), rates
        assert (at_most[differences >= difference - 1e-12] <= 1.0 + 1e-6).all(), rates
        checked += 1
    assert checked == 49


@pytest.mark.parametrize(
    ("a", "b", "g", "share"),
    [(0.01, 0.01, 0.005, 0.5), (0.3, 0.2, 0.1, 0.1), (1e-9, 1e-4, 0.01, 0.5), (0.5, 0.9, -0.2, 0.7)],
)
def test_the_nearest_point_is_the_one_of_least_divergence(a: float, b: float, g: float, share: float) -> None:
    def divergence(theta: float) -> float:
        return (1 - share) * _kl(a, theta) + share * _kl(b, theta + g)

    low, high = max(0.0, -g), min(1.0, 1.0 - g)
    best = optimize.minimize_scalar(divergence, bounds=(low, high), method="bounded", options={"xatol": 1e-12})

    found = float(nearest_null(np.array([a]), np.array([b]), np.array([g]), share)[0])

    assert low <= found <= high
    assert divergence(found) <= best.fun + 1e-12


def _kl(p: float, other: float) -> float:
    other = min(max(other, 1e-15), 1 - 1e-15)
    return p * math.log(p / other) + (1 - p) * math.log((1 - p) / (1 - other))


def test_no_error_on_either_side_ends_as_not_worse_and_soon() -> None:
    """The rule of three says 600 for half a percent, of one arm, once: two arms and every look take twice as many."""
    comparison = ProportionComparison(0.005, 0.05)
    for look in range(1, 100):
        found = comparison.look((0, 25 * look), (0, 25 * look))
        if found.p_inferior <= 0.05:
            break

    assert 600 <= found.n_candidate <= 1_250
    assert found.upper <= 0.005 + 1e-12
    assert found.p_worse == 1.0


def test_more_errors_are_worse_and_fewer_are_not() -> None:
    more, fewer = ProportionComparison(0.005, 0.05), ProportionComparison(0.005, 0.05)
    draw = np.random.default_rng(6)
    errors = np.cumsum(draw.binomial(100, [0.002, 0.02], (40, 2)), axis=0).tolist()
    for look, (few, many) in enumerate(errors, 1):
        worse, better = (
            more.look((few, 100 * look), (many, 100 * look)),
            fewer.look((many, 100 * look), (few, 100 * look)),
        )

    assert worse.p_worse < 0.001
    assert worse.lower > 0.005
    assert worse.lower < 0.018 < worse.upper
    assert better.p_worse == 1.0
    assert better.p_inferior < 0.001
    assert better.upper < 0.0


def test_two_errors_in_a_thousand_against_none_are_no_proof() -> None:
    comparison = ProportionComparison(0.005, 0.05)
    for look in range(1, 11):
        found = comparison.look((0, 100 * look), (2 if look > 3 else 0, 100 * look))

    assert found.p_worse > 0.05


def test_where_higher_is_better_the_mirror_image_is_judged() -> None:
    correct, wrong = ProportionComparison(0.05, 0.05, higher_is_worse=False), ProportionComparison(0.05, 0.05)
    for look in range(1, 21):
        n = 50 * look
        good, bad = correct.look((45 * look, n), (40 * look, n)), wrong.look((5 * look, n), (10 * look, n))

    assert good.estimate == pytest.approx(-bad.estimate)
    assert good.lower == pytest.approx(-bad.upper)
    assert good.p_worse == pytest.approx(bad.p_worse)
    assert good.p_inferior == pytest.approx(bad.p_inferior)


def test_errors_in_bursts_count_less_than_errors_spread_out() -> None:
    spread, bursts = ProportionComparison(0.01, 0.05), ProportionComparison(0.01, 0.05)
    for look in range(1, 41):
        n = 100 * look
        even, sudden = spread.look((0, n), (look, n)), bursts.look((0, n), (40 if look > 20 else 0, n))

    assert even.design_effect < 1.3
    assert sudden.design_effect > 5.0
    assert sudden.p_worse > even.p_worse


def test_evidence_of_one_sample_is_at_most_one_on_average() -> None:
    n = 30
    for limit in (0.01, 0.2, 0.7):
        chances = oracle.binom.pmf(np.arange(n + 1), n, limit)
        for sign in (-1.0, 1.0):
            evidence = [float(np.exp(share_evidence(k, n, np.array([limit]), sign)[0])) for k in range(n + 1)]
            assert chances @ evidence <= 1.0 + 1e-12


def test_a_share_is_found_below_its_limit_with_bounds_around_the_exact_ones() -> None:
    limit = ProportionLimit(0.01, 0.05)
    for look in range(1, 31):
        found = limit.look(look // 10, 100 * look)
    exact = oracle.binomtest(3, 3_000).proportion_ci(0.9)

    assert found.p_inferior < 0.05
    assert found.p_worse == 1.0
    assert found.lower < exact.low < found.estimate < exact.high < found.upper < 0.01


def test_counts_that_shrink_are_refused() -> None:
    comparison, limit = ProportionComparison(0.01, 0.05), ProportionLimit(0.01, 0.05)
    comparison.look((1, 10), (0, 10))
    limit.look(1, 10)

    with pytest.raises(ValueError, match="cumulative"):
        comparison.look((0, 20), (0, 20))
    with pytest.raises(ValueError, match="cumulative"):
        comparison.look((30, 20), (0, 20))
    with pytest.raises(ValueError, match="cumulative"):
        limit.look(0, 20)
