"""Does the candidate fail more often than stable, and by how much? And is a share below a limit?

It knows counts only: `bad` of `n`. The invariant: the evidence is exact for every number of requests and every look,
down to no failure at all. No normal approximation, no correction for small counts.

Two arms. The hypothesis "candidate - stable ≥ g" is a half plane of pairs of probabilities (θ_stable, θ_candidate).
Against one alternative (a, b) the best evidence is the likelihood ratio with the point of that half plane that is
nearest to it in Kullback-Leibler divergence, weighted by the requests of either arm: it has an expected value of at
most 1 at every point of the half plane (Turner, Ly and Grünwald, Generic E-variables for exact sequential k-sample
tests, 2024; Turner and Grünwald, Exact anytime-valid confidence intervals for contingency tables and beyond, 2023:
the proof for a block of any size is in docs/gate-statistics.md). What a look adds is one such factor, whose alternative
is chosen by what was known before: the pooled rate so far, and a difference of 1/2, 1 or 2 margins from g, averaged.

One sample. exp(λ·bad - n·ln(1 - θ + θ·e^λ)) is evidence against "at most θ" for λ > 0 and "at least θ" for λ < 0 (Wald
1945; Howard et al. 2020), averaged over several λ (Robbins 1970).
"""

import math
from typing import Final

import numpy as np

from slipway_signals.gate.clustering import DesignEffect
from slipway_signals.gate.comparison import Bounds, Comparison, Floats, log_mix

__all__ = ["ProportionComparison", "ProportionLimit", "nearest_null"]

DISTANCES: Final = np.array([0.5, 1.0, 2.0])
"""How far an alternative is from the hypothesis, in margins."""

DISTANCE_WEIGHTS: Final = np.array([0.25, 0.5, 0.25])

FIRST_RATES: Final = np.geomspace(1e-4, 0.5, 12)
"""Pooled rates that the first look, which has no past, averages over."""

BETS: Final = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
"""Logarithms of odds ratios that are bet on where a share is compared with a limit."""

BET_WEIGHTS: Final = np.array([0.10, 0.25, 0.30, 0.25, 0.10])

HALVINGS: Final = 48
"""Of the interval in which the nearest point is searched: to 1e-14."""

EDGE: Final = 1e-9
"""Rates of an alternative are at least so far from 0 and 1, or one impossible event would end all betting."""


class ProportionComparison:
    """The difference of two shares, candidate less stable, in [-1, 1].

    Args:
        margin: the difference from which on the candidate is worse, 0 < margin < 1.
        alpha: probability that a bound is ever wrong, for each side.
        higher_is_worse: whether the share counts something bad (errors) or good (correct answers).
    """

    def __init__(self, margin: float, alpha: float, *, higher_is_worse: bool = True) -> None:
        self._margin = margin
        self._is_flipped = not higher_is_worse
        steps = np.concatenate([np.arange(0.0, 4.0, 0.125), 4.0 * 1.15 ** np.arange(80)]) * margin
        steps = np.concatenate([steps[steps < 1.0], [1.0]])
        grid = np.concatenate([-steps[:0:-1], steps])
        self._bounds = Bounds(grid, alpha)
        self._inner = grid[1:-1]  # a difference of exactly 1 is not excluded by anything
        self._logs = np.zeros((2, len(grid) - 2, len(DISTANCES)))
        self._clusters = DesignEffect()
        self._last = (0, 0, 0, 0)

    def look(self, stable: tuple[int, int], candidate: tuple[int, int]) -> Comparison:
        """What is known after all requests so far: `(bad, n)` of each arm, cumulative."""
        if self._is_flipped:
            stable, candidate = (stable[1] - stable[0], stable[1]), (candidate[1] - candidate[0], candidate[1])
        now = (*stable, *candidate)
        new = [at - before for at, before in zip(now, self._last, strict=True)]
        if any(bad > n for bad, n in (stable, candidate)) or not (0 <= new[0] <= new[1] and 0 <= new[2] <= new[3]):
            raise ValueError(f"expected cumulative (bad, n), got {stable} and {candidate} after {self._last}")
        if new[1] and new[3]:
            self._bet(*new)
            self._learn_clustering(now, new)
            self._last = now
        exponent = self._clusters.exponent
        logs = np.zeros((2, len(self._bounds.grid)))
        logs[:, 1:-1] = log_mix(self._logs, DISTANCE_WEIGHTS) * exponent
        logs[0, -1], logs[1, 0] = logs[0, -2], logs[1, 1]  # what is at least 1 is at least less than that
        self._bounds.add(logs[0], logs[1])
        lower, upper = self._bounds.limits
        estimate = candidate[0] / candidate[1] - stable[0] / stable[1] if stable[1] and candidate[1] else 0.0
        if self._is_flipped:
            estimate, lower, upper = -estimate, -upper, -lower
        return Comparison(
            estimate=estimate,
            lower=lower,
            upper=upper,
            p_worse=self._bounds.p_at_most(0.0),
            p_inferior=self._bounds.p_at_least(self._margin),
            n_stable=stable[1],
            n_candidate=candidate[1],
            design_effect=self._clusters.value,
        )

    def _bet(self, bad_stable: int, n_stable: int, bad_candidate: int, n_candidate: int) -> None:
        """Multiply the evidence by that of one look, with alternatives that the looks before it have chosen."""
        bad, n = self._last[0] + self._last[2], self._last[1] + self._last[3]
        rates = np.array([(bad + 0.5) / (n + 1.0)]) if n else FIRST_RATES
        share = n_candidate / (n_stable + n_candidate)
        sides = np.array([-1.0, 1.0])[:, None, None, None]  # against "at least g" one bets on less, then on more
        differences = self._inner[:, None, None]  # and [sides, differences, distances, rates] from here on
        wanted = differences + sides * DISTANCES[:, None] * self._margin
        least = -np.minimum(rates / (1.0 - share), (1.0 - rates) / share)
        most = np.minimum(rates / share, (1.0 - rates) / (1.0 - share))
        possible = np.clip(wanted, least, most)
        a = np.clip(rates - share * possible, EDGE, 1.0 - EDGE)
        b = np.clip(rates + (1.0 - share) * possible, EDGE, 1.0 - EDGE)
        null = nearest_null(a, b, differences, share)
        other = null + differences
        log = bad_stable * np.log(a / null) + (n_stable - bad_stable) * np.log1p((null - a) / (1.0 - null))
        log += bad_candidate * np.log(b / other) + (n_candidate - bad_candidate) * np.log1p((other - b) / (1.0 - other))
        log = np.where(sides * (b - a - differences) > 0.0, log, 0.0)
        self._logs += log_mix(log, np.full(len(rates), 1.0 / len(rates)))

    def _learn_clustering(self, now: tuple[int, ...], new: list[int]) -> None:
        last = self._last
        if not (last[1] and last[3]):
            return
        contrast = (new[2] / new[3] - new[0] / new[1]) - (last[2] / last[3] - last[0] / last[1])
        weight = 1.0 / new[1] + 1.0 / new[3]
        pooled = (now[0] + now[2]) / (now[1] + now[3])
        variance = pooled * (1.0 - pooled) * (weight + 1.0 / last[1] + 1.0 / last[3])
        self._clusters.add(np.array([contrast / weight]), np.array([variance / weight**2]))


def nearest_null(a: Floats, b: Floats, difference: Floats, share: float) -> Floats:
    """Stable's rate at the pair of rates with this difference that is nearest to (a, b) in divergence.

    It is where (1 - share)·(a - θ)/(θ(1 - θ)) + share·(b - θ - g)/((θ + g)(1 - θ - g)) = 0, which falls with θ (the
    derivative of the expected log likelihood; Farrington and Manning 1990 solve the same by a cubic).

    Args:
        a, b: rates of stable and candidate of the alternative, any shapes that broadcast.
        difference: g, candidate less stable.
        share: the candidate's part of the requests.
    """
    low = np.broadcast_to(np.maximum(0.0, -difference), np.broadcast_shapes(a.shape, difference.shape)).copy()
    high = np.broadcast_to(np.minimum(1.0, 1.0 - difference), low.shape).copy()
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        other = middle + difference
        slope = (1.0 - share) * (a - middle) * other * (1.0 - other) + share * (b - other) * middle * (1.0 - middle)
        is_left = slope > 0.0
        low, high = np.where(is_left, middle, low), np.where(is_left, high, middle)
    found: Floats = (low + high) / 2.0
    return found


class ProportionLimit:
    """A share against a limit: paired disagreement, malformed answers. Higher is worse.

    Args:
        limit: the share from which on it is too much, 0 < limit < 1.
        alpha: probability that a bound is ever wrong, for each side.
    """

    def __init__(self, limit: float, alpha: float) -> None:
        self._limit = limit
        logits = math.log(limit / (1.0 - limit)) + np.arange(-12.0, 12.0625, 0.0625)
        self._bounds = Bounds(1.0 / (1.0 + np.exp(-logits)), alpha)
        self._clusters = DesignEffect()
        self._last = (0, 0)

    def look(self, bad: int, n: int) -> Comparison:
        """What is known after all so far, cumulative: `p_worse` of "at most the limit", `p_inferior` of "at least"."""
        if not (self._last[0] <= bad <= n and n - bad >= self._last[1] - self._last[0]):
            raise ValueError(f"expected cumulative counts, got {bad} of {n} after {self._last[0]} of {self._last[1]}")
        new_bad, new = bad - self._last[0], n - self._last[1]
        if new and self._last[1]:
            past = self._last[0] / self._last[1]
            variance = bad / n * (1.0 - bad / n) * new * (1.0 + new / self._last[1])
            self._clusters.add(np.array([new_bad - new * past]), np.array([variance]))
        self._last = (bad, n)
        exponent = self._clusters.exponent
        at_least, at_most = (share_evidence(bad, n, self._bounds.grid, sign) * exponent for sign in (-1.0, 1.0))
        self._bounds.add(at_least, at_most)
        lower, upper = self._bounds.limits
        return Comparison(
            estimate=bad / n if n else 0.0,
            lower=lower if lower > self._bounds.grid[0] else 0.0,
            upper=upper if upper < self._bounds.grid[-1] else 1.0,
            p_worse=self._bounds.p_at_most(self._limit),
            p_inferior=self._bounds.p_at_least(self._limit),
            n_stable=n,
            n_candidate=n,
            design_effect=self._clusters.value,
        )


def share_evidence(bad: int, n: int, shares: Floats, sign: float) -> Floats:
    """The log evidence `[k]` of `bad` of `n` against "at most `shares[k]`" (sign +1) or "at least" (sign -1)."""
    bets = sign * BETS
    return log_mix(bets * bad - n * np.log1p(shares[:, None] * np.expm1(bets)), BET_WEIGHTS)
