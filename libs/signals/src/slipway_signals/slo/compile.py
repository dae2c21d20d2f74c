"""Objectives into files: rules, the tests of every alert, and the data of dashboards and runbooks.

Pure: objectives in, text out, the same bytes everywhere. The invariants: no rule asks for a series that nothing exports
or records; every alert has a test, a summary, a description, a runbook and an owner.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from slipway_signals.slo.alertmanager import WEBHOOK, render_alertmanager
from slipway_signals.slo.anomaly import anomaly_records, anomaly_watches
from slipway_signals.slo.budget_alerts import budget_alerts
from slipway_signals.slo.budget_rules import budget_records
from slipway_signals.slo.business import business_records
from slipway_signals.slo.drills import Case, render_cases
from slipway_signals.slo.facts import facts_of
from slipway_signals.slo.model import Raw, ServiceSlos, Slo
from slipway_signals.slo.monitoring import monitoring_watches
from slipway_signals.slo.operation import operation_watches
from slipway_signals.slo.platform_watches import platform_watches
from slipway_signals.slo.promised_watches import promised_watches
from slipway_signals.slo.promrules import INTERVAL_S, Alert, Group, Record, Timing, render_groups
from slipway_signals.slo.release_watches import release_watches
from slipway_signals.slo.series import Known, selectors_of
from slipway_signals.slo.slo_drills import slo_cases
from slipway_signals.slo.watch_drills import looks_back_weeks, watch_cases
from slipway_signals.slo.watches import Watch

__all__ = ["Part", "alerts_of", "compile_all", "parts_of", "platform_part", "render_part"]

RULES: Final = "rules/{name}.yaml"
TESTS: Final = "tests/{name}.yaml"
FACTS: Final = "slo/{name}.json"
ALERTMANAGER: Final = "alertmanager/alertmanager.yaml"
SERVICES: Final = "services/*/slo.yaml"


class Part(Struct, frozen=True, kw_only=True):
    """What becomes one rules file and one file of tests."""

    name: str
    source: str
    groups: tuple[Group, ...]
    cases: tuple[Case, ...]


def compile_all(
    services: Sequence[ServiceSlos],
    *,
    timing: Timing | None = None,
    webhook: str = WEBHOOK,
    known: Known | None = None,
) -> dict[str, str]:
    """Every file of `observability/` that is made of objectives, by its path in there.

    Args:
        services: All services, sorted by name.
        timing: True windows by default. A scaled one is for live tests, and its files have no unit tests: those are
            about true windows.
        webhook: Where Alertmanager sends its messages.
        known: Which series exist; by default those of `slipway_signals.metrics`.

    Raises:
        RuntimeError: A rule asks for a series that nothing brings: a bug in slipway.
    """
    timing, known = timing or Timing(), known or Known()
    files: dict[str, str] = {}
    for service in services:
        parts = parts_of(service, timing, known)
        for part in parts:
            files |= render_part(part, with_tests=timing.scale == 1)
        facts = facts_of(service, [alert for part in parts for alert in alerts_of(part)])
        files[FACTS.format(name=service.service)] = msgspec.json.format(msgspec.json.encode(facts)).decode() + "\n"
    files |= render_part(platform_part(timing, known), with_tests=timing.scale == 1)
    files[ALERTMANAGER] = render_alertmanager(services, webhook=webhook, timing=timing)
    return files


def parts_of(service: ServiceSlos, timing: Timing, known: Known) -> tuple[Part, ...]:
    """The parts of one service: each objective, then what all services have."""
    source = f"services/{service.service}/slo.yaml"
    found = [_objective(slo, source, timing) for slo in service.slos]
    watches = [
        *operation_watches(service.service, service.owner, timing),
        *platform_watches(service.service, service.owner, timing),
        *release_watches(service.service, service.owner, timing),
    ]
    watches += [
        watch
        for watch in promised_watches(service.service, service.owner, timing)
        if not _missing([watch.alert], known)
    ]
    records = tuple(anomaly_records(service, timing))
    unusual = [*anomaly_watches(service, timing), *(watch for watch in watches if looks_back_weeks(watch))]
    found.append(_watched(f"{service.service}.anomaly", source, unusual, timing, records))
    usual = [watch for watch in watches if not looks_back_weeks(watch)]
    business = tuple(business_records(service))
    found.append(_watched(f"{service.service}.operation", source, usual, timing, business))
    if drift := _drift(service, source, timing, known):
        found.append(drift)
    recorded = [
        rule.name for part in found for group in part.groups for rule in group.rules if isinstance(rule, Record)
    ]
    raw = {slo.name for slo in service.slos if isinstance(slo.indicator, Raw)}  # promtool judges those queries
    for part in found:
        rules = [rule for group in part.groups for rule in group.rules]
        _require(
            [rule for rule in rules if not (part.name in raw and rule.name.endswith(":judged"))],
            known.and_recorded(recorded),
        )
    return tuple(found)


def platform_part(timing: Timing, known: Known) -> Part:
    """The alerts about the monitoring itself, once an installation."""
    part = _watched("monitoring", "slipway_signals.slo.monitoring", tuple(monitoring_watches(timing)), timing)
    _require([rule for group in part.groups for rule in group.rules], known)
    return part


def render_part(part: Part, *, with_tests: bool) -> dict[str, str]:
    """The files of one part, by path in `observability/`."""
    rules = RULES.format(name=part.name)
    files = {rules: render_groups(part.groups, source=part.source)}
    if with_tests and part.cases:
        groups = [group.name for group in part.groups]
        files[TESTS.format(name=part.name)] = render_cases(
            part.cases, [f"../{rules}"], source=part.source, groups=groups
        )
    return files


def alerts_of(part: Part) -> tuple[Alert, ...]:
    """The alerts among the rules of a part."""
    return tuple(rule for group in part.groups for rule in group.rules if isinstance(rule, Alert))


def _objective(slo: Slo, source: str, timing: Timing) -> Part:
    rules: tuple[Record | Alert, ...] = (*budget_records(slo, timing), *budget_alerts(slo, timing))
    group = Group(name=f"slipway-slo-{slo.name}", rules=rules, interval_s=timing.of(INTERVAL_S))
    return Part(name=slo.name, source=source, groups=(group,), cases=tuple(slo_cases(slo)))


def _watched(
    name: str, source: str, watches: Iterable[Watch], timing: Timing, records: tuple[Record, ...] = ()
) -> Part:
    watches = tuple(watches)
    rules: tuple[Record | Alert, ...] = (*records, *(watch.alert for watch in watches))
    group = Group(name=f"slipway-{name.replace('.', '-')}", rules=rules, interval_s=timing.of(INTERVAL_S))
    return Part(name=name, source=source, groups=(group,), cases=tuple(watch_cases(watches)))


def _drift(service: ServiceSlos, source: str, timing: Timing, known: Known) -> Part | None:
    """The rules of drift, once everything that they ask for is counted."""
    from slipway_signals.drift.drills import drift_cases
    from slipway_signals.drift.rules import drift_groups

    groups = drift_groups(service.service, service.owner, timing=timing)
    rules = [rule for group in groups for rule in group.rules]
    recorded = [rule.name for rule in rules if isinstance(rule, Record)]
    if _missing(rules, known.and_recorded(recorded)):
        return None
    cases = drift_cases(service.service, service.owner)
    return Part(name=f"{service.service}.drift", source=source, groups=groups, cases=cases)


def _missing(rules: Iterable[Record | Alert], known: Known) -> Mapping[str, str]:
    """What is wrong with a rule's series, by the rule."""
    return {
        rule.name: problem
        for rule in rules
        for selector in selectors_of(rule.expr)
        if (problem := known.problem_of(selector)) is not None
    }


def _require(rules: Iterable[Record | Alert], known: Known) -> None:
    for name, problem in _missing(rules, known).items():
        raise RuntimeError(f"this is a bug in slipway: the rule {name} cannot work: {problem}")
