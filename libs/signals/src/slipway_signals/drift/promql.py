"""Pieces of PromQL that the rules of drift are made of.

No rule is written here. The invariant: each function gives the expression of the function of the same name in `stats`.
"""

import math
from typing import Final

from msgspec import Struct

from slipway_signals.drift.stats import FLOOR

__all__ = [
    "MODEL",
    "Thresholds",
    "chi2_critical",
    "joined",
    "ks_critical",
    "normal_critical",
    "per",
    "psi",
    "share_of",
    "wilson",
]

MODEL: Final = ("service", "track", "model")
"""What a series of drift belongs to; `track` is empty where targets have none."""


class Thresholds(Struct, frozen=True, kw_only=True):
    """When drift is said to be."""

    level: float = 0.01
    """Probability of a false word about any feature in a window: half for PSI, half for KS, split over the features."""

    prediction_psi: float = 0.05
    """Material for the predictions."""

    feature_psi: float = 0.1
    """Material for a feature: twice as much, because a feature may move without moving an answer."""

    ks: float = 0.1
    """Material for either: the largest difference of the cumulative shares."""

    rows: float = 500.0
    """Effective rows in a window below which nothing is said: below 5 rows a bin the chi-square is wrong."""

    labels: float = 100.0
    """The same for labels that came in a day."""

    defects: float = 0.01
    """Share of rows, beyond the reference's, that are missing, out of range or unseen."""

    accuracy: float = 0.05
    """How far below the reference sample's the accuracy may fall."""

    z: float = 3.0
    """Standard deviations of the bounds on accuracy."""

    z_defects: float = 4.0
    """The same for defects: of 50 features, and without a floor that grows as the rows get fewer."""


def per(*labels: str) -> str:
    """`by` clause of a model's labels and these."""
    return f"by ({', '.join((*MODEL, *labels))})"


def joined(*labels: str) -> str:
    """`on` clause for a vector with more labels on the left."""
    return f"on ({', '.join((*MODEL, *labels))}) group_left ()"


def share_of(rate: str, *labels: str) -> str:
    """Each series of `rate` as a share of all with the same model and `labels`; absent where nothing was counted."""
    return f"{rate}\n/ {joined(*labels)} (sum {per(*labels)} ({rate}) > 0)"


def psi(current: str, reference: str) -> str:
    """The terms of PSI, one a bin; both have the same labels."""
    c, r = f"clamp_min({current}, {FLOOR:g})", f"clamp_min({reference}, {FLOOR:g})"
    return f"({c} - {r})\n* ln({c} / {r})"


def normal_critical(tail: str) -> str:
    """z for the tail probability that an expression gives."""
    t = f"sqrt(-2 * ln({tail}))"
    above = f"2.515517 + 0.802853 * {t} + 0.010328 * {t} ^ 2"
    below = f"1 + 1.432788 * {t} + 0.189269 * {t} ^ 2 + 0.001308 * {t} ^ 3"
    return f"{t} - ({above}) / ({below})"


def chi2_critical(degrees: str, z: str, *, times: str = "*") -> str:
    """The critical value for degrees of freedom and z, both expressions; `times` joins a z of fewer labels."""
    step = f"(2 / (9 * {degrees}))"
    return f"{degrees} * (1 - {step} + sqrt({step}) {times} {z}) ^ 3"


def ks_critical(tail: str | float, weight: str) -> str:
    """The critical difference; `weight` is 1/n + 1/m, with the labels of `tail`."""
    if isinstance(tail, float):
        return f"sqrt({-math.log(tail / 2) / 2!r} * {weight})"  # ln() takes no scalar
    return f"sqrt(-ln({tail} / 2) / 2 * {weight})"


def wilson(share: str, rows: str, z: float, sign: str) -> str:
    """A bound of the probability behind `share` of `rows` (equal labels): the lower for `-`, the upper for `+`."""
    half = f"{z:g} * sqrt({share} * (1 - {share}) / {rows} + {z * z / 4:g} / {rows} ^ 2)"
    return f"({share} + {z * z / 2:g} / {rows} {sign} {half})\n/ (1 + {z * z:g} / {rows})"
