"""What dashboards and runbooks are made from: each objective with its queries, each alert with its links.

Data only, one JSON document a service. The format grows by new fields that have defaults.
"""

from collections.abc import Iterable

from msgspec import Struct

from slipway_signals.slo.budget_rules import series, windows_s
from slipway_signals.slo.durations import duration_text
from slipway_signals.slo.model import Counters, ServiceSlos, Slo
from slipway_signals.slo.promrules import Alert

__all__ = ["AlertFacts", "ServiceFacts", "SloFacts", "facts_of"]


class SloFacts(Struct, frozen=True, kw_only=True):
    """One objective."""

    name: str
    title: str
    category: str
    owner: str
    objective: float
    """Share of good, 0 to 1."""

    window_s: int
    threshold_s: float | None
    """Of a latency objective."""

    alerts: tuple[str, ...]
    queries: dict[str, str]
    """PromQL by what it shows: `budget_remaining`, `burn_rate`, `events_per_s`, `errors_5m`, …"""


class AlertFacts(Struct, frozen=True, kw_only=True):
    """One alert, whatever number of rules have its name."""

    name: str
    severity: str
    category: str
    runbook: str
    dashboard: str
    slos: tuple[str, ...]
    """The objectives that it is about; none for an operational alert."""


class ServiceFacts(Struct, frozen=True, kw_only=True):
    """All of a service."""

    service: str
    owner: str
    thresholds_s: tuple[float, ...]
    slos: tuple[SloFacts, ...]
    alerts: tuple[AlertFacts, ...]


def facts_of(service: ServiceSlos, alerts: Iterable[Alert]) -> ServiceFacts:
    """The facts of a service, in the order of its file."""
    by_name: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_name.setdefault(alert.name, []).append(alert)
    return ServiceFacts(
        service=service.service,
        owner=service.owner,
        thresholds_s=service.thresholds_s,
        slos=tuple(_slo(slo, by_name) for slo in service.slos),
        alerts=tuple(_alert(name, same) for name, same in by_name.items()),
    )


def _slo(slo: Slo, alerts: dict[str, list[Alert]]) -> SloFacts:
    queries = {
        "budget_remaining": series("budget_remaining:ratio", slo),
        "burn_rate": series("burn_rate:ratio_rate5m", slo),
        "budget_ends_hours": series("budget_ends:hours", slo),
        "events_per_s": series("total:rate5m", slo),
        "bad_per_s": series("bad:rate5m", slo),
    }
    queries |= {
        f"errors_{duration_text(seconds)}": series(f"errors:ratio_rate{duration_text(seconds)}", slo)
        for seconds in windows_s(slo)
    }
    return SloFacts(
        name=slo.name,
        title=slo.title,
        category=slo.category,
        owner=slo.owner,
        objective=float(slo.target),
        window_s=slo.window_s,
        threshold_s=slo.indicator.threshold_s if isinstance(slo.indicator, Counters) else None,
        alerts=tuple(name for name, same in alerts.items() if any(each.labels.get("slo") == slo.name for each in same)),
        queries=queries,
    )


def _alert(name: str, same: list[Alert]) -> AlertFacts:
    first = same[0]
    return AlertFacts(
        name=name,
        severity=first.labels["severity"],
        category=first.labels["category"],
        runbook=first.annotations["runbook_url"],
        dashboard=first.annotations["dashboard_url"],
        slos=tuple(dict.fromkeys(each.labels["slo"] for each in same if "slo" in each.labels)),
    )
