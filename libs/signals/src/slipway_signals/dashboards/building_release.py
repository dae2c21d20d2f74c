"""The release dashboard: the canary beside stable, in what users feel and in what the model says.

Stable and canary are the values of `track`, a label of the target that the scrape configuration sets.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.dashboards.building_promql import count_of, mean, quantile, rate, share
from slipway_signals.dashboards.building_shapes import (
    MODEL,
    SERVICE,
    links_of,
    marks,
    placed,
    stat,
    table,
    timeseries,
    value,
)
from slipway_signals.dashboards.reading import Dashboard, Panel
from slipway_signals.slo.release_watches import INFO, of_rollout

__all__ = ["release"]

S: Final = 'service="$service"'
M: Final = f'{S},model=~"$model"'
LATENCY: Final = "http_server_request_duration_seconds"
COUNT: Final = f"{LATENCY}_count"
FAILED: Final = 'http_response_status_code=~"5..|429"'


def release() -> Dashboard:
    """What differs, then each of both."""
    return Dashboard(
        uid="slipway-release",
        title="slipway: release",
        description="Is the canary no worse than what it replaces?",
        variables=(SERVICE, MODEL),
        annotations=marks(S),
        links=links_of("slipway-release"),
        panels=placed((*_difference(), *_felt(), *_inside(), *_said(), *_money(), *_rollout())),
    )


def _difference() -> Iterator[Panel]:
    yield stat(
        1,
        "Errors, canary less stable",
        "Does the canary fail more often, in share of requests?",
        f"{_errors('canary')} - {_errors('stable')}",
        unit="percentunit",
        legend="canary less stable",
        decimals=2,
        no_value="no canary, or no traffic",
    )
    yield stat(
        2,
        "p95, canary to stable",
        "How many times as long do the slow ones wait?",
        share(_p95("canary"), _p95("stable")),
        unit="none",
        legend="times stable",
        decimals=2,
        no_value="no canary, or no traffic",
    )
    canary, both = (rate(f'{COUNT}{{{S},track=~"{track}"}}') for track in ("canary", "canary|stable"))
    yield stat(
        3,
        "Traffic of the canary",
        "Which share of the requests does the canary answer?",
        share(canary, both),
        unit="percentunit",
        legend="of all requests",
        no_value="no canary, or no traffic",
    )
    yield table(
        4,
        "What is served",
        "Which release is stable, which is the canary, on how many instances?",
        {"track": "track", "version": "version", "digest": "digest"},
        (f"count by (track, version, digest) (slipway_build_info{{{S}}})", value("instances", unit="none", decimals=0)),
        width=12,
        height=5,
    )


def _felt() -> Iterator[Panel]:
    every, failed = rate(f"{COUNT}{{{S}}}", "track"), rate(f"{COUNT}{{{S},{FAILED}}}", "track")
    yield timeseries(
        5,
        "Errors",
        "Does one of both fail or refuse more, beside what the objectives allow?",
        (share(f"{failed} or 0 * {every}", every), "{{track}}"),
        promised=[(f"slipway:slo_error_budget:ratio{{{S}}}", "allowed: {{slo}}")],
        unit="percentunit",
    )
    yield timeseries(
        6,
        "Latency",
        "Is one of both slower, beside what is promised?",
        *((quantile(q, LATENCY, S, "track"), f"{{{{track}}}} p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
        promised=[(f"slipway:slo_threshold:seconds{{{S}}}", "objective {{slo}}")],
        unit="s",
        has_exemplars=True,
    )
    yield timeseries(
        7,
        "Requests",
        "How many requests does each answer?",
        (every, "{{track}}"),
        unit="reqps",
    )
    shed, admitted = f"slipway_requests_shed_total{{{M}}}", f"slipway_requests_admitted_total{{{M}}}"
    asked = f"{rate(shed, 'track')} + {rate(admitted, 'track')}"
    yield timeseries(
        8,
        "Refused at the door",
        "Does one of both refuse more, and why?",
        (share(f"{rate(shed, 'track', 'reason')} > 0", asked, "track"), "{{track}}: {{reason}}"),
        unit="percentunit",
        no_value="nothing is refused",
    )


def _inside() -> Iterator[Panel]:
    yield timeseries(
        9,
        "Time to compute a batch",
        "Is the model itself slower?",
        (mean("slipway_inference_duration_seconds", f'{M},phase="compute"', "track", "model"), "{{track}} {{model}}"),
        unit="s",
    )
    yield timeseries(
        10,
        "Memory",
        "Does the new release need more memory?",
        (f'sum by (track) (slipway_process_memory_bytes{{{S},kind="proportional"}})', "{{track}}"),
        unit="bytes",
    )
    yield timeseries(
        11,
        "Restarts in the last hour",
        "Does one of both die?",
        (count_of(f"slipway_worker_restarts_total{{{S}}}", "track"), "{{track}}: processes"),
        (count_of(f"slipway_pool_replica_losses_total{{{S}}}", "track"), "{{track}}: replicas"),
        unit="short",
        decimals=0,
    )
    load = "slipway_model_load_duration_seconds"
    took, loads = (f"sum by (track, model) ({load}_{what}{{{M}}})" for what in ("sum", "count"))
    yield timeseries(
        12,
        "Time to load a model",
        "Does the new release start more slowly?",
        (share(took, loads), "{{track}} {{model}}"),
        unit="s",
    )


def _said() -> Iterator[Panel]:
    shares = (
        f'sum by (model, bin) (slipway:prediction_share:1h{{{M},track="{track}"}})' for track in ("canary", "stable")
    )
    yield timeseries(
        13,
        "Answers, canary beside stable",
        "Which share of the canary's answers would have to move to be spread like those of stable?",
        (f"sum by (model) (abs({' - '.join(shares)})) / 2", "{{model}}"),
        unit="percentunit",
        maximum=1,
        no_value="no canary, or no reference profile",
    )
    yield timeseries(
        14,
        "Accuracy",
        "By the model's own probabilities, and by labels where they came, is one of both less often right?",
        (f"slipway:prediction_expected_accuracy:1h{{{M}}}", "{{track}} {{model}} expected"),
        (f"slipway:prediction_realized_accuracy:1d{{{M}}}", "{{track}} {{model}} by labels"),
        unit="percentunit",
        maximum=1,
        minimum=None,
        no_value="no reference profile",
    )


def _money() -> Iterator[Panel]:
    rows = rate(f'slipway_inferences_total{{{S},result="ok"}}', "track")
    probes = rate(f"slipway_synthetic_inferences_total{{{S}}}", "track")
    usd = f"sum by (track) (slipway_cost_usd_per_hour{{{S}}})"
    yield timeseries(
        15,
        "Cost of 1,000 inferences",
        "Is an answer of the canary dearer, those of tests and probes left out?",
        (f"1000 / 3600 * {share(usd, f'{rows} - ({probes} or 0 * {rows})')}", "{{track}}"),
        unit="currencyUSD",
        no_value="no service says its cost",
    )


def _rollout() -> Iterator[Panel]:
    known = of_rollout(f'{INFO}{{name="$service"}}')
    yield table(
        16,
        "Where the release stands",
        "Does the controller go on, wait, or has it stopped, by its own word?",
        {"namespace": "namespace", "phase": "phase"},
        (f"max by (namespace, phase) ({known})", value("rollouts", unit="none", decimals=0)),
        no_value="no controller of rollouts is scraped, or it has no rollout of this name",
    )


def _errors(track: str) -> str:
    """Share of the requests of one track that failed; 0 while none did."""
    labels = f'{S},track="{track}"'
    every, failed = rate(f"{COUNT}{{{labels}}}"), rate(f"{COUNT}{{{labels},{FAILED}}}")
    return f"({share(f'{failed} or 0 * {every}', every)})"


def _p95(track: str) -> str:
    return quantile(0.95, LATENCY, f'{S},track="{track}"')
