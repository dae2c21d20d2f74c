"""Do two arms answer alike? The largest difference of the distribution functions of a numeric answer, in [0, 1].

It knows numbers, not what they mean. The invariant: the evidence is exact for any two distributions, atoms included.

For one threshold x let T be the sum over looks of h·(F_candidate(x) - F_stable(x)), empirical shares of that look, with
h = n_stable·n_candidate/(n_stable + n_candidate), and H the sum of h. Shares of independent answers are sub-Gaussian
(Hoeffding 1963), so exp(λ(T - H·g) - λ²H/8) is evidence against "the difference at x is at most g", and its mirror
image against "at least g". "The largest difference is at least g" says that some x has it: the evidence against it is
the smallest over all x, which is that of the largest |T|, so that no x need be chosen and none costs anything. "The
distributions are equal" is refused by an average over `PROBES` thresholds that the first look chooses.
Several λ are tried at once, their evidence averaged (Robbins 1970).
Prior art: Kolmogorov (1933) and Smirnov (1948) for one look; Howard and Ramdas (Bernoulli 2022), who bound a whole
distribution function at every look; Lindon et al. (KDD 2022).
"""

import math
from typing import Final

import numpy as np

from slipway_signals.gate.clustering import DesignEffect
from slipway_signals.gate.comparison import Bounds, Comparison, Floats, log_mix
from slipway_signals.gate.histogram import Sketch

__all__ = ["DistributionComparison"]

PROBES: Final = 16
"""Thresholds at which a difference is searched: evenly spread quantiles of both arms together, at the first look."""

DISTANCES: Final = np.array([0.5, 1.0, 2.0])
DISTANCE_WEIGHTS: Final = np.array([0.25, 0.5, 0.25])
"""Differences that are bet on, as multiples of the margin, and their weights."""


class DistributionComparison:
    """The largest difference of two distribution functions.

    Args:
        margin: the difference from which on the candidate answers differently, 0 < margin < 1.
        alpha: probability that a bound is ever wrong, for each side.
    """

    def __init__(self, margin: float, alpha: float) -> None:
        self._margin = margin
        steps = np.concatenate([np.arange(0.0, 4.0, 0.125), 4.0 * 1.1 ** np.arange(120)]) * margin
        self._bounds = Bounds(np.concatenate([steps[steps < 1.0], [1.0]]), alpha)
        self._bets = 4.0 * margin * DISTANCES
        self._clusters = DesignEffect()
        self._last: tuple[Sketch, Sketch] = Sketch(), Sketch()
        self._edges: Floats = np.array([-math.inf])
        self._total: Floats = np.zeros(1)  # T for thresholds from this edge on, up to the next
        self._weight = 0.0
        self._probes: Floats = np.array([])
        self._probe_totals: Floats = np.array([])
        self._probe_weight = 0.0

    def look(self, stable: Sketch, candidate: Sketch) -> Comparison:
        """What is known after all answers so far, of both arms (cumulative; neither is kept or changed)."""
        counts = stable.count, candidate.count
        new = [count - last.count for count, last in zip(counts, self._last, strict=True)]
        if all(new):
            self._add(stable, candidate, new)
        exponent = self._clusters.exponent
        largest = float(np.abs(self._total).max())
        grid = self._bounds.grid[:, None]
        similar = log_mix(
            self._bets * (self._weight * grid - largest) - self._bets**2 * self._weight / 8.0, DISTANCE_WEIGHTS
        )
        self._bounds.add(similar * exponent, self._different(grid) * exponent)
        lower, upper = self._bounds.limits
        return Comparison(
            estimate=_largest_difference(stable, candidate) if all(counts) else 0.0,
            lower=lower,
            upper=upper,
            p_worse=self._bounds.p_at_most(0.0),
            p_inferior=self._bounds.p_at_least(self._margin),
            n_stable=counts[0],
            n_candidate=counts[1],
            design_effect=self._clusters.value,
        )

    def _different(self, grid: Floats) -> Floats:
        """The log evidence `[grid]` against "the largest difference is at most this", a mean over probes and sides."""
        if not len(self._probes):
            return np.zeros(len(grid))
        totals = np.concatenate([self._probe_totals, -self._probe_totals])[:, None, None]
        weight = self._probe_weight
        logs = log_mix(self._bets * (totals - weight * grid) - self._bets**2 * weight / 8.0, DISTANCE_WEIGHTS)
        return log_mix(logs.T, np.full(len(totals), 1.0 / len(totals)))

    def _add(self, stable: Sketch, candidate: Sketch, new: list[int]) -> None:
        """Add what the answers since the last look show, at every threshold that makes a difference."""
        edges = np.unique(np.concatenate([[-math.inf], stable.values, candidate.values]))
        self._total = self._total[np.searchsorted(self._edges, edges, side="right") - 1]
        self._edges = edges
        weight = new[0] * new[1] / (new[0] + new[1])
        self._total = self._total + weight * self._difference(stable, candidate, new, edges)
        self._weight += weight
        if len(self._probes):
            gained = weight * self._difference(stable, candidate, new, self._probes)
            before = self._probe_weight
            centre = self._probe_totals / before * weight if before else np.zeros(len(gained))
            pooled = (_upto(stable, self._probes) + _upto(candidate, self._probes)) / (stable.count + candidate.count)
            self._probe_totals = self._probe_totals + gained
            self._probe_weight += weight
            if before:
                self._clusters.add(gained - centre, weight * pooled * (1.0 - pooled) * (1.0 + weight / before))
        else:
            both = _copy(stable)
            both.merge(candidate)
            at = np.unique([both.quantile(rank / (PROBES + 1)) for rank in range(1, PROBES + 1)])
            self._probes = at[at < both.values[-1]] if len(both.values) > 1 else at
            self._probe_totals = np.zeros(len(self._probes))
        self._last = _copy(stable), _copy(candidate)

    def _difference(self, stable: Sketch, candidate: Sketch, new: list[int], at: Floats) -> Floats:
        """F_candidate - F_stable of the answers since the last look, at these thresholds."""
        shares = [
            (_upto(now, at) - _upto(last, at)) / count
            for now, last, count in zip((stable, candidate), self._last, new, strict=True)
        ]
        return shares[1] - shares[0]


def _copy(sketch: Sketch) -> Sketch:
    return Sketch(values=list(sketch.values), counts=list(sketch.counts))


def _upto(sketch: Sketch, at: Floats) -> Floats:
    """How many values are at most each threshold."""
    values, counts = sketch.arrays()
    ends: Floats = np.concatenate([[0.0], np.cumsum(counts)])
    return ends[np.searchsorted(values, at, side="right")]


def _largest_difference(stable: Sketch, candidate: Sketch) -> float:
    edges = np.unique(np.concatenate([stable.values, candidate.values]))
    return float(np.abs(_upto(candidate, edges) / candidate.count - _upto(stable, edges) / stable.count).max())
