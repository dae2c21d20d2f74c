"""The metrics of capture and of labels; `metrics` lists them with all others.

How complete capture is (M14) has two questions. Of what was to be stored, how much was: an SLI without noise,
`records{result="written"}` over `records{result!="sampled_out"}`. Of all predictions, how much is stored: written over
predictions × `rate`, which moves by chance while there are few. Both are written out in `docs/capture.md`.
"""

from typing import Final

from slipway_signals.slotfile import Metric

__all__ = ["ALL", "CAPTURE_BYTES", "CAPTURE_RATE", "CAPTURE_RECORDS", "CLOCK_DOUBTED", "RESULTS"]

RESULTS: Final = ("written", "dropped", "sampled_out", "failed")
COVERAGE_DAYS: Final = (1, 7, 30)
LAG_SECONDS: Final = (
    60.0,
    600.0,
    3_600.0,
    21_600.0,
    86_400.0,
    259_200.0,
    604_800.0,
    1_209_600.0,
    2_592_000.0,
    7_776_000.0,
)
"""A minute to 90 days: labels come by event, by batch, or with the next invoice."""

CAPTURE_RECORDS: Final = Metric(
    "slipway_capture_records_total",
    "counter",
    "Requests by what capture did: written, dropped (no room to wait), failed (no disk), sampled_out.",
    ("model", "result"),
)
CAPTURE_BYTES: Final = Metric("slipway_capture_bytes_total", "counter", "Bytes that capture wrote.", ("model",))
CAPTURE_RATE: Final = Metric(
    "slipway_capture_rate_ratio", "gauge", "Share of a model's requests that is captured.", ("model",), merge="max"
)
CLOCK_DOUBTED: Final = Metric(
    "slipway_capture_clock_doubted_total",
    "counter",
    "Compactions that kept what is too old by a clock that has jumped.",
)
REALIZED: Final = Metric(
    "slipway_prediction_realized_total",
    "counter",
    "Captured predictions whose label came, by outcome; a correction adds its new outcome.",
    ("model", "outcome"),
)
RETRACTED: Final = Metric(
    "slipway_prediction_retracted_total",
    "counter",
    "Outcomes that a corrected label took back; realized less retracted is what is true now.",
    ("model", "outcome"),
)
LABEL_LAG: Final = Metric(
    "slipway_label_lag_seconds",
    "histogram",
    "Time from a prediction to the observation of its label.",
    ("model",),
    LAG_SECONDS,
)
LABEL_COVERAGE: Final = Metric(
    "slipway_label_coverage_ratio",
    "gauge",
    "Share of the captured predictions of the last 1, 7 and 30 days that have a label.",
    ("model", "days"),
)

ALL: Final = (
    *(CAPTURE_RECORDS, CAPTURE_BYTES, CAPTURE_RATE, CLOCK_DOUBTED),
    *(REALIZED, RETRACTED, LABEL_LAG, LABEL_COVERAGE),
)
"""Every definition, in the order of the reference page."""
