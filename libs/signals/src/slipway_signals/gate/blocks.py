"""Few, noisy values of whole blocks of time: CPU per request, cost, throughput. Is the candidate's typically larger?

It knows pairs of positive numbers, one of each arm from the same block of seconds, so that what disturbs both arms
(a neighbour on the machine, the hour) cancels in their ratio. The invariant: no normality, no known variance; only
that the logarithm of the ratio is as likely so much above its centre as below, whatever came before. Where the arms
are equal that holds of itself: stable and candidate could be exchanged.

If x is symmetric about a centre of at most zero, the mean of 1 + tanh(λx) is at most 1, and the product over blocks is
evidence (the exponential form of a sign test; de la Peña, Annals of Probability 1999; Ramdas et al., Admissible
anytime-valid sequential inference, 2020). Several λ are tried at once, their evidence averaged (Robbins 1970), from a
sign test for noise far below the margin to a mean for noise far above it. A block at most doubles the evidence: at
alpha 5 % nothing is decided before the fifth.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from slipway_signals.gate.comparison import Bounds, Comparison, log_mix

__all__ = ["BlockComparison"]

BETS: Final = np.array([0.125, 0.5, 2.0, 8.0])
"""λ, as multiples of 1 / ln(margin_ratio)."""

BET_WEIGHTS: Final = np.array([0.25, 0.25, 0.25, 0.25])

LN_2: Final = math.log(2.0)
"""ln(1 + tanh x) is ln 2 - ln(1 + exp(-2x)), without a logarithm of zero."""

WIDEST: Final = 100.0
"""A ratio is not known to be less than this, or more than 1 over it, until it is."""


class BlockComparison:
    """The typical ratio of block values, candidate over stable.

    Args:
        margin_ratio: the ratio from which on the candidate is worse: 1.1 is "10 % more"; for a throughput, of which
            less is worse, below 1: 0.95.
        alpha: probability that a bound is ever wrong, for each side.
    """

    def __init__(self, margin_ratio: float, alpha: float) -> None:
        if margin_ratio <= 0.0 or margin_ratio == 1.0:
            raise ValueError(f"expected a positive ratio other than 1, got {margin_ratio!r}")
        self._is_lower_worse = margin_ratio < 1.0
        size = abs(math.log(margin_ratio))
        steps = np.concatenate([np.arange(0.0, 4.0, 0.125), 4.0 * 1.15 ** np.arange(60)]) * size
        steps = steps[steps < math.log(WIDEST)]
        self._logs = np.concatenate([-steps[:0:-1], steps])
        self._bounds = Bounds(np.exp(self._logs), alpha)
        self._bets = BETS / size
        self._margin_ratio = margin_ratio

    def look(self, blocks: Sequence[tuple[float, float]]) -> Comparison:
        """What is known after all blocks so far: `(stable, candidate)` of each, in their order, cumulative.

        Blocks in which either is zero or less say nothing about a ratio and are left out.
        """
        found = np.array([math.log(b / a) for a, b in blocks if a > 0.0 and b > 0.0])
        if len(found):
            scaled = self._bets * (found[:, None, None] - self._logs[:, None])  # [blocks, grid, bets]
            # log(1 + tanh x), which is far below what log1p(tanh(x)) can hold when a bet is lost
            sides = [(math.log(2.0) - np.logaddexp(0.0, -2.0 * sign * scaled)).sum(axis=0) for sign in (-1.0, 1.0)]
            self._bounds.add(*(log_mix(side, BET_WEIGHTS) for side in sides))
        lower, upper = self._bounds.limits
        worse, inferior = self._bounds.p_at_most(1.0), self._bounds.p_at_least(self._margin_ratio)
        if self._is_lower_worse:
            worse, inferior = self._bounds.p_at_least(1.0), self._bounds.p_at_most(self._margin_ratio)
        return Comparison(
            estimate=math.exp(float(np.median(found))) if len(found) else 1.0,
            lower=lower,
            upper=upper,
            p_worse=worse,
            p_inferior=inferior,
            n_stable=len(found),
            n_candidate=len(found),
        )
