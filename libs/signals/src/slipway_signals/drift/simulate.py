"""Months of drift in seconds: how often the alerts are wrong, and how often they see a shift.

It draws the counts that a service would have counted and judges them with `stats` by the rules of `alerts`, evaluation
by evaluation. The invariant: what is simulated is what is recorded; `rules` has the same formulas, tested against
`stats` by promtool. Rows are independent here. Traffic that repeats itself, or that has hours, is not: see docs.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipway_signals.drift.promql import Thresholds
from slipway_signals.drift.stats import FLOOR, chi2_critical, ks_critical

__all__ = ["EVERY", "Watched", "alerts_in", "is_drifted", "numeric", "shifted"]

EVERY: Final = 12
"""Evaluations an hour that are simulated, each with the window of the last hour; the rules evaluate every minute."""


class Watched(Struct, frozen=True):
    """One feature, or the predictions: the share of each bin, bins in order; the last is `missing`."""

    reference: tuple[float, ...]
    """Of the reference sample, as it was counted."""

    truth: tuple[float, ...]
    """Of what is served."""

    floor: float
    """PSI that is material."""

    hours: int
    """Length of `for`."""

    tests: int
    """That share the level."""


def numeric(
    sample: int, draw: np.random.Generator, *, missing: float = 0.0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A number's reference, counted in a sample of so many rows, and the true shares of its bins.

    The cuts are the sample's own quantiles: its shares are equal, and the truth is what the population has between them
    (uniform spacings: the shares between order statistics are Dirichlet).
    """
    inner = draw.dirichlet([sample / 10.0] * 10) * (1.0 - missing)
    ends = draw.dirichlet([1.0, 1.0, float(sample)])[:2]  # beyond the sample's smallest and largest
    truth = np.concatenate([[ends[0]], inner * (1.0 - ends.sum()), [ends[1]], [missing]])
    known = draw.binomial(sample, missing) / sample
    reference = (0.0, *[(1.0 - known) / 10.0] * 10, 0.0, known)
    return reference, tuple((truth / truth.sum()).tolist())


def shifted(truth: Sequence[float], psi: float) -> tuple[float, ...]:
    """Shares tilted along their order (a location shift) so that their PSI against `truth` is this; bisection."""
    base = np.asarray(truth)
    slope = np.linspace(-1.0, 1.0, len(base))
    low, high = 0.0, 10.0
    tilted = base
    for _ in range(60):
        middle = (low + high) / 2.0
        tilted = base * np.exp(middle * slope)
        tilted /= tilted.sum()
        held, seen = np.maximum(tilted, FLOOR), np.maximum(base, FLOOR)
        low, high = (middle, high) if float(((held - seen) * np.log(held / seen)).sum()) < psi else (low, middle)
    return tuple(tilted.tolist())


def is_drifted(watched: Watched, counts: NDArray[np.float64], sample: int, limits: Thresholds) -> NDArray[np.bool_]:
    """Whether each window `[windows, bins]` of counts is significant and material."""
    rows = counts.sum(axis=1)
    safe = np.maximum(rows, 1.0)
    reference = np.asarray(watched.reference)
    current = counts / safe[:, None]
    c, r = np.maximum(current, FLOOR), np.maximum(reference, FLOOR)
    psi = ((c - r) * np.log(c / r)).sum(axis=1)
    ks = np.abs(np.cumsum(current - reference, axis=1)).max(axis=1)
    weight = 1.0 / safe + 1.0 / sample
    tail = limits.level / 2.0 / watched.tests
    degrees = max(1, int((reference > 0).sum()) - 1)
    by_psi = (psi >= watched.floor) & (psi / weight > chi2_critical(degrees, tail))
    # ks_critical for one row and a reference without end, times the root of the weight: the same formula, vectorised
    by_ks = (ks >= limits.ks) & (ks > ks_critical(1.0, np.inf, tail) * np.sqrt(weight))
    drifted: NDArray[np.bool_] = (by_psi | by_ks) & (rows >= limits.rows)
    return drifted


def alerts_in(
    watched: Watched, rows_an_hour: float, hours: int, sample: int, draw: np.random.Generator, limits: Thresholds
) -> int:
    """How many times the alert begins to fire in so many hours of independent rows."""
    lam = np.asarray(watched.truth) * rows_an_hour / EVERY
    steps = draw.poisson(lam, size=(hours * EVERY, len(lam))).astype(np.float64)
    totals = np.vstack([np.zeros(len(lam)), np.cumsum(steps, axis=0)])
    windows = totals[EVERY:] - totals[:-EVERY]
    drifted = is_drifted(watched, windows, sample, limits)
    length = watched.hours * EVERY + 1
    if len(drifted) < length:
        return 0
    run = np.convolve(drifted, np.ones(length), "valid") >= length - 0.5
    return int(run[0]) + int((run[1:] & ~run[:-1]).sum())
