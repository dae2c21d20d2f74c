"""From a model's score to the probability that the label is true: isotonic, as a short table.

It judges no model. The invariant: the table ascends, so a larger score never becomes a smaller probability.

Source: Barlow et al., Statistical Inference under Order Restrictions (1972): pool adjacent violators. Zadrozny and
Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates (KDD 2002).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipway_signals.drift.profile import Calibrator

__all__ = ["POINTS", "calibrate", "fit_calibrator"]

POINTS: Final = 32
"""Of the table: with more, the steps of 10,000 labels are noise."""


def fit_calibrator(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> Calibrator:
    """The calibrator of scores `[n]` whose labels `[n]` are known; `O(n log n)`. Scores are finite, n >= 1."""
    order = np.argsort(scores, kind="stable")
    ordered, hits = scores[order], labels[order].astype(np.float64)
    unique, starts = np.unique(ordered, return_index=True)  # equal scores have one probability
    weights = np.diff(np.append(starts, len(ordered))).astype(np.float64)
    x, y, w = _pool(unique, np.add.reduceat(hits, starts) / weights, weights)
    x, y = _shorten(x, y, w)
    ascends = np.append(True, np.diff(x) > 0.0)  # means of scores near 1e-320 may round to one
    x, y = x[ascends], y[ascends]
    return Calibrator(
        scores=tuple(x.tolist()), probabilities=tuple(np.maximum.accumulate(np.clip(y, 0.0, 1.0)).tolist())
    )


def calibrate(calibrator: Calibrator | None, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of scores `[n]`; without a calibrator the scores are taken for probabilities, cut to 0 to 1."""
    if calibrator is None:
        return np.clip(scores, 0.0, 1.0)
    return np.interp(scores, calibrator.scores, calibrator.probabilities)


_Column = NDArray[np.float64]


def _pool(x: _Column, y: _Column, w: _Column) -> tuple[_Column, _Column, _Column]:
    """Blocks of equal fitted value: weighted mean of the scores, fitted value, weight."""
    blocks: list[tuple[float, float, float]] = []
    for score, value, weight in zip(x.tolist(), y.tolist(), w.tolist(), strict=True):
        block = (score, value, weight)
        while blocks and blocks[-1][1] >= block[1]:
            block = _merged(blocks.pop(), block)
        blocks.append(block)
    columns = np.array(blocks).T
    return columns[0], columns[1], columns[2]


def _merged(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    weight = one[2] + other[2]
    share = other[2] / weight
    return one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share, weight


def _shorten(x: _Column, y: _Column, w: _Column) -> tuple[_Column, _Column]:
    """At most `POINTS` blocks: neighbours that share the rows evenly become one."""
    if len(x) <= POINTS:
        return x, y
    middle = np.cumsum(w) - w / 2.0
    group = np.minimum((middle / w.sum() * POINTS).astype(np.int64), POINTS - 1)
    weight = np.bincount(group, w, POINTS)
    kept = weight > 0
    return (
        np.bincount(group, w * x, POINTS)[kept] / weight[kept],
        np.bincount(group, w * y, POINTS)[kept] / weight[kept],
    )
