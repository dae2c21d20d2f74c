"""The formulas against scipy, and what they promise about chance: the level is kept and a shift is seen."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy import stats as oracle

from slipway_signals.drift import simulate, stats
from slipway_signals.drift.promql import Thresholds

counts = st.lists(st.integers(0, 10_000), min_size=2, max_size=13).filter(any)


@given(st.data())
def test_psi_is_jeffreys_divergence(data: st.DataObject) -> None:
    r = stats.shares(data.draw(counts))
    c = stats.shares(data.draw(st.lists(st.integers(0, 10_000), min_size=len(r), max_size=len(r)).filter(any)))
    floor_r, floor_c = np.maximum(r, 1e-4), np.maximum(c, 1e-4)

    value = stats.psi(r, c)

    expected = float(np.sum(special.rel_entr(floor_c, floor_r)))
    expected += float(np.sum(special.rel_entr(floor_r, floor_c)))
    assert value == pytest.approx(expected, abs=1e-9)
    assert value == pytest.approx(stats.psi(c, r), abs=1e-12)
    assert value >= 0.0


def test_psi_of_a_known_table() -> None:
    """Yurdakul's example has the same form: two bins, 0.5/0.5 against 0.6/0.4: 0.1 ln 1.2 - 0.1 ln 0.8."""
    assert stats.psi([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))
    assert stats.psi([1.0, 0.0], [0.0, 1.0]) == pytest.approx(2 * (1 - 1e-4) * math.log(1e4))


@pytest.mark.parametrize("tail", [0.5, 0.1, 0.01, 0.005, 1e-3, 1e-4, 1e-6])
def test_the_normal_quantile_is_within_its_stated_error(tail: float) -> None:
    assert stats.normal_critical(tail) == pytest.approx(oracle.norm.isf(tail), abs=4.5e-4)


@pytest.mark.parametrize("tail", [0.01, 0.005, 1e-3, 1e-4, 1e-5])
def test_the_chi_square_quantile_is_within_its_stated_error_and_on_the_safe_side(tail: float) -> None:
    for degrees in range(1, 31):
        exact = oracle.chi2.isf(tail, degrees)
        relative = stats.chi2_critical(degrees, tail) / exact - 1.0
        assert -0.01 < relative < (0.112 if degrees < 5 else 0.04), degrees
        assert 0.95 * tail < stats.chi2_tail(exact, degrees) < 2.5 * tail, degrees


@given(counts)
def test_ks_on_bins_is_the_largest_difference_of_the_two_distributions(found: list[int]) -> None:
    reference = np.ones(len(found)) / len(found)
    places = np.repeat(np.arange(len(found)), found)
    sample = np.repeat(np.arange(len(found)), 1_000)

    value = stats.ks_on_bins(reference, stats.shares(found))

    assert value == pytest.approx(oracle.ks_2samp(places, sample, method="asymp").statistic, abs=1e-9)


def test_the_critical_difference_is_smirnovs() -> None:
    n, m, tail = 5_000, 15_000, 0.001
    value = stats.ks_critical(n, m, tail)

    assert oracle.kstwobign.sf(value * math.sqrt(n * m / (n + m))) == pytest.approx(tail, rel=0.01)


def test_several_tests_are_judged_together() -> None:
    tails = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216]

    assert stats.bonferroni(tails, 0.05) == [True, *[False] * 9]
    assert stats.benjamini_hochberg(tails, 0.05) == [True, True, *[False] * 8]
    assert stats.benjamini_hochberg(tails[::-1], 0.05) == [*[False] * 8, True, True]
    assert stats.benjamini_hochberg([0.9], 0.05) == [False]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.001, 0.3))
def test_benjamini_hochberg_is_scipys(tails: list[float], level: float) -> None:
    adjusted = oracle.false_discovery_control(tails)

    ours = stats.benjamini_hochberg(tails, level)

    assert all(one == (value <= level) or abs(value - level) < 1e-12 for one, value in zip(ours, adjusted, strict=True))


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (3, 10), (97, 100), (500, 1_000)])
def test_wilson_bounds_are_scipys(hits: int, rows: int) -> None:
    exact = oracle.binomtest(hits, rows).proportion_ci(0.95, method="wilson")

    low, high = stats.wilson_bounds(hits / rows, rows, oracle.norm.isf(0.025))

    assert (max(low, 0.0), high) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("count", [0, 1, 4, 20, 400])
def test_poisson_bounds_are_near_the_exact_ones(count: int) -> None:
    low, high = stats.poisson_bounds(count, 1.96)

    exact = (oracle.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, oracle.chi2.ppf(0.975, 2 * count + 2) / 2)
    assert low == pytest.approx(exact[0], abs=0.6)
    assert high == pytest.approx(exact[1], abs=0.6)


def test_equal_weights_make_as_many_effective_rows_as_there_are() -> None:
    assert stats.effective_rows(10 * 48, 10 * 48**2) == pytest.approx(10)
    assert stats.effective_rows(100 + 100 * 9, 100 + 100 * 81) == pytest.approx(1_000_000 / 8_200)


def test_the_statistic_of_psi_is_chi_square_where_nothing_changed() -> None:
    """5,000 windows of 2,000 rows against a sample of 15,000: its tail is that of chi-square, 9 degrees."""
    draw = np.random.default_rng(1)
    truth = np.full(10, 0.1)
    current = draw.multinomial(2_000, truth, 5_000) / 2_000
    reference = draw.multinomial(15_000, truth, 5_000) / 15_000

    found = np.array(
        [stats.psi_statistic(stats.psi(r, c), 2_000, 15_000) for r, c in zip(reference, current, strict=True)]
    )

    for tail in (0.05, 0.01):
        assert (found > stats.chi2_critical(9, tail)).mean() == pytest.approx(tail, rel=0.35)


def service(draw: np.random.Generator, psi: float = 0.0) -> list[simulate.Watched]:
    """Predictions and 50 features of a model; the predictions shifted by this PSI."""
    limits = Thresholds()
    reference, truth = simulate.numeric(15_000, draw)
    moved = simulate.shifted(truth, psi) if psi else truth
    watched = [simulate.Watched(reference, moved, limits.prediction_psi, 1, 1)]
    for _ in range(50):
        reference, truth = simulate.numeric(15_000, draw, missing=0.02)
        watched.append(simulate.Watched(reference, truth, limits.feature_psi, 3, 50))
    return watched


def test_a_month_of_nothing_has_at_most_one_false_alarm() -> None:
    """50 features and the predictions, 1,000 rows an hour, 720 hours; benchmarks/drift.py has many months."""
    draw = np.random.default_rng(42)

    alarms = sum(simulate.alerts_in(one, 1_000, 720, 15_000, draw, Thresholds()) for one in service(draw))

    assert alarms <= 1


def test_a_shift_of_psi_0_2_is_seen_at_5000_rows() -> None:
    """Power of at least 90 %: 100 services, each seen within three hours of the shift."""
    draw = np.random.default_rng(43)
    seen = 0
    for _ in range(100):
        predictions = service(draw, 0.2)[0]
        seen += simulate.alerts_in(predictions, 5_000, 3, 15_000, draw, Thresholds()) > 0

    assert seen >= 90
