"""How many requests of each arm a comparison takes until it concludes; what a plan must offer, before any traffic.

Estimates, no promises: evidence grows as a random walk, and these are quantiles of the time at which it has passed
ln(1/α). The invariant: nothing here changes what is judged. Each function is checked against simulations of what it
foretells (benchmarks/gate.py, and tests with fixed seeds).

If the log evidence has the drift μ per request and, as that of a likelihood ratio, the variance 2μ, the share of runs
that passed b after n requests is Φ((μn - b)/√(2μn)) + e^b·Φ(-(μn + b)/√(2μn)) (first passage of a Brownian motion:
Siegmund, Sequential Analysis, 1985, 3.2; Wald 1945). What averaging over several bets and learning costs is added to b.
"""

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from slipway_signals.gate.blocks import BETS
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.proportions import nearest_null

__all__ = [
    "blocks_needed",
    "distribution_requests",
    "limit_requests",
    "proportion_requests",
    "quantile_requests",
    "spread_at",
]

LEARNING: Final = 1.2
"""The design effect that independent requests seem to have: it is learned, and never below 1 (`clustering`)."""

QUANTILE_COST: Final = 3.1
PROPORTION_COST: Final = 1.2
DISTRIBUTION_COST: Final = 1.0
BLOCK_COST: Final = 1.4
"""Log evidence that averaging over bets takes, and for quantiles the unknown threshold; by simulation."""

LARGEST_OF_ALL: Final = 0.83 * math.sqrt(2.0)
"""Times 1/√n: the median of the largest difference of two empirical distribution functions (Smirnov 1948)."""

SPREADS: Final = (0.02, 3.0)
"""No spread is believed to be outside."""

_normal = NormalDist()


def quantile_requests(q: float, margin_ratio: float, alpha: float, *, power: float = 0.8, spread: float = 0.5) -> int:
    """Until "not slower by the margin" is shown of two equal arms, or "slower" of one that is slower by the margin.

    Args:
        q: the share below the quantile.
        margin_ratio: 1.1 is "10 % slower".
        alpha: level, for each side.
        power: share of runs that conclude by then.
        spread: standard deviation of the logarithm of latencies near the quantile (`spread_at` of a warm-up).
    """
    density = _normal.pdf(_normal.inv_cdf(q)) / spread
    drift = math.log(margin_ratio) ** 2 * density**2 / (4.0 * q * (1.0 - q))
    return math.ceil(LEARNING * _passage(QUANTILE_COST - math.log(alpha), power) / drift)


def proportion_requests(rate: float, margin: float, alpha: float, *, power: float = 0.8) -> int:
    """Until "not worse by the margin" is shown of two arms with the same share `rate`, from 0 on."""
    rate = min(max(rate, 1e-7), 1.0 - 1e-7)
    point = np.array([rate])
    null = float(nearest_null(point, point, np.array([margin]), 0.5)[0])
    drift = _divergence(rate, null) + _divergence(rate, null + margin)
    return math.ceil(LEARNING * _passage(PROPORTION_COST - math.log(alpha), power) / drift)


def limit_requests(rate: float, limit: float, alpha: float, *, power: float = 0.8) -> int:
    """Until a share that is `rate` < `limit` is shown to be below the limit."""
    drift = _divergence(max(rate, 1e-7), limit)
    return math.ceil(LEARNING * _passage(PROPORTION_COST - math.log(alpha), power) / drift)


def distribution_requests(margin: float, alpha: float, *, power: float = 0.8) -> int:
    """Until "distributions that differ by less than the margin" is shown of two equal ones."""
    root = math.sqrt(_passage(DISTRIBUTION_COST - math.log(alpha), power)) + LARGEST_OF_ALL
    return math.ceil(LEARNING * (root / margin) ** 2)


def blocks_needed(noise: float, margin_ratio: float, alpha: float, *, power: float = 0.8) -> int:
    """How many blocks until "not more by the margin" is shown.

    Args:
        noise: standard deviation of the logarithm of the ratio of two equal arms in a block: 0.05 is 5 %.
        margin_ratio: 1.1 is "10 % more"; 0.95 of a throughput is "5 % less".
        alpha: level, for each side.
        power: share of runs that conclude by then.
    """
    size = abs(math.log(margin_ratio))
    points, weights = np.polynomial.hermite_e.hermegauss(41)
    values = size + noise * points
    growth = [float((math.log(2.0) - np.logaddexp(0.0, -2.0 * bet / size * values)) @ weights) for bet in BETS]
    drift = max(growth) / math.sqrt(2.0 * math.pi)
    if drift <= 0.0:
        return 10**9
    target = BLOCK_COST - math.log(alpha)
    return math.ceil(
        max(target / math.log(2.0), _passage(target, power) / drift if noise > size / 2 else target / drift)
    )


def spread_at(latencies: Histogram, q: float) -> float:
    """The standard deviation of the logarithm of latencies that a log-normal with this slope at the quantile has.

    Of a warm-up, to tune `quantiles.QuantileComparison` and `quantile_requests`; 0.5 where there are fewer than 20
    requests beyond the quantile.
    """
    if latencies.count * (1.0 - q) < 20.0:
        return 0.5
    low, high = 1.0 - (1.0 - q) * 1.5, 1.0 - (1.0 - q) / 1.5
    step = math.log(max(latencies.quantile(high), 1) / max(latencies.quantile(low), 1))
    found = step / (_normal.inv_cdf(high) - _normal.inv_cdf(low))
    return min(max(found, SPREADS[0]), SPREADS[1])


def _passage(target: float, power: float) -> float:
    """The drift that has been added up when a share `power` of all runs has passed `target`."""

    def passed(drifted: float) -> float:
        root = math.sqrt(2.0 * drifted)
        return _normal.cdf((drifted - target) / root) + math.exp(target) * _normal.cdf(-(drifted + target) / root)

    low, high = 1e-9, 100.0 * target
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if passed(middle) < power else (low, middle)
    return high


def _divergence(p: float, other: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    other = min(max(other, 1e-12), 1.0 - 1e-12)
    return p * math.log(p / other) + (1.0 - p) * math.log((1.0 - p) / (1.0 - other))
