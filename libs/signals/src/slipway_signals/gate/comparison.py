"""What every comparison of the gate answers, and the arithmetic of evidence that they share.

Evidence against a hypothesis is a number whose expected value is at most 1 at every look where the hypothesis is true
(an e-process). By Ville's inequality the chance that it ever reaches 1/α is at most α, so whoever looks may look as
often as he likes and stop when he likes. All evidence here is kept as its natural logarithm. The invariants: the
largest evidence so far is what counts (a bound never moves back), and a number that is not known is a wide bound,
never NaN. Nothing here knows where the evidence comes from.

Sources: Ville, Étude critique de la notion de collectif (1939); Ramdas, Grünwald, Vovk and Shafer, Game-theoretic
statistics and safe anytime-valid inference (Statistical Science 2023); Howard, Ramdas, McAuliffe and Sekhon,
Time-uniform, nonparametric, nonasymptotic confidence sequences (Annals of Statistics 2021).
"""

import math
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

__all__ = ["SMALLEST_P", "Bounds", "Comparison", "Floats", "log_mix", "p_value"]

Floats = NDArray[np.float64]

SMALLEST_P: Final = 1e-12
"""No p-value is told below it."""


class Comparison(Struct, frozen=True, kw_only=True):
    """What is known of one metric after a look; every number holds at all looks at once."""

    estimate: float
    """Candidate less stable, or candidate over stable; the neutral value (0 or 1) while an arm has no data."""

    lower: float
    """It is at least this, wrong with at most the probability alpha."""

    upper: float
    """It is at most this, wrong with at most the probability alpha."""

    p_worse: float
    """Anytime-valid p-value of "the candidate is no worse than stable"; small: it is worse."""

    p_inferior: float
    """Anytime-valid p-value of "the candidate is worse by the margin or more"; small: it is not."""

    n_stable: int
    n_candidate: int
    """What was compared: requests, pairs or blocks."""

    design_effect: float = 1.0
    """How many requests told as much as one independent request would: at least 1 (`clustering`)."""


def log_mix(logs: Floats, weights: Floats) -> Floats:
    """The logarithm of a weighted mean of evidence, over the last axis `[…, k]`, weights `[k]` of sum 1.

    A mean of e-processes with fixed weights is one again: how several alternatives are tried at once (Robbins 1970).
    """
    top = logs.max(axis=-1)
    found: Floats = top + np.log(np.exp(logs - top[..., None]) @ weights)
    return found


def p_value(log_evidence: float) -> float:
    """The anytime-valid p-value of evidence: 1 over the largest so far, between `SMALLEST_P` and 1."""
    return min(1.0, max(SMALLEST_P, math.exp(-max(log_evidence, 0.0))))


class Bounds:
    """Which values of an unknown number are left, of a grid of possible ones.

    Args:
        grid: the possible values `[k]`, ascending.
        alpha: probability that a bound is ever wrong, for each side.
    """

    def __init__(self, grid: Floats, alpha: float) -> None:
        self.grid = grid
        self._needed = -math.log(alpha)
        self._at_least = np.zeros(len(grid))
        self._at_most = np.zeros(len(grid))

    def add(self, at_least: Floats, at_most: Floats) -> None:
        """Take the log evidence `[k]` against "the number is at least `grid[i]`", and against "is at most"."""
        np.maximum(self._at_least, at_least, out=self._at_least)
        np.maximum(self._at_most, at_most, out=self._at_most)

    @property
    def limits(self) -> tuple[float, float]:
        """The lower and upper bound; ends of the grid where nothing is excluded yet.

        They meet in the middle if they ever crossed, which happens when the arms change during a run.
        """
        kept = np.flatnonzero(self._at_least < self._needed)
        above = min(kept[-1] + 1, len(self.grid) - 1) if len(kept) else 0
        kept = np.flatnonzero(self._at_most < self._needed)
        below = max(kept[0] - 1, 0) if len(kept) else len(self.grid) - 1
        lower, upper = float(self.grid[below]), float(self.grid[above])
        return (lower, upper) if lower <= upper else ((lower + upper) / 2.0,) * 2

    def p_at_least(self, value: float) -> float:
        """The p-value of "the number is at least `value`", a value of the grid."""
        return p_value(float(self._at_least[self._place(value)]))

    def p_at_most(self, value: float) -> float:
        """The p-value of "the number is at most `value`", a value of the grid."""
        return p_value(float(self._at_most[self._place(value)]))

    def _place(self, value: float) -> int:
        place = int(np.argmin(np.abs(self.grid - value)))
        if not math.isclose(self.grid[place], value, rel_tol=1e-9, abs_tol=1e-12):
            raise ValueError(f"{value!r} is not in the grid: this is a bug in slipway")
        return place
