"""The executive dashboard: what was promised and kept, what it costs, what it is worth."""

from collections.abc import Iterator
from typing import Final

from slipway_signals.dashboards.building_promql import rate, share
from slipway_signals.dashboards.building_shapes import (
    BAD,
    GOOD,
    links_of,
    marks,
    placed,
    stat,
    table,
    timeseries,
    value,
)
from slipway_signals.dashboards.reading import Dashboard, Panel, Threshold, Variable
from slipway_signals.slo.promised_watches import COST_GROWTH

__all__ = ["executive"]

S: Final = 'service=~"$service"'
COUNT: Final = "http_server_request_duration_seconds_count"
FAILED: Final = 'http_response_status_code=~"5..|429"'
LEFT: Final = (Threshold(None, BAD), Threshold(0, GOOD))
HOURS_A_MONTH: Final = 730

SERVICES: Final = Variable(
    name="service",
    label="services",
    query="label_values(slipway_build_info, service)",
    is_multi=True,
    selector="slipway_build_info",
    values_of="service",
)


def executive() -> Dashboard:
    """Everything by service; none chosen means all."""
    return Dashboard(
        uid="slipway-exec",
        title="slipway: executive",
        description="What was promised and kept, what it costs, what it is worth.",
        variables=(SERVICES,),
        annotations=marks(S),
        links=links_of("slipway-exec"),
        panels=placed((*_first(), *_kept(), *_money(), *_worth())),
        range_s=7 * 86_400,
    )


def _first() -> Iterator[Panel]:
    yield stat(
        1,
        "Least budget left",
        "Is any promise at risk?",
        f"min(slipway:slo_budget_remaining:ratio{{{S}}})",
        unit="percentunit",
        legend="of a budget",
        thresholds=LEFT,
        width=6,
    )
    yield stat(
        2,
        "Requests",
        "How much is used, over all services?",
        rate(f"{COUNT}{{{S}}}"),
        unit="reqps",
        legend="all services",
        width=6,
    )
    yield stat(
        3,
        "Cost a month",
        "What does a month cost as things are now?",
        f"{HOURS_A_MONTH} * sum(slipway_cost_usd_per_hour{{{S}}})",
        unit="currencyUSD",
        legend="a month",
        decimals=0,
        width=6,
        no_value="no service says its cost",
    )
    yield stat(
        4,
        "Alerts that page",
        "How many problems of users does somebody work on now?",
        f'sum(count by (alertname, service, slo) (ALERTS{{{S},alertstate="firing",severity="page"}}) > bool 0) '
        "or vector(0)",
        unit="none",
        legend="alerts",
        decimals=0,
        width=6,
    )


def _kept() -> Iterator[Panel]:
    info = f"on (slo, service) group_left (title) 0 * max by (slo, service, title) (slipway:slo_info{{{S}}})"
    yield table(
        5,
        "Promises",
        "What was promised, what was kept over the objective's window, and how much budget is left?",
        {"service": "service", "title": "promise"},
        (
            f"slipway:slo_objective:ratio{{{S}}} + {info}",
            value("promised", unit="percentunit", decimals=2),
        ),
        (
            f"1 - slipway:slo_error_budget:ratio{{{S}}} * (1 - slipway:slo_budget_remaining:ratio{{{S}}}) + {info}",
            value("kept", unit="percentunit", decimals=2),
        ),
        (
            f"slipway:slo_budget_remaining:ratio{{{S}}} + {info}",
            value("budget left", unit="percentunit", decimals=0, thresholds=LEFT),
        ),
        height=9,
    )
    asked, failed = (
        rate(f"{COUNT}{{{labels}}}", "service", "http_route", window="$__range") for labels in (S, f"{S},{FAILED}")
    )
    yield table(
        6,
        "Endpoints",
        "Which endpoint is used how much, and how often does it fail or refuse?",
        {"service": "service", "http_route": "endpoint"},
        (f"topk(20, {asked} > 0)", value("requests", unit="reqps", decimals=2)),
        (f"{share(failed, asked)} > 0", value("failed", unit="percentunit", decimals=2)),
        height=9,
    )


def _money() -> Iterator[Panel]:
    yield timeseries(
        7,
        "Cost of 1,000 inferences",
        "Does an inference cost more than it did a week ago, and more than the alert allows?",
        (f"1000 / 3600 * {_cost()}", "{{service}}"),
        (f"{COST_GROWTH} * 1000 / 3600 * {_cost(' offset 7d')}", "{{service}}, limit by last week"),
        unit="currencyUSD",
        no_value="no service says its cost",
    )
    yield timeseries(
        8,
        "Budget left",
        "Which promise loses its budget, and how fast?",
        (f"slipway:slo_budget_remaining:ratio{{{S}}}", "{{slo}}"),
        unit="percentunit",
        maximum=1,
        minimum=None,
    )


def _worth() -> Iterator[Panel]:
    yield timeseries(
        9,
        "Business value",
        "What is it worth: the number that each service says it is for?",
        (f"slipway:business:value{{{S}}}", "{{service}}: {{metric}}"),
        unit="short",
        no_value="no slo.yaml names a business metric",
    )
    yield timeseries(
        10,
        "Accuracy",
        "Are the answers right: by labels where they came, by the model's own probabilities until then?",
        (f"slipway:prediction_realized_accuracy:1d{{{S}}}", "{{service}} {{model}} {{track}} by labels"),
        (f"slipway:prediction_expected_accuracy:1h{{{S}}}", "{{service}} {{model}} {{track}} expected"),
        (f"slipway:prediction_reference:accuracy{{{S}}}", "{{service}} {{model}} {{track}} in training"),
        unit="percentunit",
        maximum=1,
        minimum=None,
    )
    yield table(
        11,
        "Releases",
        "Which version of each service is in use?",
        {"service": "service", "version": "version", "digest": "digest", "track": "track"},
        (
            f"count by (service, version, digest, track) (slipway_build_info{{{S}}})",
            value("instances", unit="none", decimals=0),
        ),
    )
    by, firing = "service, severity, category", f'ALERTS{{{S},alertstate="firing",severity!="info"}}'
    yield table(
        12,
        "Open problems",
        "Where is work: which alerts fire, by service and severity?",
        {"service": "service", "severity": "severity", "category": "about"},
        (
            f"count by ({by}) (count by (alertname, {by}) ({firing}))",
            value("alerts", unit="none", decimals=0),
        ),
        no_value="no alert fires",
    )


def _cost(offset: str = "") -> str:
    """Dollars an hour by inferences a second, those of tests and probes left out, as the alert has it."""
    rows = rate(f'slipway_inferences_total{{{S},result="ok"}}', "service", offset=offset)
    probes = rate(f"slipway_synthetic_inferences_total{{{S}}}", "service", offset=offset)
    return share(f"sum by (service) (slipway_cost_usd_per_hour{{{S}}}{offset})", f"{rows} - ({probes} or 0 * {rows})")
