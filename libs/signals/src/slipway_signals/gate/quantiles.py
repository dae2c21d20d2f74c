"""Is a quantile of the candidate's latencies larger than stable's, and by which factor? For any distributions.

It knows no latency from another: only how many requests of each arm took longer than a threshold. The invariant: the
evidence is exact for every sample size and every look, whatever the two distributions are.

Let Q be the quantiles at the share q, and π = 1 - q. "Q_candidate ≥ r · Q_stable" means that there is a threshold t (it
is Q_stable) which stable exceeds with a probability of at most π, while the candidate reaches r · t with a probability
of at least π. For one t that is a statement about two coins, and

    exp(λ·x - n·ln(1 - π + π·e^λ))

is evidence against "x of n exceeded, with a probability of at most π" for λ > 0, and of "at least π" for λ < 0 (Wald
1945; the exponential family of Howard et al. 2020). Betting +λ on stable and -λ on the candidate, the product compares
the two, and a small error in t cancels; two separate confidence sequences would have to bear it twice. As t is not
known, the evidence is the smallest over all t (the infimum over a composite hypothesis: Ramdas et al. 2023). Several λ
are tried at once, their evidence averaged (Robbins 1970).

That product needs the arms to be independent, or, of a pair with the same input, that a slow answer of one never
makes a slow one of the other less probable: docs/gate-statistics.md.
Prior art: Howard and Ramdas, Sequential estimation of quantiles (Bernoulli 2022); Lindon et al., Rapid regression
detection in software deployments (KDD 2022).
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipway_signals.gate.clustering import DesignEffect
from slipway_signals.gate.comparison import Comparison, Floats, log_mix, p_value
from slipway_signals.gate.histogram import Histogram

__all__ = ["SPREAD", "QuantileComparison"]

Evidence = Callable[[float], float]
Ints = NDArray[np.int64]

SPREAD: Final = 0.5
"""Standard deviation of the logarithm of latencies for which the bets are best, where no warm-up says another."""

SIZES: Final = (0.4, 1.2, 3.0)
SIZE_WEIGHTS: Final = (0.12, 0.76, 0.12)
"""Differences that are bet on, as multiples of the margin; their weights."""

SHIFTS: Final = (0.0, -0.5)
SHIFT_WEIGHTS: Final = (0.68, 0.28)
"""What both arms are bet to be beside π, as multiples of half that: a threshold in the tail is too high for both."""

ALONE: Final = (1.0, 4.0, -1.0, -4.0)
ALONE_WEIGHT: Final = 0.01
"""Bets on the one arm alone: that a threshold is too low for it (> 0), or too high."""

SETTLED: Final = 40.0
"""Thresholds about which these alone give so much log evidence are left out: no p-value is that small."""

WEIGHTS: Final = np.array([a * b for a in SIZE_WEIGHTS for b in SHIFT_WEIGHTS] + [ALONE_WEIGHT] * len(ALONE))

WIDEST: Final = 100.0
"""A ratio is not known to be less than this, or more than 1 over it, until it is."""


class QuantileComparison:
    """The ratio of a quantile of two arms, candidate over stable.

    Args:
        q: the share below the quantile, 0 < q < 1.
        margin_ratio: the ratio from which on the candidate is worse, more than 1: 1.1 is "10 % slower".
        alpha: probability that a bound is ever wrong, for each side.
        candidate_share: the candidate's part of all requests, as planned.
        spread: standard deviation of the logarithm of latencies near the quantile, from a warm-up (`power.spread_at`).
            The evidence holds for any shares and spreads, and is strongest for these.
    """

    def __init__(
        self, q: float, margin_ratio: float, alpha: float, *, candidate_share: float = 0.5, spread: float = SPREAD
    ) -> None:
        self._q = q
        self._log_margin = math.log(margin_ratio)
        steps = np.concatenate([np.arange(0.0, 4.0, 0.125), 4.0 * 1.15 ** np.arange(60)])
        steps = steps[steps * self._log_margin < math.log(WIDEST)]
        self._grid: list[float] = np.exp(np.concatenate([-steps[:0:-1], steps]) * self._log_margin).tolist()
        self._lower, self._upper = 0, len(self._grid) - 1
        self._needed = -math.log(alpha)
        self._worse = self._inferior = 0.0
        self._margin_ratio = margin_ratio
        best = NormalDist().pdf(NormalDist().inv_cdf(q)) / spread * self._log_margin / (2.0 * q * (1.0 - q))
        shares = 2.0 * candidate_share, 2.0 * (1.0 - candidate_share)  # as much is bet on the many as on the few
        bets = [(size * (shift + 1.0), size * (shift - 1.0)) for size in SIZES for shift in SHIFTS]
        bets += [(size, 0.0) for size in ALONE]
        self._bets = best * np.array(bets)
        self._shares = shares
        self._clusters = DesignEffect()
        self._last: tuple[_Arm, _Arm] | None = None

    def look(self, stable: Histogram, candidate: Histogram) -> Comparison:
        """What is known after all requests so far, of both arms (cumulative; neither is kept or changed)."""
        arms = _Arm(stable), _Arm(candidate)
        self._learn_clustering(arms)
        exponent = self._clusters.exponent
        if arms[0].n and arms[1].n:
            slower = self._evidence(arms[0], arms[1], self._bets * self._shares, exponent)
            faster = self._evidence(arms[1], arms[0], self._bets * self._shares[::-1], exponent)
            self._inferior = max(self._inferior, slower(self._margin_ratio))
            self._worse = max(self._worse, faster(1.0))
            self._tighten(slower, lambda ratio: faster(1.0 / ratio))
        return Comparison(
            estimate=arms[1].quantile(self._q) / max(arms[0].quantile(self._q), 1) if arms[0].n and arms[1].n else 1.0,
            lower=self._grid[self._lower],
            upper=self._grid[self._upper],
            p_worse=p_value(self._worse),
            p_inferior=p_value(self._inferior),
            n_stable=arms[0].n,
            n_candidate=arms[1].n,
            design_effect=self._clusters.value,
        )

    def _tighten(self, at_least: "Evidence", at_most: "Evidence") -> None:
        """Move the bounds to the nearest ratios of the grid that are excluded; evidence is monotone in the ratio."""
        grid, needed = self._grid, self._needed
        if self._upper and at_least(grid[self._upper - 1]) >= needed:
            self._upper = bisect_left(grid, x=True, hi=self._upper - 1, key=lambda ratio: at_least(ratio) >= needed)
        if self._lower < len(grid) - 1 and at_most(grid[self._lower + 1]) >= needed:
            first_kept = bisect_left(grid, x=True, lo=self._lower + 2, key=lambda ratio: at_most(ratio) < needed)
            self._lower = first_kept - 1

    def _evidence(self, one: "_Arm", other: "_Arm", bets: Floats, exponent: float) -> "Evidence":
        """Ratio -> the log evidence against "the other's quantile is at least `ratio` times that of the one"."""
        over_share = 1.0 - self._q
        on_one, on_other = bets.T
        over, reached = one.n - one.ends, one.n - np.concatenate([[0], one.ends[:-1]])  # beyond it, and at least it
        of_one = on_one * np.where(on_one > 0.0, over[:, None], reached[:, None])
        of_one -= one.n * np.log1p(over_share * np.expm1(on_one))
        is_open = of_one[:, -len(ALONE) :].max(axis=1) < SETTLED - math.log(ALONE_WEIGHT)
        of_one = of_one[is_open] - other.n * np.log1p(over_share * np.expm1(on_other))
        thresholds = one.values[is_open]

        def against(ratio: float) -> float:
            reached_by_other = other.n - other.below(ratio * thresholds)
            logs = log_mix(of_one + on_other * reached_by_other[:, None], WEIGHTS)
            return float(logs.min(initial=SETTLED)) * exponent

        return against

    def _learn_clustering(self, arms: "tuple[_Arm, _Arm]") -> None:
        """Compare how the arms did in the last window, at the quantiles that they had before it."""
        last, self._last = self._last, arms
        new = [arm.n - before.n for arm, before in zip(arms, last or arms, strict=True)]
        if last is None or not all(new) or not all(before.n for before in last):
            return
        contrast = weight = known = past = 0.0
        total = last[0].n + last[1].n
        for arm, before, count, sign in zip(arms, last, new, (-1.0, 1.0), strict=True):
            threshold = before.quantile(self._q)
            over_before = before.n - before.upto(threshold)
            over_new = arm.n - arm.upto(threshold) - over_before
            contrast += sign * (over_new / count - over_before / before.n)
            weight += 1.0 / count
            known += 1.0 / before.n
            past += over_before / total
        variance = past * (1.0 - past) * (weight + known)
        self._clusters.add(np.array([contrast / weight]), np.array([variance / weight**2]))


class _Arm:
    """The latencies of one arm as arrays: bucket values ascending, from 0 on, and how many are at most each."""

    def __init__(self, latencies: Histogram) -> None:
        values, counts = latencies.arrays()
        self.values: Ints = np.concatenate([[-1], values])
        self.ends: Ints = np.concatenate([[0], np.cumsum(counts)])
        self.n = int(self.ends[-1])

    def quantile(self, q: float) -> int:
        """As `Histogram.quantile`."""
        return int(self.values[np.searchsorted(self.ends, math.ceil(q * self.n - 1e-9))])

    def upto(self, threshold: float) -> int:
        """How many are at most `threshold`."""
        return int(self.ends[np.searchsorted(self.values, threshold, side="right") - 1])

    def below(self, thresholds: Floats) -> Ints:
        """How many are less than each of `thresholds`."""
        return self.ends[np.maximum(np.searchsorted(self.values, thresholds, side="left") - 1, 0)]
