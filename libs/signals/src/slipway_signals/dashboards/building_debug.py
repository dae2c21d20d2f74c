"""The debug dashboard: where the time goes, what waits, what was lost, and whether the monitoring itself works."""

from collections.abc import Iterator
from typing import Final

from slipway_signals.dashboards.building_promql import STEP, count_of, mean, quantile, rate, share
from slipway_signals.dashboards.building_shapes import (
    MODEL,
    SERVICE,
    links_of,
    marks,
    panel,
    placed,
    row,
    timeline,
    timeseries,
)
from slipway_signals.dashboards.reading import Dashboard, Panel
from slipway_signals.slo.operation import COLD_SHARE, ERROR_SHARE, LAG_S, LOAD_S, SHED_SHARE, WAIT_S
from slipway_signals.slo.platform_watches import GPU_MEMORY_SHARE, MEMORY_SHARE
from slipway_signals.slo.promised_watches import LOST_SHARE, RETRY_SHARE

__all__ = ["debug"]

S: Final = 'service="$service"'
M: Final = f'{S},model=~"$model"'
C: Final = 'container="$service"'
WAIT: Final = "slipway_queue_wait_seconds"
YES: Final = {"0": "no", "1": "yes"}


def debug() -> Dashboard:
    """Rows of panels, from the request inwards."""
    return Dashboard(
        uid="slipway-debug",
        title="slipway: debug",
        description="Where does the time go, what waits, what was lost, and does the monitoring work?",
        variables=(SERVICE, MODEL),
        annotations=marks(S),
        links=links_of("slipway-debug"),
        panels=placed(
            (
                *(row(10, "Time and answers"), *_time()),
                *(row(20, "Queue and door"), *_queue()),
                *(row(30, "Models and replicas"), *_models()),
                *(row(40, "Memory and GPU"), *_devices()),
                *(row(50, "Calls of others, inputs"), *_inputs()),
                *(row(60, "Traces, capture, telemetry"), *_telemetry()),
                *(row(70, "The monitoring itself"), *_monitoring()),
            )
        ),
    )


def _time() -> Iterator[Panel]:
    yield panel(
        11,
        "Latency of requests",
        "How are answer times spread, and which single requests were slow?",
        "heatmap",
        [(count_of(f"http_server_request_duration_seconds_bucket{{{S}}}", "le", window=STEP), "{{le}}")],
        unit="s",
        width=12,
        height=8,
        has_exemplars=True,
    )
    yield timeseries(
        12,
        "Time of a batch",
        "Where does a batch's time go: into waiting for others, or into computing, on average?",
        (mean(WAIT, M, "model"), "{{model}} waits"),
        (mean("slipway_inference_duration_seconds", M, "model", "phase"), "{{model}} {{phase}}"),
        unit="s",
        is_stacked=True,
    )
    yield timeseries(
        13,
        "Slow batches",
        "How long do the slowest twentieth of batches compute, by model?",
        (quantile(0.95, "slipway_inference_duration_seconds", f'{M},phase="compute"', "model"), "{{model}} p95"),
        unit="s",
        has_exemplars=True,
    )
    rows = "slipway_inferences_total"
    yield timeseries(
        14,
        "Rows by their end",
        "How many rows end well, and how do the others end?",
        (f"{rate(f'{rows}{{{M}}}', 'model', 'result')} > 0", "{{model}} {{result}}"),
        unit="rowsps",
    )
    failed, judged = (rate(f'{rows}{{{M},result=~"{result}"}}', "model") for result in ("error", "error|ok"))
    yield timeseries(
        15,
        "Rows that the model fails on",
        "What share of rows gets an error from the model?",
        (share(failed, judged), "{{model}}"),
        unit="percentunit",
        limit=ERROR_SHARE,
    )
    yield timeseries(
        16,
        "Requests that killed runners",
        "Were requests given to a second replica, or refused because they kill replicas?",
        (count_of(f"slipway_pool_retries_total{{{M}}}", "model"), "{{model}} given again"),
        (count_of(f"slipway_pool_quarantined_total{{{M}}}", "model"), "{{model}} refused"),
        unit="short",
        decimals=0,
        no_value="no runner pool lost a replica",
    )


def _queue() -> Iterator[Panel]:
    yield timeseries(
        21,
        "Wait in the queue",
        "How long does the oldest row of a batch wait before it is computed?",
        *(
            (quantile(q, "slipway_queue_wait_seconds", M, "model"), f"{{{{model}}}} p{q * 100:.0f}")
            for q in (0.5, 0.95)
        ),
        unit="s",
        limit=WAIT_S,
    )
    yield timeseries(
        22,
        "Requests that wait and that are answered",
        "How many requests wait for a replica, and how many are being answered?",
        (f"sum by (model) (slipway_queue_depth{{{M}}})", "{{model}} waits"),
        (f"sum(http_server_active_requests{{{S}}})", "being answered"),
        unit="short",
        decimals=0,
    )
    shed, admitted = f"slipway_requests_shed_total{{{M}}}", f"slipway_requests_admitted_total{{{M}}}"
    asked = f"{rate(shed, 'model')} + {rate(admitted, 'model')}"
    yield timeseries(
        23,
        "Refused at the door",
        "What share of requests is refused, and why?",
        (share(f"{rate(shed, 'model', 'reason')} > 0", asked, "model"), "{{model}}: {{reason}}"),
        unit="percentunit",
        limit=SHED_SHARE,
        no_value="nothing is refused",
    )
    yield timeseries(
        24,
        "Rows in a batch",
        "Are batches as large as the traffic allows?",
        (mean("slipway_inference_batch_size", M, "model"), "{{model}}"),
        unit="short",
        decimals=1,
    )
    yield timeseries(
        25,
        "What lets batches go",
        "Do batches leave because they are full, because waiting gains nothing, or because a deadline is near?",
        (f"{rate(f'slipway_batch_release_total{{{M}}}', 'model', 'reason')} > 0", "{{model}}: {{reason}}"),
        unit="cps",
        is_stacked=True,
    )
    yield timeseries(
        26,
        "Wait before a request is read",
        "How long does a request wait that comes while something holds the interpreter of an API worker?",
        *((quantile(q, "slipway_event_loop_lag_seconds", S), f"p{q * 100:.0f}") for q in (0.95, 0.99)),
        unit="s",
        limit=LAG_S,
    )


def _models() -> Iterator[Panel]:
    cold = count_of(f"slipway_cold_requests_total{{{M}}}", "model")
    yield timeseries(
        31,
        "Requests that met no warm replica",
        "What share of requests waited until a replica was ready?",
        (share(cold, count_of(f"slipway_requests_admitted_total{{{M}}}", "model")), "{{model}}"),
        unit="percentunit",
        limit=COLD_SHARE,
        no_value="no runner pool",
    )
    yield timeline(
        32,
        "Models and pools",
        "Which model can answer, and which pool has a replica?",
        (f"min by (model) (slipway_model_ready{{{M}}})", "ready: {{model}}"),
        (f'min by (pool) (slipway_pool_replicas{{{S},state="active"}} > bool 0)', "has replicas: {{pool}}"),
        words=YES,
    )
    load = "slipway_model_load_duration_seconds"
    loads, took = (f"sum by (model) ({load}_{what}{{{M}}})" for what in ("count", "sum"))
    yield timeseries(
        33,
        "Time to load a model",
        "How long did loads and first predictions take, on average since each process started?",
        (share(took, loads), "{{model}}"),
        (
            f"histogram_quantile(1, sum by (model, le) ({load}_bucket{{{M}}}))",
            "{{model}}: the longest, at most",
        ),
        unit="s",
        limit=LOAD_S,
    )
    yield timeseries(
        34,
        "Processes",
        "How many processes and replicas are there, in which state?",
        (f"sum by (state) (slipway_workers{{{S}}})", "processes: {{state}}"),
        (f"sum by (pool, state) (slipway_pool_replicas{{{S}}})", "{{pool}}: {{state}}"),
        unit="short",
        decimals=0,
    )


def _devices() -> Iterator[Panel]:
    yield timeseries(
        41,
        "Memory by process",
        "Which process holds memory, shared pages counted in part?",
        (f'topk(20, max by (worker) (slipway_process_memory_bytes{{{S},kind="proportional"}}))', "{{worker}}"),
        unit="bytes",
    )
    working = f"max by (pod) (container_memory_working_set_bytes{{{C}}})"
    limits = f'max by (pod) (kube_pod_container_resource_limits{{{C},resource="memory"}})'
    yield timeseries(
        42,
        "Memory of the limit",
        "How near is a pod to the limit at which the kernel kills it?",
        (share(working, limits), "{{pod}}"),
        unit="percentunit",
        limit=MEMORY_SHARE,
        no_value="no Kubernetes",
    )
    yield timeseries(
        43,
        "GPU in use",
        "Does the GPU compute, or is it paid for and idle?",
        (f"max by (device) (slipway_device_utilisation_ratio{{{S}}})", "{{device}}"),
        unit="percentunit",
        maximum=1,
        no_value="no GPU",
    )
    own = [f'max by (device) (slipway_device_memory_bytes{{{S},state="{state}"}})' for state in ("used", "total")]
    used, free = (f"sum by (Hostname, gpu) (DCGM_FI_DEV_FB_{what}{{{C}}})" for what in ("USED", "FREE"))
    yield timeseries(
        44,
        "Memory of the GPU",
        "Does the next batch or model still fit?",
        (share(*own), "{{device}}"),
        (share(used, f"{used} + {free}"), "{{Hostname}} {{gpu}}"),
        unit="percentunit",
        limit=GPU_MEMORY_SHARE,
        maximum=1,
        no_value="no GPU",
    )


def _inputs() -> Iterator[Panel]:
    again = count_of(f"slipway_client_retries_total{{{S}}}", "peer", "reason", window="15m")
    called = count_of(f"slipway_client_attempts_total{{{S}}}", "peer", window="15m")
    yield timeseries(
        51,
        "Calls that repeat a failed one",
        "Do we make an outage of a neighbour worse: what share of our calls are repetitions?",
        (share(again, called, "peer"), "{{peer}}: {{reason}}"),
        unit="percentunit",
        limit=RETRY_SHARE,
        no_value="the service calls no other",
    )
    yield timeseries(
        52,
        "Requests that ask again",
        "Do callers repeat their requests, and how many are probes?",
        (rate(f"slipway_requests_repeated_total{{{S}}}"), "ask again"),
        (rate(f"slipway_synthetic_requests_total{{{S}}}"), "probes"),
        unit="reqps",
    )
    yield panel(
        53,
        "Inputs away from training",
        "Which input moved, and when? The value is the PSI of the last hour against the training sample.",
        "heatmap",
        [(f"topk(20, max by (feature) (slipway:feature_psi:1h{{{M}}}))", "{{feature}}")],
        unit="none",
        width=24,
        height=8,
        no_value="the model has no reference profile",
    )


def _telemetry() -> Iterator[Panel]:
    records = "slipway_capture_records_total"
    lost = count_of(f'{records}{{{M},result=~"dropped|failed"}}', "model", "result")
    chosen = count_of(f'{records}{{{M},result!="sampled_out"}}', "model")
    yield timeseries(
        61,
        "Captured inputs that were lost",
        "Of what was chosen for capture, what share was not stored?",
        (share(lost, chosen, "model"), "{{model}}: {{result}}"),
        unit="percentunit",
        limit=LOST_SHARE,
        no_value="nothing is captured",
    )
    yield timeseries(
        62,
        "Telemetry that was lost",
        "What do the other panels not know?",
        (count_of(f"slipway_telemetry_dropped_total{{{S}}}", "signal", "process"), "{{signal}} {{process}}"),
        unit="short",
        decimals=0,
        no_value="nothing was lost",
    )
    yield timeseries(
        63,
        "Workers whose metrics cannot be read",
        "Are the rates of this service too low because a worker's counts are missing?",
        (f"sum(slipway_metrics_unreadable_slots{{{S}}})", "workers"),
        unit="short",
        decimals=0,
    )
    yield timeseries(
        64,
        "Traces",
        "Which requests kept their trace, and does the collector take the spans?",
        (rate(f"slipway_traces_kept_total{{{S}}}", "reason"), "kept: {{reason}}"),
        (rate(f"slipway_trace_spans_exported_total{{{S}}}"), "spans taken"),
        (rate(f"slipway_trace_export_failures_total{{{S}}}"), "exports refused"),
        unit="cps",
        no_value="no trace was kept",
    )
    yield timeseries(
        65,
        "Captured inputs",
        "What is captured, and how much is that?",
        (f"{rate(f'{records}{{{M}}}', 'model', 'result')} > 0", "{{model}}: {{result}}"),
        unit="cps",
        no_value="nothing is captured",
    )


def _monitoring() -> Iterator[Panel]:
    yield timeline(
        71,
        "The heartbeat",
        "Does the alert that always fires reach the one who listens for its silence?",
        ('max by (alertname) (ALERTS{alertname="SlipwayWatchdog",alertstate="firing"})', "{{alertname}}"),
        words={"1": "fires"},
        width=8,
    )
    yield timeline(
        72,
        "Parts of the monitoring",
        "Is each part up, does it know the others, and did it take its last configuration?",
        ('bottomk(5, up{job=~"prometheus|alertmanager"})', "up: {{job}} {{instance}}"),
        (
            "min by (instance) (prometheus_notifications_alertmanagers_discovered > bool 0)",
            "knows Alertmanager: {{instance}}",
        ),
        (
            (
                "min by (job, instance) (prometheus_config_last_reload_successful "
                "or alertmanager_config_last_reload_successful)"
            ),
            "took its configuration: {{job}} {{instance}}",
        ),
        (
            'clamp_max(count(rollout_info), 1) or 0 * count(up{rollouts_pod_template_hash!=""})',
            "tells of releases",
        ),
        words=YES,
        width=8,
    )
    yield timeseries(
        73,
        "What makes alerts late or silent",
        "Do rules fail or come late, are alerts or messages lost?",
        *(
            (f"sum(increase({counter}[10m]))", name)
            for counter, name in {
                "prometheus_rule_evaluation_failures_total": "rules failed",
                "prometheus_rule_group_iterations_missed_total": "evaluations skipped",
                "prometheus_notifications_dropped_total": "alerts dropped",
                "alertmanager_notifications_failed_total": "messages not delivered",
            }.items()
        ),
        unit="short",
        decimals=0,
        width=8,
    )
