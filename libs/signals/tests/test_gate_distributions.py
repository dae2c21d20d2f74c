"""Distributions, blocks, clusters in time, and several tests at once: exact by enumeration where that is possible."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as oracle

from slipway_signals.gate.blocks import BlockComparison
from slipway_signals.gate.clustering import DesignEffect
from slipway_signals.gate.comparison import Bounds
from slipway_signals.gate.distributions import DistributionComparison
from slipway_signals.gate.histogram import Sketch
from slipway_signals.gate.holm import holm


def chances_of(
    outcomes: list[tuple[int, ...]], sizes: tuple[int, ...], rates: tuple[float, ...]
) -> NDArray[np.float64]:
    """How probable each outcome of several looks is."""
    each = [oracle.binom.pmf(k, n, p) for k, n, p in zip(np.transpose(outcomes), sizes, rates, strict=True)]
    return np.asarray(np.prod(each, axis=0), dtype=np.float64)


def coins(ones: int, n: int) -> Sketch:
    kept = [(value, count) for value, count in ((0.0, n - ones), (1.0, ones)) if count]
    return Sketch(values=[value for value, _ in kept], counts=[count for _, count in kept])


def test_evidence_of_two_looks_is_at_most_one_on_average_where_distributions_differ() -> None:
    """Answers 0 and 1, looks of 4 and 3, then 2 and 3: all outcomes with their probabilities."""
    margin, sizes = 0.3, (4, 3, 2, 3)
    outcomes = list(product(*(range(n + 1) for n in sizes)))
    similar, different = [], []
    for a, b, more_a, more_b in outcomes:
        comparison = DistributionComparison(margin, 0.05)
        comparison._clusters.add = lambda *_: None  # type: ignore[method-assign]  # evidence as it is, without d
        comparison.look(coins(a, 4), coins(b, 3))
        comparison.look(coins(a + more_a, 6), coins(b + more_b, 6))
        grid = comparison._bounds.grid
        largest = float(np.abs(comparison._total).max())
        bets = comparison._bets * (comparison._weight * margin - largest) - comparison._bets**2 * comparison._weight / 8
        similar.append(float(np.exp(bets) @ [0.25, 0.5, 0.25]))
        different.append(float(np.exp(comparison._different(grid[:, None])[0])))
    for stable, candidate in ((0.2, 0.5), (0.5, 0.9), (0.9, 0.3), (0.0, 1.0), (0.4, 0.4), (0.05, 0.05)):
        rates = (stable, candidate, stable, candidate)
        chances = chances_of(outcomes, sizes, rates)
        if abs(stable - candidate) >= margin:
            assert chances @ similar <= 1.0 + 1e-9, rates
        else:
            assert chances @ different <= 1.0 + 1e-9, rates


def test_equal_answers_are_shown_and_shifted_ones_caught() -> None:
    draw = np.random.default_rng(7)
    equal, shifted = DistributionComparison(0.1, 0.05), DistributionComparison(0.1, 0.05)
    stable, candidate, other = Sketch(), Sketch(), Sketch()
    for _ in range(30):
        stable.merge(Sketch.of(draw.normal(size=60)))
        candidate.merge(Sketch.of(draw.normal(size=60)))
        other.merge(Sketch.of(draw.normal(0.5, 1.0, size=60)))
        same, moved = equal.look(stable, candidate), shifted.look(stable, other)

    assert same.p_inferior < 0.05
    assert same.upper <= 0.1
    assert same.p_worse > 0.05
    assert moved.p_worse < 0.001
    assert moved.p_inferior == 1.0
    true = 2 * oracle.norm.cdf(0.25) - 1
    assert moved.lower < true < moved.upper


def test_the_estimate_is_the_two_sample_kolmogorov_smirnov_statistic() -> None:
    draw = np.random.default_rng(8)
    values = np.round(draw.normal(size=400), 1), np.round(draw.normal(0.3, size=300), 1)
    rounded = [np.array(Sketch.of([value]).values[0] if value else 0.0) for value in np.concatenate(values)]

    found = DistributionComparison(0.1, 0.05).look(*(Sketch.of(one) for one in values))

    assert found.estimate == pytest.approx(oracle.ks_2samp(rounded[:400], rounded[400:]).statistic)


def test_the_same_answers_on_both_sides_differ_by_nothing() -> None:
    comparison, answers = DistributionComparison(0.1, 0.05), Sketch()
    for _ in range(20):
        answers.record(0.1, 40)
        answers.record(0.9, 20)
        found = comparison.look(answers, answers)

    assert found.estimate == 0.0
    assert found.p_worse == 1.0
    assert found.p_inferior < 0.01


def test_without_an_arm_nothing_is_known_of_distributions() -> None:
    found = DistributionComparison(0.1, 0.05).look(Sketch.of([0.5] * 10), Sketch())

    assert (found.lower, found.upper, found.p_worse, found.p_inferior) == (0.0, 1.0, 1.0, 1.0)


def test_evidence_of_blocks_is_one_on_average_for_all_signs() -> None:
    """Ratios as likely above as below, whatever their size: the mean over all 64 signs is exactly 1."""
    sizes = (0.02, 0.3, 0.05, 0.0, 0.11, 0.07)
    evidence = []
    for signs in product((-1.0, 1.0), repeat=len(sizes)):
        comparison = BlockComparison(1.1, 0.05)
        comparison.look([(1.0, math.exp(sign * size)) for sign, size in zip(signs, sizes, strict=True)])
        at = comparison._bounds._place(1.0)
        values = np.multiply(signs, sizes)[:, None]
        log = np.log(2.0) - np.logaddexp(0.0, -2.0 * comparison._bets * values)
        evidence.append(float(np.exp(log.sum(axis=0)).mean()))
        assert comparison._bounds._at_most[at] == pytest.approx(max(0.0, math.log(evidence[-1])))

    assert np.mean(evidence) == pytest.approx(1.0)


def test_blocks_need_at_least_five_and_then_conclude() -> None:
    draw = np.random.default_rng(3)
    blocks = [(float(a), float(b)) for a, b in np.exp(0.02 * draw.normal(size=(12, 2)))]
    more = [(a, 1.3 * b) for a, b in blocks]

    few, equal, worse = (BlockComparison(1.1, 0.05).look(some) for some in (blocks[:4], blocks, more))

    assert few.p_inferior > 0.05
    assert equal.p_inferior < 0.05
    assert equal.p_worse > 0.05
    assert equal.lower < 1.0 < equal.upper <= 1.1
    assert worse.p_worse < 0.05
    assert worse.estimate == pytest.approx(1.3, rel=0.05)


def test_less_throughput_is_worse_where_the_margin_says_so() -> None:
    less = [(100.0, 90.0 + n / 10) for n in range(10)]

    found, other = BlockComparison(0.95, 0.05).look(less), BlockComparison(1.05, 0.05).look(less)

    assert found.p_worse < 0.05
    assert found.p_inferior == 1.0
    assert other.p_worse == 1.0
    assert other.p_inferior < 0.05
    with pytest.raises(ValueError, match="other than 1"):
        BlockComparison(1.0, 0.05)


def test_blocks_without_a_value_are_left_out() -> None:
    found = BlockComparison(1.1, 0.05).look([(0.0, 1.0), (1.0, 0.0)])

    assert (found.n_stable, found.estimate, found.p_worse, found.p_inferior) == (0, 1.0, 1.0, 1.0)


def test_independent_windows_have_almost_no_design_effect_and_bursts_have_theirs() -> None:
    draw = np.random.default_rng(4)
    ones = np.ones(1)
    found: list[list[float]] = []
    for _ in range(40):
        effects = DesignEffect(), DesignEffect(), DesignEffect()
        level = 0.0
        for _ in range(200):
            level = 0.7 * level + draw.normal()
            for effect, value in zip(effects, (draw.normal(), 2.0 * draw.normal(), level), strict=True):
                effect.add(value * ones, ones)
        found.append([effect.value for effect in effects])

    alone, varying, alike = np.mean(found, axis=0)
    assert 1.0 <= alone < 1.3
    assert varying == pytest.approx(4.0, rel=0.15)
    assert alike == pytest.approx(1.0 / 0.3**2, rel=0.35)


def test_joining_windows_loses_none() -> None:
    effect = DesignEffect()
    for at in range(1_000):
        effect.add(np.array([float(at)]), np.ones(1))

    assert sum(float(one[0]) for one in effect._contrasts) == sum(range(1_000))
    assert sum(float(one[0]) for one in effect._variances) == 1_000
    assert 32 <= len(effect._contrasts) <= 64
    assert {float(one[0]) for one in effect._variances[:-1]} == {16.0}


def test_a_bound_is_the_nearest_value_that_is_refused_and_never_moves_back() -> None:
    bounds = Bounds(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 0.05)
    assert bounds.limits == (0.0, 4.0)

    bounds.add(np.array([0.0, 0.0, 0.0, 3.1, 5.0]), np.array([3.2, 3.1, 0.0, 0.0, 0.0]))
    bounds.add(np.zeros(5), np.zeros(5))

    assert bounds.limits == (1.0, 3.0)
    assert bounds.p_at_least(3.0) == pytest.approx(math.exp(-3.1))
    assert bounds.p_at_most(4.0) == 1.0
    with pytest.raises(ValueError, match="not in the grid"):
        bounds.p_at_most(2.5)


def test_bounds_that_cross_meet_in_the_middle() -> None:
    """The arms changed during the run: first the candidate was worse, then better."""
    bounds = Bounds(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 0.05)

    bounds.add(np.array([0.0, 9.0, 9.0, 9.0, 9.0]), np.array([9.0, 9.0, 9.0, 9.0, 0.0]))

    assert bounds.limits == (2.0, 2.0)


def test_holm_by_hand() -> None:
    found = holm({"errors": 0.04, "p95": 0.01, "cpu": 0.03})

    assert list(found) == ["errors", "p95", "cpu"]
    assert found == pytest.approx({"p95": 0.03, "cpu": 0.06, "errors": 0.06})
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0.0, 1.0), max_size=8))
def test_holm_is_between_the_value_itself_and_bonferroni(p_values: dict[str, float]) -> None:
    found = holm(p_values)

    for name, p in p_values.items():
        assert p <= found[name] <= min(1.0, len(p_values) * p)
    order = sorted(p_values, key=lambda name: p_values[name])
    assert [found[name] for name in order] == sorted(found.values())
