"""The statistics of drift, each with its source: what `rules` writes in PromQL, in Python.

Pure functions of numbers. The invariant: a formula here and its PromQL twin give the same value, so approximations that
PromQL needs (it has no quantiles of distributions) are used here too, and their error is stated.

Sources: PSI and its distribution: Yurdakul, Statistical Properties of Population Stability Index (2018). Kolmogorov on
grouped data is conservative: Noether, Note on the Kolmogorov Statistic in the Discrete Case (Metrika 1963). Why outputs
first and Bonferroni over features: Rabanser et al., Failing Loudly (NeurIPS 2019).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FLOOR",
    "benjamini_hochberg",
    "bonferroni",
    "chi2_critical",
    "chi2_tail",
    "effective_rows",
    "ks_critical",
    "ks_on_bins",
    "normal_critical",
    "poisson_bounds",
    "psi",
    "psi_statistic",
    "shares",
    "wilson_bounds",
]

FLOOR: Final = 1e-4
"""Shares below it count as this: an empty bin must not make PSI infinite."""


def shares(counts: ArrayLike) -> NDArray[np.float64]:
    """Counts `[bins]` as shares of their sum, which is more than 0."""
    array = np.asarray(counts, dtype=np.float64)
    found: NDArray[np.float64] = array / array.sum()
    return found


def psi(reference: ArrayLike, current: ArrayLike) -> float:
    """Population stability index of two share vectors `[bins]`: the sum of (c - r) ln(c / r), shares at least `FLOOR`.

    It is the symmetric Kullback-Leibler divergence (Jeffreys 1946). Custom: 0.1 is some change, 0.25 much.
    """
    r = np.maximum(np.asarray(reference, dtype=np.float64), FLOOR)
    c = np.maximum(np.asarray(current, dtype=np.float64), FLOOR)
    return float(((c - r) * np.log(c / r)).sum())


def psi_statistic(value: float, rows: float, reference_rows: float) -> float:
    """PSI over 1/rows + 1/reference_rows: about chi-square with bins - 1 degrees where nothing changed (Yurdakul)."""
    return value / (1.0 / rows + 1.0 / reference_rows)


def normal_critical(tail: float) -> float:
    """z with P(Z > z) = tail, 0 < tail <= 0.5; within 4.5e-4.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.23.
    """
    t = math.sqrt(-2.0 * math.log(tail))
    above = 2.515517 + 0.802853 * t + 0.010328 * t**2
    below = 1.0 + 1.432788 * t + 0.189269 * t**2 + 0.001308 * t**3
    return t - above / below


def chi2_critical(degrees: float, tail: float) -> float:
    """x with P(chi-square > x) = tail, for tails from 1e-5 to 0.01: never more than 1 % too small, and on the
    safe side far out: 11 % too large at one degree and 1e-5, at most 4 % from five degrees on.

    Wilson and Hilferty, The Distribution of Chi-square (PNAS 1931).
    """
    step = 2.0 / (9.0 * degrees)
    return float(degrees * (1.0 - step + normal_critical(tail) * math.sqrt(step)) ** 3)


def chi2_tail(value: float, degrees: float) -> float:
    """P(chi-square > value), by the same approximation: up to 2.5 times too large far out, never much too small."""
    step = 2.0 / (9.0 * degrees)
    z = ((max(value, 0.0) / degrees) ** (1.0 / 3.0) - 1.0 + step) / math.sqrt(step)
    return NormalDist().cdf(-z)


def ks_on_bins(reference: ArrayLike, current: ArrayLike) -> float:
    """Largest difference of two cumulative share vectors `[bins]`, bins in order: Kolmogorov-Smirnov at the bounds."""
    gaps = np.cumsum(np.asarray(current, dtype=np.float64) - np.asarray(reference, dtype=np.float64))
    return float(np.abs(gaps).max())


def ks_critical(rows: float, reference_rows: float, tail: float) -> float:
    """The difference that two samples of one distribution pass with at most this probability.

    Smirnov's limit (1948): sqrt(-ln(tail / 2) / 2 · (1/n + 1/m)).
    """
    return math.sqrt(-math.log(tail / 2.0) / 2.0 * (1.0 / rows + 1.0 / reference_rows))


def bonferroni(tails: Sequence[float], level: float) -> list[bool]:
    """Which of several tests reject so that a false one among them has at most the probability `level`."""
    return [tail <= level / len(tails) for tail in tails]


def benjamini_hochberg(tails: Sequence[float], level: float) -> list[bool]:
    """Which of several tests reject so that at most the share `level` of the rejections is false, on average.

    Benjamini and Hochberg, Controlling the False Discovery Rate (JRSS B 1995): the step-up procedure.
    """
    order = sorted(range(len(tails)), key=lambda at: tails[at])
    last = max((rank for rank, at in enumerate(order, 1) if tails[at] <= level * rank / len(tails)), default=0)
    rejected = set(order[:last])
    return [at in rejected for at in range(len(tails))]


def wilson_bounds(share: float, rows: float, z: float) -> tuple[float, float]:
    """Where a probability lies that was observed as `share` of `rows`, at z standard deviations.

    Wilson, Probable Inference (JASA 1927): unlike the plain normal bounds, good near 0 and 1.
    """
    middle = share + z * z / (2.0 * rows)
    half = z * math.sqrt(share * (1.0 - share) / rows + z * z / (4.0 * rows * rows))
    whole = 1.0 + z * z / rows
    return (middle - half) / whole, (middle + half) / whole


def poisson_bounds(count: float, z: float) -> tuple[float, float]:
    """Where the mean lies of a count that was observed once, at z standard deviations.

    Anscombe, The Transformation of Poisson Data (Biometrika 1948): sqrt(count) has the standard deviation 1/2.
    """
    root = math.sqrt(count)
    return max(0.0, root - z / 2.0) ** 2, (math.sqrt(count + 1.0) + z / 2.0) ** 2


def effective_rows(weights: float, squares: float) -> float:
    """How many equal rows tell as much as weighted ones: (Σw)² / Σw² (Kish, Survey Sampling, 1965, 11.7)."""
    return weights * weights / squares
