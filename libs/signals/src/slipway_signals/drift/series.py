"""The series of one model's drift: which there are, made once.

It counts nothing. The invariant: every series is there from the start at 0 (a counter that is born at 1 is invisible to
`rate`), none is added later, and features and bins are those of the profile.
"""

from collections.abc import Sequence
from typing import Final

from slipway_signals import metrics_drift as metrics
from slipway_signals.drift.profile import Feature, Profile
from slipway_signals.slots import Counter, Slots

__all__ = ["MAX_SERIES", "Series", "that_fit"]

MAX_SERIES: Final = 1_000
"""Of `slipway_feature_bin_total`, a model; the reference shares are as many again. 50 features of 13 bins take 650."""


class Series:
    """Handles of one model, and its reference as gauges.

    Args:
        slots: Where they live.
        model: The model's name.
        profile: Its reference profile.
        features: Those that are counted.
    """

    def __init__(self, slots: Slots, model: str, profile: Profile, features: Sequence[Feature]) -> None:
        self.rows: Final = slots.counter(metrics.DRIFT_ROWS, model)
        self.squares: Final = slots.counter(metrics.DRIFT_SQUARES, model)
        self.features: list[Counter] = []
        """One a bin, feature by feature."""
        self.prediction: list[Counter] = []
        self.expected: list[Counter] = []
        slots.gauge(metrics.FEATURES_DROPPED, model).set(len(profile.features) - len(features))
        slots.gauge(metrics.FEATURE_REFERENCE_ROWS, model).set(profile.rows)
        for feature in features:
            for label, count in zip(feature.bins, feature.bin_counts, strict=True):
                self.features.append(slots.counter(metrics.FEATURE_BIN, model, feature.name, label))
                share = count / profile.rows
                slots.gauge(metrics.FEATURE_REFERENCE_SHARE, model, feature.name, label).set(share)
        prediction = profile.prediction
        if prediction is None:
            return
        slots.gauge(metrics.PREDICTION_REFERENCE_ROWS, model).set(prediction.rows)
        for label, count in zip(prediction.feature.bins, prediction.feature.bin_counts, strict=True):
            self.prediction.append(slots.counter(metrics.PREDICTION_BIN, model, label))
            slots.gauge(metrics.PREDICTION_REFERENCE_SHARE, model, label).set(count / prediction.rows)
        if prediction.calibrator is not None:
            self.expected += [slots.counter(metrics.PREDICTION_EXPECTED, model, one) for one in metrics.OUTCOMES]
        if prediction.outcomes is not None:
            labelled = sum(prediction.outcomes)
            for outcome, count in zip(metrics.OUTCOMES, prediction.outcomes, strict=True):
                slots.gauge(metrics.PREDICTION_REFERENCE_OUTCOME, model, outcome).set(count / labelled)


def that_fit(features: Sequence[Feature], max_series: int) -> tuple[Feature, ...]:
    """The first features whose bins together are at most `max_series`."""
    kept: list[Feature] = []
    left = max_series
    for feature in features:
        left -= len(feature.bins)
        if left < 0:
            break
        kept.append(feature)
    return tuple(kept)
