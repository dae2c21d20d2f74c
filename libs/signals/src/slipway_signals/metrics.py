"""Every metric of slipway: its name, unit, labels, buckets and what it means. Nothing is measured here.

No other module but its parts (`metrics_access`, `metrics_drift`, `metrics_capture`, `metrics_traces`, `metrics_split`)
may define a metric, so this page is the reference, and cardinality is bounded where it is written: a label's values
come from a closed set (routes, models) or from slipway's own code (reasons), never from a request.
Names are OpenTelemetry's where those are stable, in their Prometheus translation, and `slipway_…` for the rest.

Source: OpenTelemetry semantic conventions 1.44 (HTTP server metrics), in their Prometheus translation.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from slipway_signals import metrics_access, metrics_capture, metrics_drift, metrics_split, metrics_traces
from slipway_signals.slotfile import Metric

__all__ = [
    "ALL",
    "ROUTE_UNMATCHED",
    "SECONDS",
    "Metric",
    "with_thresholds",
]

EXPECTED: Final = (200, 422, 429, 500, 503, 504)
"""Statuses of a service's own routes that are shown before they happen: a counter that is born at 1 has no increase."""
ROUTE_UNMATCHED: Final = "unmatched"
"""The route of a request that matched no template."""
METHOD_OTHER: Final = "OTHER"
"""The method of a request whose method is not in `METHODS`."""
STATUS_OTHER: Final = "other"
"""The status of an answer outside 100–599."""
MODEL_OTHER: Final = "other"
"""The model of an event that names no model of this service."""
REASON_OTHER: Final = "other"
"""The reason of an event after `REASONS_LIMIT` different ones were seen."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
REPLICA_STATES: Final = ("active", "standby")
POOL_OTHER: Final = "other"
"""The pool of an event after `POOLS_LIMIT` different ones were seen."""
POOLS_LIMIT: Final = 64
PEER_OTHER: Final = "other"
"""The peer of a call after `PEERS_LIMIT` different ones were seen."""
PEERS_LIMIT: Final = 32
REASONS_LIMIT: Final = 16
"""Reasons come from our own code; the limit only holds against a mistake in it."""

SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Latency: OpenTelemetry's bounds for `http.server.request.duration`, finer below 5 ms (small models answer there),
and the thresholds that objectives name most: 0.05, 0.1, 0.2, 0.3."""
INNER_SECONDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
"""Parts of a request: a batch of a tabular model takes tens of microseconds."""
LOOP_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Lateness of a timer: below 5 ms it is the timer's own grain."""
LOAD_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

REQUEST_DURATION: Final = Metric(
    "http_server_request_duration_seconds",
    "histogram",
    "Time from a request's first byte to its answer's last, by route template.",
    ("http_request_method", "http_route", "http_response_status_code"),
    SECONDS,
)
ACTIVE_REQUESTS: Final = Metric("http_server_active_requests", "gauge", "Requests being answered now.")
LOOP_LAG: Final = Metric(
    "slipway_event_loop_lag_seconds",
    "histogram",
    "Time that a request, had it come to an API worker now, would wait before it is read; ten times a second.",
    (),
    LOOP_SECONDS,
)

INFERENCE_DURATION: Final = Metric(
    "slipway_inference_duration_seconds",
    "histogram",
    "Time that one batch was computed; the phase is always `compute`.",
    ("model", "phase"),
    INNER_SECONDS,
)
BATCH_SIZE: Final = Metric(
    "slipway_inference_batch_size", "histogram", "Rows a batch was computed with.", ("model",), ROWS
)
INFERENCES: Final = Metric(
    "slipway_inferences_total",
    "counter",
    "Rows by how they ended: ok, error, timeout (expired in the queue), cancelled, invalid.",
    ("model", "result"),
)
QUEUE_WAIT: Final = Metric(
    "slipway_queue_wait_seconds",
    "histogram",
    "Time the oldest row of a batch waited in the queue; one observation a batch.",
    ("model",),
    INNER_SECONDS,
)
ADMITTED: Final = Metric(
    "slipway_requests_admitted_total", "counter", "Requests that were let into the queue.", ("model",)
)
SHED: Final = Metric(
    "slipway_requests_shed_total", "counter", "Requests refused at the door, by reason.", ("model", "reason")
)
RELEASES: Final = Metric(
    "slipway_batch_release_total", "counter", "Batches by what made them leave the queue.", ("model", "reason")
)

QUEUE_DEPTH: Final = Metric(
    "slipway_queue_depth", "gauge", "Requests that wait for a replica of a runner pool.", ("model",)
)
COLD: Final = Metric(
    "slipway_cold_requests_total",
    "counter",
    "Requests that came while no replica of their runner pool was ready, and waited for one.",
    ("model",),
)
RETRIED: Final = Metric(
    "slipway_pool_retries_total",
    "counter",
    "Requests that were given to a second replica because the first one died with them.",
    ("model",),
)
QUARANTINED: Final = Metric(
    "slipway_pool_quarantined_total",
    "counter",
    "Requests that were refused because they, or their equals, killed two replicas.",
    ("model",),
)
REPLICAS: Final = Metric(
    "slipway_pool_replicas", "gauge", "Replicas of a runner pool that are connected, by state.", ("pool", "state")
)
LOSSES: Final = Metric(
    "slipway_pool_replica_losses_total",
    "counter",
    "Replicas of a runner pool that were lost, by reason: died, hung, memory.",
    ("pool", "reason"),
)

MODEL_INFO: Final = Metric(
    "slipway_model_info", "gauge", "1 for each model that is loaded, with its digest.", ("model", "digest"), merge="max"
)
MODEL_READY: Final = Metric(
    "slipway_model_ready",
    "gauge",
    "1 when every worker that has the model can answer with it.",
    ("model",),
    merge="min",
)
MODEL_LOAD: Final = Metric(
    "slipway_model_load_duration_seconds",
    "histogram",
    "Time to load a model and make its first prediction.",
    ("model",),
    LOAD_SECONDS,
)
BUILD_INFO: Final = Metric(
    "slipway_build_info",
    "gauge",
    "1, with the service's version, its bundle's digest and the version of slipway.",
    ("service", "version", "digest", "slipway_version"),
    merge="max",
)

SERVER_READY: Final = Metric(
    "slipway_server_ready", "gauge", "1 while some API worker can answer, and nobody has told the server to stop."
)
WORKERS: Final = Metric("slipway_workers", "gauge", "Worker processes by state.", ("state",))
WORKER_RESTARTS: Final = Metric(
    "slipway_worker_restarts_total", "counter", "Workers started again after they died unasked.", ("worker",)
)
WORKER_CRASH_LOOP: Final = Metric(
    "slipway_worker_crash_looping", "gauge", "1 while a worker dies again and again after each start.", ("worker",)
)

PROCESS_MEMORY: Final = Metric(
    "slipway_process_memory_bytes",
    "gauge",
    "Memory of each worker process: resident, and proportional (pages that others share count in part).",
    ("worker", "kind"),
)
PROCESS_CPU: Final = Metric(
    "slipway_process_cpu_seconds_total",
    "counter",
    "Processor time of each worker process, user and system; of one that was started again, with that of those before.",
    ("worker",),
)
PROCESS_CPU_WAIT: Final = Metric(
    "slipway_process_cpu_wait_seconds_total",
    "counter",
    "Time in which each worker process could have run and no processor was free for its main thread (Linux).",
    ("worker",),
)
DEVICE_UTILISATION: Final = Metric(
    "slipway_device_utilisation_ratio", "gauge", "Share of the last second or so in which a GPU computed.", ("device",)
)
DEVICE_MEMORY: Final = Metric(
    "slipway_device_memory_bytes", "gauge", "Memory of a GPU or slice: used, total.", ("device", "state")
)
COST: Final = Metric(
    "slipway_cost_usd_per_hour", "gauge", "What this instance costs, as `[runtime.cost]` says.", merge="max"
)
CLIENT_ATTEMPTS: Final = Metric(
    "slipway_client_attempts_total",
    "counter",
    "Requests that the service sent to others, repetitions included.",
    ("peer",),
)
CLIENT_RETRIES: Final = Metric(
    "slipway_client_retries_total",
    "counter",
    "Of these, repetitions, by what was wrong with the one before: status, connection, timeout, slow (hedged).",
    ("peer", "reason"),
)
SYNTHETIC: Final = Metric(
    "slipway_synthetic_requests_total",
    "counter",
    "Requests of tests and probes, from callers that are trusted to say so; no other metric of requests has them.",
)
SYNTHETIC_ROWS: Final = Metric(
    "slipway_synthetic_inferences_total",
    "counter",
    "Of the rows that ended ok, those of tests and probes: computed like any others, and no user's.",
    ("model",),
)
RETRIES_SEEN: Final = Metric(
    "slipway_requests_repeated_total", "counter", "Requests whose caller says that it asks again."
)

TELEMETRY_DROPPED: Final = Metric(
    "slipway_telemetry_dropped_total",
    "counter",
    "Telemetry that was lost: traces, log lines, series without room, values that were no number; by kind of process.",
    ("signal", "process"),
)
SLOTS_UNREADABLE: Final = Metric(
    "slipway_metrics_unreadable_slots", "gauge", "Workers whose metrics cannot be read at present."
)
DROPPED_SERIES: Final = "series"
DROPPED_VALUES: Final = "values"
ProcessKind = Literal["api", "runner", "dispatcher", "compactor", "exporter"]
"""Of what has a log and slots of its own; the supervisor has no bounded log to lose lines of."""
INSTANCE_HEADER: Final = "X-Slipway-Instance"
"""Of a page of metrics: which process it is of, one word that no other start of any server has. No label, which would
make new series at each start; a page that is asked through a balancer cannot be compared with another without it."""
PROCESS_ANY: Final = ""
"""Of what was lost in slots, which are added up without asking whose they are. To Prometheus it is no label at all."""

ALL: Final = (
    *(REQUEST_DURATION, ACTIVE_REQUESTS, LOOP_LAG),
    *(INFERENCE_DURATION, BATCH_SIZE, INFERENCES, QUEUE_WAIT, ADMITTED, SHED, RELEASES),
    *(QUEUE_DEPTH, COLD, RETRIED, QUARANTINED, REPLICAS, LOSSES),
    *(MODEL_INFO, MODEL_READY, MODEL_LOAD, BUILD_INFO),
    *(SERVER_READY, WORKERS, WORKER_RESTARTS, WORKER_CRASH_LOOP),
    *(PROCESS_MEMORY, PROCESS_CPU, PROCESS_CPU_WAIT, DEVICE_UTILISATION, DEVICE_MEMORY, COST),
    *(CLIENT_ATTEMPTS, CLIENT_RETRIES, RETRIES_SEEN, SYNTHETIC, SYNTHETIC_ROWS),
    *metrics_access.ALL,
    *metrics_drift.ALL,
    *metrics_capture.ALL,
    *metrics_traces.ALL,
    *metrics_split.ALL,
    *(TELEMETRY_DROPPED, SLOTS_UNREADABLE),
)
"""Every definition, in the order of the reference page."""


def with_thresholds(metric: Metric, thresholds_s: Iterable[float]) -> Metric:
    """`metric` with the thresholds of its objectives among its bounds, so that `le` can ask for each exactly."""
    return msgspec.structs.replace(metric, bounds=tuple(sorted({*metric.bounds, *map(float, thresholds_s)})))
