"""What Prometheus and Alertmanager say, as objectives and alerts; whoever shows them need not know their series.

Nothing is asked or judged here. What is no number is None, and never 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from slipway_signals.alertmanager import Routed, routed_as
from slipway_signals.prometheus import ActiveAlert, Sample

State = Literal["failing", "spent", "met", "idle", "unknown"]

SERIES: Final = (
    "slipway:slo_info",
    "slipway:slo_objective:ratio",
    "slipway:slo_error_budget:ratio",
    "slipway:slo_window:days",
    "slipway:slo_errors:ratio_rate5m",
    "slipway:slo_errors_lcb:ratio_rate1h",
    "slipway:slo_burn_rate:ratio_rate5m",
    "slipway:slo_budget_remaining:ratio",
    "slipway:slo_budget_ends:hours",
    "slipway:slo_total:rate5m",
)
QUERY: Final = f'{{__name__=~"{"|".join(SERIES)}"}}'

SILENT: Final = frozenset({"SlipwayWatchdog", "SlipwayDeployInProgress"})
"""Fire on purpose: one always, one to mute others."""
UNNAMED: Final = frozenset({"__name__", "alertstate"})
"""Labels of `ALERTS` that are no labels of an alert."""


class Objective(Struct, frozen=True, kw_only=True):
    """One objective now; None where Prometheus has no number."""

    service: str
    slo: str
    title: str
    owner: str
    target: float | None
    """Share of good events that is promised, 0 to 1."""

    window_days: float | None
    errors: float | None
    """Share of bad events in the short window (5 min)."""

    errors_proven: float | None
    """Lower bound of the share of bad events in the last hour."""

    burn_rate: float | None
    budget_left: float | None
    """1 untouched, 0 gone, below 0 overspent."""

    budget_ends_hours: float | None
    events_per_s: float | None
    state: State


class Firing(Struct, frozen=True, kw_only=True):
    """One alert that fires, or waits to."""

    name: str
    severity: str
    service: str
    slo: str
    category: str
    summary: str
    description: str
    dashboard_url: str
    labels: dict[str, str]
    since: float
    """Unix seconds."""

    is_pending: bool
    told: Routed | None
    """None: Alertmanager does not know it, was not asked or did not answer."""


class Ended(Struct, frozen=True, kw_only=True):
    """An alert that fired a short while ago, and no more."""

    name: str
    severity: str
    service: str
    labels: dict[str, str]
    since: float
    """Unix seconds; no earlier than `LATELY_S` ago."""

    until: float


def read_objectives(samples: Sequence[Sample]) -> tuple[Objective, ...]:
    """Objectives out of the series of `QUERY`, by service and name."""
    values: dict[str, dict[str, float]] = {}
    infos: dict[str, Mapping[str, str]] = {}
    for sample in samples:
        name, slo = sample.labels.get("__name__", ""), sample.labels.get("slo", "")
        values.setdefault(slo, {})[name] = sample.value
        if name == "slipway:slo_info":
            infos[slo] = sample.labels
    made = [_objective(slo, labels, values[slo]) for slo, labels in infos.items()]
    return tuple(sorted(made, key=lambda one: (one.service, one.slo)))


def read_alerts(alerts: Sequence[ActiveAlert], routed: Sequence[Routed]) -> tuple[Firing, ...]:
    """Alerts a person reads: pages before tickets, what fires before what is pending, the newest first."""
    found = [_firing(alert, routed) for alert in alerts if alert.name not in SILENT]
    return tuple(sorted(found, key=lambda one: (one.is_pending, one.severity != "page", -one.since, one.name, one.slo)))


def read_ended(began: Sequence[Sample], ended: Sequence[Sample], firing: Sequence[Firing]) -> tuple[Ended, ...]:
    """Alerts that fired and do no more, the last first.

    Args:
        began: of each that fired, when it was seen first (`BEGAN`).
        ended: when it was seen last (`ENDED`).
        firing: what fires or is pending now.
    """
    live = {_identity(one.labels) for one in firing if not one.is_pending}
    first = {_identity(sample.labels): sample.value for sample in began}
    found = [
        Ended(
            name=sample.labels.get("alertname", ""),
            severity=sample.labels.get("severity", ""),
            service=sample.labels.get("service", ""),
            labels={key: value for key, value in sample.labels.items() if key not in UNNAMED},
            since=first.get(_identity(sample.labels), sample.value),
            until=sample.value,
        )
        for sample in ended
        if _identity(sample.labels) not in live and sample.labels.get("alertname") not in SILENT
    ]
    return tuple(sorted(found, key=lambda one: (-one.until, one.name)))


def _identity(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((key, value) for key, value in labels.items() if key not in UNNAMED)


def _objective(slo: str, labels: Mapping[str, str], values: Mapping[str, float]) -> Objective:
    def known(name: str) -> float | None:
        value = values.get(f"slipway:slo_{name}")
        return value if value is not None and math.isfinite(value) else None

    errors, proven, budget = known("errors:ratio_rate5m"), known("errors_lcb:ratio_rate1h"), known("error_budget:ratio")
    left, events = known("budget_remaining:ratio"), known("total:rate5m")
    state: State = "met"
    if errors is None:
        state = "idle" if events == 0 else "unknown"
    elif budget is not None and errors > budget and (proven or 0.0) > budget:
        state = "failing"
    elif left is not None and left <= 0:
        state = "spent"
    return Objective(
        service=labels.get("service", ""),
        slo=slo,
        title=labels.get("title", slo),
        owner=labels.get("owner", ""),
        target=known("objective:ratio"),
        window_days=known("window:days"),
        errors=errors,
        errors_proven=proven,
        burn_rate=known("burn_rate:ratio_rate5m"),
        budget_left=left,
        budget_ends_hours=known("budget_ends:hours"),
        events_per_s=events,
        state=state,
    )


def _firing(alert: ActiveAlert, routed: Sequence[Routed]) -> Firing:
    labels, words = alert.labels, alert.annotations
    return Firing(
        name=alert.name,
        severity=labels.get("severity", ""),
        service=labels.get("service", ""),
        slo=labels.get("slo", ""),
        category=labels.get("category", ""),
        summary=words.get("summary", alert.name),
        description=words.get("description", ""),
        dashboard_url=words.get("dashboard_url", ""),
        labels=labels,
        since=alert.since,
        is_pending=alert.state != "firing",
        told=routed_as(labels, routed),
    )
