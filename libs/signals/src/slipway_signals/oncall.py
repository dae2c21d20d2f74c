"""The first minute of whoever was woken: one alert, its page, and what the live system answers to the page's questions.

It only reads, prints nothing, and decides nothing that its reader could not decide from what it shows: the likely cause
is the first one on the page whose own query has a series, and it comes with that query. The invariant: what cannot be
asked is said as such; it is never shown as a good sign.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from slipway_signals.oncall_asking import Answer, Asking, value_text
from slipway_signals.oncall_releases import Release, previous_of, releases_of, served_of
from slipway_signals.prometheus import ActiveAlert, Prometheus, PrometheusError, Sample
from slipway_signals.runbooks import Cause, Runbook, RunbookError, fill, fill_known

__all__ = ["Brief", "Budget", "JudgedCause", "brief", "chosen_alerts", "top_error"]

ERRORS: Final = (
    "topk(1, sum by (http_route, http_response_status_code) "
    '(rate(http_server_request_duration_seconds_count{service="$service",http_response_status_code=~"5..|429"}[5m]))'
    " > 0)"
)
MODEL_ERRORS: Final = (
    'topk(1, sum by (model, result) (rate(slipway_inferences_total{service="$service",result=~"error|timeout"}[5m]))'
    " > 0)"
)
INSTANCES: Final = 'slipway_build_info{service="$service"}'
TARGETS: Final = 'up{service="$service"}'
BUDGETS: Final = {
    "left_ratio": 'slipway:slo_budget_remaining:ratio{service="$service"}',
    "burn_rate": 'slipway:slo_burn_rate:ratio_rate5m{service="$service"}',
    "ends_hours": 'slipway:slo_budget_ends:hours{service="$service"}',
}


class Budget(Struct, frozen=True, kw_only=True):
    """How an objective stands. None: it has no such number now (no traffic, or nothing burns)."""

    slo: str
    left_ratio: float | None = None
    """1 untouched, 0 gone, below 0 overspent."""

    burn_rate: float | None = None
    """Of the last 5 minutes; 1 = gone exactly at the end of the window."""

    ends_hours: float | None = None
    """Until the rest is gone at the last hour's rate."""


class JudgedCause(Struct, frozen=True, kw_only=True):
    """A cause of the page, and what speaks for it now."""

    name: str
    holds: bool | None
    """Whether its query has a series; None where it has no query or could not be asked."""

    why: str
    step: str
    command: str | None
    """For a shell; names that are not known are left as `$name`."""

    promql: str | None
    """As it was asked."""


class Brief(Struct, frozen=True, kw_only=True):
    """One screen about one alert."""

    alert: str
    state: str
    """`firing`, `pending`, or `quiet`: Prometheus has no such alert now."""

    since: float | None
    """Unix seconds since when its condition holds; None when it is quiet."""

    now: float
    severity: str
    owner: str
    service: str | None
    slo: str | None
    labels: dict[str, str]
    summary: str
    description: str
    runbook: str
    dashboard: str | None
    """As the alert's annotation gives it."""

    alike: int
    """How many more alerts of this name fit what was asked."""

    beside: tuple[str, ...]
    """Other alerts of the service that fire, the longest first."""

    releases: tuple[Release, ...]
    """Served now: canaries, then the youngest first."""

    previous: Release | None
    """What to go back to."""

    released_before_s: float | None
    """Seconds from the first of `releases` to the alert; negative when the release came later. None where unknown."""

    budgets: tuple[Budget, ...]
    """The alert's own objective first, then the least budget left."""

    top_error: str | None
    answers: tuple[Answer, ...]
    likely: JudgedCause | None
    """None where the page has no causes, or none could be judged."""

    causes: tuple[JudgedCause, ...]
    values: dict[str, str]
    """What the names on the page stand for here."""

    problems: tuple[str, ...]
    """What could not be found out, in words."""


def brief(
    prometheus: Prometheus,
    runbook: Runbook,
    labels: Mapping[str, str],
    now: float,
    *,
    patience_s: float = 10.0,
    known: Mapping[str, str] | None = None,
) -> Brief:
    """Everything about an alert, live.

    Args:
        prometheus: Whom to ask.
        runbook: The alert's page, or a playbook (then the first of its alerts that fires).
        labels: Which the alert must have: its service and objective, or all of them.
        now: Unix seconds; what is told is as of then.
        patience_s: How long all questions together may take.
        known: Further names of the page: `server`, `alertmanager`, …

    Raises:
        PrometheusError: it cannot be reached. What fails later is told in `problems` and in the answers.
    """
    asking = Asking(prometheus, now, patience_s)
    matching = chosen_alerts(prometheus.alerts(), runbook.alerts, labels)
    active = matching[0] if matching else None
    found = {**labels, **(active.labels if active else {})}
    service = found.get("service")
    problems: list[str] = []
    releases = _releases(asking, service, problems)
    values = _values(asking, found, releases, {**(known or {}), "prometheus": prometheus.url})
    causes = tuple(_judged(asking, cause, values, problems) for cause in runbook.causes)
    return Brief(
        alert=active.name if active else runbook.alerts[0],
        state=active.state if active else "quiet",
        since=active.since if active else None,
        now=now,
        severity=found.get("severity", runbook.severity.split()[0]),
        owner=found.get("owner", runbook.owner),
        service=service,
        slo=found.get("slo"),
        labels=found,
        summary=active.annotations.get("summary", "") if active else "",
        description=active.annotations.get("description", "") if active else "",
        runbook=runbook.name,
        dashboard=active.annotations.get("dashboard_url") if active else None,
        alike=max(0, len(matching) - 1),
        beside=_beside(asking, active, service),
        releases=served_of(releases),
        previous=previous_of(releases),
        released_before_s=_released_before(releases, active),
        budgets=_budgets(asking, service, found.get("slo")),
        top_error=top_error(asking, service) if service else None,
        answers=tuple(asking.answer(one, values) for one in runbook.evidence),
        likely=next((cause for cause in causes if cause.holds), None) or _what_remains(causes),
        causes=causes,
        values=values,
        problems=tuple(problems),
    )


def chosen_alerts(
    alerts: Sequence[ActiveAlert], names: Sequence[str], labels: Mapping[str, str]
) -> tuple[ActiveAlert, ...]:
    """Those with one of `names` and all of `labels`: firing before pending, pages first, then the longest."""
    fit = [alert for alert in alerts if alert.name in names and labels.items() <= alert.labels.items()]
    return tuple(sorted(fit, key=lambda one: (one.state != "firing", one.labels.get("severity") != "page", one.since)))


def top_error(asking: Asking, service: str) -> str | None:
    """What fails most often now, in words: by route and status, else by model; None when nothing fails."""
    if failing := asking.samples_or_nothing(fill(ERRORS, {"service": service}, into="promql")):
        labels = failing[0].labels
        much = value_text(failing[0].value, "requests/s")
        return f"{labels.get('http_route')} answers {labels.get('http_response_status_code')}: {much}"
    if failing := asking.samples_or_nothing(fill(MODEL_ERRORS, {"service": service}, into="promql")):
        labels = failing[0].labels
        return f"model {labels.get('model')} ends in {labels.get('result')}: {value_text(failing[0].value, 'rows/s')}"
    return None


def _releases(asking: Asking, service: str | None, problems: list[str]) -> tuple[Release, ...]:
    if service is None:
        return ()
    try:
        found = releases_of(asking.prometheus, asking.now, service)
    except PrometheusError as error:
        problems.append(f"which release is served: {error.message}")
        return ()
    targets = asking.samples_or_nothing(fill(TARGETS, {"service": service}, into="promql"))
    if targets and not served_of(found):
        problems.append(f"no target of {service!r} says which release it serves")
    return found


def _values(
    asking: Asking, labels: Mapping[str, str], releases: Sequence[Release], known: Mapping[str, str]
) -> dict[str, str]:
    """The names of a page: labels of the alert, and what follows from them."""
    values = {name: value for name, value in labels.items() if name.islower()}
    if service := labels.get("service"):
        values["folder"] = f"services/{service}"
        served, previous = served_of(releases), previous_of(releases)
        if served and _is_one(served[0].digest):
            values["release"] = served[0].digest
        if previous is not None and _is_one(previous.digest):
            values["previous"] = previous.digest
        there = asking.samples_or_nothing(fill(INSTANCES, {"service": service}, into="promql"))
        newest = [one for one in there if served and _is_of(one, served[0])]
        if instance := next((one.labels["instance"] for one in [*newest, *there] if "instance" in one.labels), None):
            values.setdefault("instance", instance)
            values["admin"] = f"http://{instance}"
    return values | dict(known)


def _is_one(digest: str) -> bool:
    """A server of several services says all their digests at once; none of them is a reference."""
    return bool(digest) and "," not in digest


def _is_of(sample: Sample, release: Release) -> bool:
    said = (sample.labels.get(name, "") for name in ("version", "digest", "track"))
    return tuple(said) == (release.version, release.digest, release.track)


def _judged(asking: Asking, cause: Cause, values: Mapping[str, str], problems: list[str]) -> JudgedCause:
    asked, sample, holds = cause.promql, None, None
    if cause.promql is not None:
        try:
            asked = fill(cause.promql, values, into="promql")
            found = asking.samples(asked)
            sample, holds = next(iter(found), None), bool(found)
        except (RunbookError, PrometheusError) as error:
            problems.append(f"whether it is {cause.name}: {error.message}")
    seen = {**values, **_of(sample)}
    return JudgedCause(
        name=cause.name,
        holds=holds,
        why=fill_known(cause.why, seen) if holds is not False else "",
        step=fill_known(cause.step, seen),
        command=fill_known(cause.command, seen, into="sh") if cause.command else None,
        promql=asked,
    )


def _of(sample: Sample | None) -> dict[str, str]:
    """The names that the first series of a cause's query gives: its labels, and `value`, `percent`."""
    if sample is None:
        return {}
    numbers = {"value": value_text(sample.value, ""), "percent": value_text(sample.value, "ratio")}
    return {name: value for name, value in sample.labels.items() if name.islower()} | numbers


def _what_remains(causes: Sequence[JudgedCause]) -> JudgedCause | None:
    """The cause that needs no evidence, if every other was asked and has none."""
    judged = all(cause.holds is False for cause in causes if cause.promql is not None)
    return next((cause for cause in causes if cause.promql is None), None) if judged else None


def _beside(asking: Asking, active: ActiveAlert | None, service: str | None) -> tuple[str, ...]:
    if service is None:
        return ()
    query = fill('ALERTS{alertstate="firing",service="$service",severity!="info"}', {"service": service}, into="promql")
    names = (sample.labels.get("alertname", "") for sample in asking.samples_or_nothing(query))
    return tuple(dict.fromkeys(name for name in names if active is None or name != active.name))


def _released_before(releases: Sequence[Release], active: ActiveAlert | None) -> float | None:
    served = served_of(releases)
    if not served or active is None or not served[0].is_since_known:
        return None
    return active.since - served[0].since


def _budgets(asking: Asking, service: str | None, slo: str | None) -> tuple[Budget, ...]:
    if service is None:
        return ()
    numbers: dict[str, dict[str, float]] = {}
    for name, promql in BUDGETS.items():
        for sample in asking.samples_or_nothing(fill(promql, {"service": service}, into="promql")):
            numbers.setdefault(sample.labels.get("slo", ""), {})[name] = sample.value
    budgets = [Budget(slo=objective, **found) for objective, found in numbers.items()]
    return tuple(sorted(budgets, key=lambda one: (one.slo != slo, 1.0 if one.left_ratio is None else one.left_ratio)))
