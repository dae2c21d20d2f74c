"""The metrics of drift: how rows and predictions fall into the bins of the training sample. Nothing is measured here.

`metrics.ALL` includes these. Cardinality is bounded by the reference profile: features and bins are named when the
model is trained, never by a request, and `DriftCounters` takes at most `max_series` of them.

Counters are weighted: above 500 rows/s one row in k is looked at and counts k. `slipway_drift_rows_total` is the sum of
the weights and `slipway_drift_squared_weights_total` that of their squares, so that rules know the effective number of
rows, (Σw)²/Σw² (Kish, Survey Sampling, 1965).
"""

from typing import Final

from slipway_signals.slotfile import Metric

__all__ = ["ALL", "OUTCOMES"]

OUTCOMES: Final = ("tp", "fp", "fn", "tn")
"""Of a binary prediction against its label; those of `slipway_prediction_realized_total` too."""

FEATURE_BIN: Final = Metric(
    "slipway_feature_bin_total",
    "counter",
    "Rows by the bin of the reference profile that a feature's value fell into.",
    ("model", "feature", "bin"),
)
PREDICTION_BIN: Final = Metric(
    "slipway_prediction_bin_total",
    "counter",
    "Rows by the bin of the reference profile that the prediction fell into.",
    ("model", "bin"),
)
PREDICTION_EXPECTED: Final = Metric(
    "slipway_prediction_expected_total",
    "counter",
    "Rows by the outcome that the calibrated probability expects (tp, fp, fn, tn); each row is split over two of them.",
    ("model", "outcome"),
)
DRIFT_ROWS: Final = Metric(
    "slipway_drift_rows_total",
    "counter",
    "Rows that the drift counters stand for: the sum of their weights.",
    ("model",),
)
DRIFT_SQUARES: Final = Metric(
    "slipway_drift_squared_weights_total",
    "counter",
    "Sum of the squared weights of the rows in the drift counters; 1 a row where nothing is sampled.",
    ("model",),
)
FEATURES_DROPPED: Final = Metric(
    "slipway_drift_features_dropped",
    "gauge",
    "Features of the reference profile that are not counted, because their series would pass the limit.",
    ("model",),
    merge="max",
)
FEATURE_REFERENCE_SHARE: Final = Metric(
    "slipway_feature_reference_share",
    "gauge",
    "Share of the reference sample in each bin of a feature.",
    ("model", "feature", "bin"),
    merge="max",
)
FEATURE_REFERENCE_ROWS: Final = Metric(
    "slipway_feature_reference_rows", "gauge", "Rows of the reference sample.", ("model",), merge="max"
)
PREDICTION_REFERENCE_SHARE: Final = Metric(
    "slipway_prediction_reference_share",
    "gauge",
    "Share of the reference predictions in each bin.",
    ("model", "bin"),
    merge="max",
)
PREDICTION_REFERENCE_ROWS: Final = Metric(
    "slipway_prediction_reference_rows", "gauge", "Predictions in the reference sample.", ("model",), merge="max"
)
PREDICTION_REFERENCE_OUTCOME: Final = Metric(
    "slipway_prediction_reference_outcome_share",
    "gauge",
    "Share of the labelled reference predictions with each outcome (tp, fp, fn, tn).",
    ("model", "outcome"),
    merge="max",
)

ALL: Final = (
    *(FEATURE_BIN, PREDICTION_BIN, PREDICTION_EXPECTED, DRIFT_ROWS, DRIFT_SQUARES, FEATURES_DROPPED),
    *(FEATURE_REFERENCE_SHARE, FEATURE_REFERENCE_ROWS),
    *(PREDICTION_REFERENCE_SHARE, PREDICTION_REFERENCE_ROWS, PREDICTION_REFERENCE_OUTCOME),
)
"""Every definition, in the order of the reference page."""
