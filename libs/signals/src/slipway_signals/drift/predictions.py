"""Answers to counts a bin, and to the outcomes that their calibrated probabilities expect.

It keeps nothing. The invariant: an answer without a number or a known word is counted too, as `missing` or `unseen`.

Confidence-based performance estimation (CBPE): a calibrated probability p that is said to be true is right with
probability p. Valid while the inputs change and the relation of label to input does not (covariate shift); when that
relation changes, the estimate stays where it was, and only labels tell. Source: NannyML's documentation, "How CBPE
works"; Guillory et al., Predicting with Confidence on Unseen Distributions (ICCV 2021).
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_signals.drift.calibration import calibrate
from slipway_signals.drift.profile import Categorical, Feature, Prediction, compute_dtype

__all__ = ["count_predictions", "expected_outcomes"]


def count_predictions(feature: Feature, values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Rows in each bin of the prediction, and the finite scores, None when it is no number.

    Args:
        feature: The prediction.
        values: `[n]`, of whatever type the model gives.
    """
    counts = np.zeros(len(feature.bins), dtype=np.int64)
    if isinstance(feature, Categorical):
        place = {word: at for at, word in enumerate(feature.values)} | dict.fromkeys(feature.others, -3)
        for word, rows in Counter(map(_word, values.tolist())).items():
            counts[-1 if word is None else place.get(word, -2)] += rows
        return counts, None
    try:
        with np.errstate(over="ignore"):
            scores = values.astype(compute_dtype(feature.datatype)).astype(np.float64)
    except (TypeError, ValueError):
        scores = np.full(len(values), np.nan)
    scores = scores[np.isfinite(scores)]
    places = np.searchsorted(np.array(feature.thresholds), scores, side="left")
    counts += np.bincount(places, minlength=len(counts))
    counts[-1] += len(values) - len(scores)
    return counts, scores


def expected_outcomes(prediction: Prediction, scores: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Expected true positives, false positives, false negatives, true negatives among finite scores `[n]`."""
    probabilities = calibrate(prediction.calibrator, scores)
    said = scores >= prediction.threshold
    tp, fn = float(probabilities[said].sum()), float(probabilities[~said].sum())
    positives = int(said.sum())
    return tp, max(0.0, positives - tp), fn, max(0.0, len(scores) - positives - fn)


def _word(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    inner = getattr(value, "value", None)  # a member of an Enum
    return inner if isinstance(inner, str) else None
