"""The metrics of traces and logs: what telemetry itself costs and loses. Wired into `metrics.ALL`.

What is lost counts in `slipway_telemetry_dropped_total` (metrics.TELEMETRY_DROPPED) under `traces` and `logs`.
"""

from typing import Final

from slipway_signals.slotfile import Metric

__all__ = ["ALL", "DROPPED_LOGS", "DROPPED_TRACES", "TRACES_EXPORTED", "TRACES_EXPORT_FAILURES", "TRACES_KEPT"]

DROPPED_TRACES: Final = "traces"
"""Requests whose trace was to be kept and was not exported: no room, or the collector did not take it."""
DROPPED_LOGS: Final = "logs"
"""Log lines that were not written: over the rate, or whoever reads them does not."""

TRACES_KEPT: Final = Metric(
    "slipway_traces_kept_total",
    "counter",
    "Requests whose trace is kept, by reason: sampled, error, slow.",
    ("reason",),
)
TRACES_EXPORTED: Final = Metric(
    "slipway_trace_spans_exported_total", "counter", "Spans that the trace collector has taken."
)
TRACES_EXPORT_FAILURES: Final = Metric(
    "slipway_trace_export_failures_total", "counter", "Exports that the trace collector did not take."
)

ALL: Final = (TRACES_KEPT, TRACES_EXPORTED, TRACES_EXPORT_FAILURES)
