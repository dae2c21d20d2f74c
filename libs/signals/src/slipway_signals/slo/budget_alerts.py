"""The alerts of one objective: how fast its budget goes, that it is about to end, that it is gone, that nobody counts.

Conditions only; the series are recorded by `budget_rules`. The invariant: no alert asks a window that is not recorded,
and each carries who is woken, how badly, why (in words, with the numbers) and where to read on.
Rejected: `keep_firing_for` on burn alerts. It would make every reset five minutes later than the workbook's, and
Alertmanager's `group_interval` already keeps a flapping alert from sending two messages.
"""

from typing import Final

from slipway_signals.slo.budget_rules import lower_bound, series
from slipway_signals.slo.burn import TIERS, Tier, factor
from slipway_signals.slo.durations import duration_text
from slipway_signals.slo.model import Slo
from slipway_signals.slo.panels import panel_url
from slipway_signals.slo.promrules import Alert, Timing

__all__ = ["annotated", "budget_alerts", "tier_alert"]

ENDING_S: Final = 3_600
"""The window whose rate is today's."""

SILENT_S: Final = 1_800
"""How long no event may be counted while targets are up, before somebody looks."""

RUNBOOKS: Final = "runbooks/{alert}.md"


def budget_alerts(slo: Slo, timing: Timing) -> tuple[Alert, ...]:
    """All alerts of an objective."""
    burns = tuple(tier_alert(slo, tier) for tier in TIERS)
    return (*burns, _ending(slo), _spent(slo), _absent(slo, timing))


def annotated(alert: str, service: str, *, summary: str, description: str) -> dict[str, str]:
    """The four annotations that every alert has."""
    return {
        "summary": summary,
        "description": description,
        "runbook_url": RUNBOOKS.format(alert=alert),
        "dashboard_url": panel_url(alert, service),
    }


def tier_alert(slo: Slo, tier: Tier) -> Alert:
    """One window pair: fires while both windows burn too fast and the long one has the events to prove it."""
    burn = factor(tier, slo.window_s)
    least = f"{burn:f} * {slo.budget:f}"
    long, short = duration_text(tier.long_s), duration_text(tier.short_s)
    asked = [series(f"errors:ratio_rate{long}", slo), series(f"errors:ratio_rate{short}", slo)]
    asked += [lower_bound(slo, tier.long_s)] if slo.is_guarded else []
    left = f"with query \"slipway:slo_budget_remaining:ratio{{slo='{slo.name}'}}\""
    summary = f"{slo.title}: error budget burns {burn:f} times too fast"
    description = (
        f"{{{{ $value | humanizePercentage }}}} of the events of {slo.name} were bad in the last {long}; "
        f"{_percent(slo)} may be over {duration_text(slo.window_s)}. "
        f"{{{{ {left} }}}}{{{{ . | first | value | humanizePercentage }}}} of the budget is left.{{{{ end }}}}"
    )
    return Alert(
        name=tier.alert,
        expr="\nand ".join(f"{name} > {least}" for name in asked),
        labels=_labels(slo, tier.severity) | {"tier": tier.name, "long": long, "short": short},
        annotations=annotated(tier.alert, slo.service, summary=summary, description=description),
    )


def _ending(slo: Slo) -> Alert:
    name, budget = "SlipwaySLOBudgetEnding", f"{slo.budget:f}"
    proof = lower_bound(slo, ENDING_S) if slo.is_guarded else series("errors:ratio_rate1h", slo)
    expr = (
        f"{series('budget_ends:hours', slo)} < 1\n"
        f"and {proof} > {budget}\nand {series('errors:ratio_rate5m', slo)} > {budget}"
    )
    description = (
        f"At the rate of the last hour the error budget of {slo.name} is gone in "
        '{{ $value | printf "%.1f" }} hours.'
    )
    summary = f'{slo.title}: the error budget ends in {{{{ $value | printf "%.1f" }}}} hours'
    annotations = annotated(name, slo.service, summary=summary, description=description)
    return Alert(name=name, expr=expr, labels=_labels(slo, "page"), annotations=annotations)


def _spent(slo: Slo) -> Alert:
    name, whole = "SlipwaySLOBudgetSpent", duration_text(slo.window_s)
    expr = f"{series('budget_remaining:ratio', slo)} <= 0"
    if slo.is_guarded:
        expr += f"\nand {lower_bound(slo, slo.window_s)} > {slo.budget:f}"
    description = (
        f"{{{{ $value | humanizePercentage }}}} of the error budget of {slo.name} is left over {whole}: "
        f"the target of {float(slo.target):.6g} is missed."
    )
    annotations = annotated(
        name,
        slo.service,
        summary=f"{slo.title}: the error budget is spent, {{{{ $value | humanizePercentage }}}} is left",
        description=description,
    )
    return Alert(name=name, expr=expr, labels=_labels(slo, "ticket"), annotations=annotations)


def _absent(slo: Slo, timing: Timing) -> Alert:
    """Targets are up and count nothing: a renamed metric or route, or nobody has called since the start."""
    name = "SlipwayMetricsAbsent"
    up = f'count(up{{service="{slo.service}"}} == 1) > 0'
    expr = f"({up})\nunless on() {series('bad:rate5m', slo)}"
    description = (
        f"{{{{ $value }}}} targets of {slo.service} are up, and none counts what {slo.name} needs: "
        f"no alert of this objective can fire. Nothing has been counted for {duration_text(SILENT_S)}."
    )
    summary = f"{slo.title}: nothing has been counted for {duration_text(SILENT_S)}"
    annotations = annotated(name, slo.service, summary=summary, description=description)
    return Alert(
        name=name, expr=expr, for_s=timing.of(SILENT_S), labels=_labels(slo, "ticket"), annotations=annotations
    )


def _labels(slo: Slo, severity: str) -> dict[str, str]:
    return {
        "severity": "ticket" if slo.severity == "ticket" else severity,
        "service": slo.service,
        "slo": slo.name,
        "category": slo.category,
        "owner": slo.owner,
    }


def _percent(slo: Slo) -> str:
    return f"{(slo.budget * 100).normalize():f}%"
