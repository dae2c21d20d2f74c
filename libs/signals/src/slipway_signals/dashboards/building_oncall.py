"""The on-call dashboard: twelve panels for the first minute after a page.

The first line answers whether users are hurt and whether budget is left; the last ones say what died and what is up.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.dashboards.building_promql import count_of, quantile, rate, share
from slipway_signals.dashboards.building_shapes import (
    BAD,
    GOOD,
    SERVICE,
    WARN,
    links_of,
    marks,
    placed,
    stat,
    table,
    timeline,
    timeseries,
    value,
)
from slipway_signals.dashboards.reading import Dashboard, Panel, Threshold
from slipway_signals.slo.burn import TIERS, Tier
from slipway_signals.slo.durations import duration_text

__all__ = ["oncall"]

S: Final = 'service="$service"'
LATENCY: Final = "http_server_request_duration_seconds"
FAILED: Final = 'http_response_status_code=~"5..|429"'

BURN: Final = (Threshold(None, GOOD), Threshold(1, WARN))
LEFT: Final = (Threshold(None, BAD), Threshold(0, GOOD))
NEAR: Final = (Threshold(None, GOOD), Threshold(1, BAD))
"""At 1 the alert's condition holds: the limits are in the recorded series."""


def oncall() -> Dashboard:
    """Twelve panels."""
    return Dashboard(
        uid="slipway-oncall",
        title="slipway: on call",
        description="Are users hurt, since when, by which release, and what died?",
        variables=(SERVICE,),
        annotations=marks(S),
        links=links_of("slipway-oncall"),
        panels=placed((*_hurt(), *_why(), *_requests(), *_usual(), *_processes())),
    )


def _hurt() -> Iterator[Panel]:
    yield stat(
        1,
        "Burn rate now",
        "Are users hurt at this moment? At 1 the error budget lasts exactly as long as its window.",
        f"max(slipway:slo_burn_rate:ratio_rate5m{{{S}}})",
        unit="none",
        legend="burn rate",
        thresholds=BURN,
    )
    yield stat(
        2,
        "Budget left",
        "Is error budget left, for the objective that has least?",
        f"min(slipway:slo_budget_remaining:ratio{{{S}}})",
        unit="percentunit",
        legend="of the budget",
        thresholds=LEFT,
    )
    yield stat(
        3,
        "Budget ends in",
        "At the rate of the last hour, when is the first budget gone?",
        f"min(clamp_min(slipway:slo_budget_remaining:ratio{{{S}}} <= 0, 0) or slipway:slo_budget_ends:hours{{{S}}})",
        unit="h",
        legend="hours left",
        no_value="not at this rate",
    )
    yield table(
        4,
        "Alerts that fire",
        "What was somebody told, and how badly is it wanted?",
        {"alertname": "alert", "severity": "severity", "slo": "objective", "category": "about"},
        (
            f'max by (alertname, severity, slo, category) (ALERTS{{{S},alertstate="firing",severity!="info"}})',
            value("rules", unit="none", decimals=0),
        ),
        width=12,
        height=5,
        no_value="no alert fires",
    )


def _why() -> Iterator[Panel]:
    yield table(
        5,
        "How near is each burn alert?",
        "Which objective burns, over which windows? At 100% the pair of windows wakes somebody.",
        {"slo": "objective"},
        *(
            (
                _nearness(tier),
                value(
                    f"{tier.severity}: {duration_text(tier.long_s)} and {duration_text(tier.short_s)}",
                    unit="percentunit",
                    decimals=0,
                    thresholds=NEAR,
                ),
            )
            for tier in TIERS
        ),
    )
    seen = f"min_over_time(timestamp(slipway_build_info{{{S}}})[$__range:$__interval])"
    yield table(
        6,
        "What is served",
        "Which release answers, on how many instances, and since when within the range?",
        {"version": "version", "digest": "digest", "track": "track"},
        (f"count by (version, digest, track) (slipway_build_info{{{S}}})", value("instances", unit="none", decimals=0)),
        (f"time() - min by (version, digest, track) ({seen})", value("seen for", unit="s", decimals=0)),
    )


def _requests() -> Iterator[Panel]:
    failed = rate(f"{LATENCY}_count{{{S},{FAILED}}}", "http_route", "http_response_status_code")
    asked = rate(f"{LATENCY}_count{{{S}}}", "http_route")
    yield timeseries(
        7,
        "Errors by endpoint",
        "Which endpoint fails or refuses, with which status, and what share of its requests is that?",
        (share(f"{failed} > 0", asked, "http_route"), "{{http_route}} {{http_response_status_code}}"),
        unit="percentunit",
        no_value="no request fails",
    )
    yield timeseries(
        8,
        "Latency by endpoint",
        "How long do the slow ones wait, by endpoint, beside what is promised?",
        *((quantile(q, LATENCY, S, "http_route"), f"{{{{http_route}}}} p{q * 100:.0f}") for q in (0.95, 0.99)),
        promised=[(f"slipway:slo_threshold:seconds{{{S}}}", "objective {{slo}}")],
        unit="s",
        has_exemplars=True,
    )


def _usual() -> Iterator[Panel]:
    yield timeseries(
        9,
        "Bad events beside past weeks",
        "Is this hour worse than the same hour of past weeks?",
        (f"slipway:slo_errors:ratio_rate1h{{{S}}}", "{{slo}}"),
        (f"slipway:slo_errors:usual_rate1h{{{S}}}", "{{slo}}, worst of three weeks"),
        promised=[(f"slipway:slo_error_budget:ratio{{{S}}}", "{{slo}}, allowed")],
        unit="percentunit",
    )
    yield timeseries(
        10,
        "Traffic beside past weeks",
        "Do as many requests come as at this hour of past weeks?",
        (f"slipway:slo_total:rate1h{{{S}}}", "{{slo}}"),
        (f"slipway:slo_total:usual_rate1h{{{S}}}", "{{slo}}, usual"),
        unit="reqps",
    )


def _processes() -> Iterator[Panel]:
    pods = 'kube_pod_container_status_restarts_total{container="$service"}'
    yield timeseries(
        11,
        "Restarts in the last hour",
        "What died: workers, replicas of runner pools, pods, and was it memory?",
        (f"{count_of(f'slipway_worker_restarts_total{{{S}}}', 'worker')} > 0", "worker {{worker}}"),
        (
            f"{count_of(f'slipway_pool_replica_losses_total{{{S}}}', 'pool', 'reason')} > 0",
            "replica of {{pool}}: {{reason}}",
        ),
        (f"{count_of(pods, 'pod')} > 0", "pod {{pod}}"),
        unit="short",
        decimals=0,
        no_value="nothing died",
    )
    yield timeline(
        12,
        "Up, ready, counted",
        "Can somebody answer, does each worker stay alive, and is every objective counted?",
        (f"bottomk(5, up{{{S}}})", "up: {{instance}}"),
        (f"min by (service) (slipway_server_ready{{{S}}})", "ready"),
        (f"1 - max by (worker) (slipway_worker_crash_looping{{{S}}})", "stays alive: {{worker}}"),
        (f"count by (slo) (slipway:slo_bad:rate5m{{{S}}})", "counted: {{slo}}"),
        words={"0": "no", "1": "yes"},
    )


def _nearness(tier: Tier) -> str:
    """The burn of a pair of windows, as a share of what fires; the lesser of both, because both must burn."""
    long, short = duration_text(tier.long_s), duration_text(tier.short_s)
    hours = f"{tier.cost} * 24 * slipway:slo_window:days{{{S}}} / {tier.long_s / 3_600:g}"
    limit = f"(slipway:slo_error_budget:ratio{{{S}}} * {hours})"
    longer, shorter = (f"slipway:slo_errors:ratio_rate{window}{{{S}}}" for window in (long, short))
    return f"(({longer} < {shorter}) or {shorter}) / {limit}"
