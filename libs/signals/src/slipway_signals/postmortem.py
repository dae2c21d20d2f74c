"""What happened to a service between two moments, as data: alerts, releases, budgets, what failed.

It explains nothing and writes nothing (`postmortem_page` writes; causes are for people). The invariant: every event has
a time that Prometheus has, and what began before the first moment, or was not over at the last, is said to be so.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from msgspec import Struct

from slipway_bundle.errors import UsageError
from slipway_signals.oncall_asking import Asking, Row
from slipway_signals.oncall_releases import runs_of
from slipway_signals.prometheus import Prometheus, Series
from slipway_signals.runbooks import Evidence, fill

__all__ = ["Event", "Incident", "IntervalError", "Spent", "incident_of"]

POINTS_MOST: Final = 2_000
"""Of one line: an hour is known to 2 s, a day to 43 s."""

STEP_LEAST_S: Final = 1.0
LONGEST_S: Final = 30 * 86_400.0

ALERTS: Final = 'ALERTS{service="$service",alertstate="firing",severity=~"page|ticket"}'
RELEASES: Final = 'count by (version, digest, track) (slipway_build_info{service="$service"})'
LEFT: Final = 'slipway:slo_budget_remaining:ratio{service="$service"}'
BURN: Final = 'slipway:slo_burn_rate:ratio_rate5m{service="$service"}'
BAD: Final = 'slipway:slo_bad:rate5m{service="$service"}'
TOTAL: Final = 'slipway:slo_total:rate5m{service="$service"}'

COUNTED: Final = (
    Evidence(
        id="failed",
        question="Which routes and statuses failed?",
        promql="topk(10, sum by (http_route, http_response_status_code) (increase("
        'http_server_request_duration_seconds_count{service="$service",http_response_status_code=~"5..|429"}[$range]))'
        " > 0.5)",
        unit="requests",
        empty="no request failed",
    ),
    Evidence(
        id="refused",
        question="What was refused at the door?",
        promql='sum by (model, reason) (increase(slipway_requests_shed_total{service="$service"}[$range])) > 0.5',
        unit="requests",
        empty="nothing was refused",
    ),
    Evidence(
        id="errors",
        question="Which models failed?",
        promql='sum by (model, result) (increase(slipway_inferences_total{service="$service",'
        'result=~"error|timeout"}[$range])) > 0.5',
        unit="rows",
        empty="none",
    ),
    Evidence(
        id="died",
        question="Which processes died?",
        promql='sum by (worker) (increase(slipway_worker_restarts_total{service="$service"}[$range])) > 0.5',
        unit="restarts",
        empty="none",
    ),
    Evidence(
        id="moved",
        question="Which inputs had moved most at the end? (PSI; 0.1 is material)",
        promql='topk(5, slipway:feature_psi:1h{service="$service"} > 0.1)',
        empty="none",
    ),
)


class IntervalError(UsageError):
    """Two moments between which nothing can be told."""

    code = "interval_invalid"


class Event(Struct, frozen=True, kw_only=True):
    """One line of the timeline."""

    at: float
    """Unix seconds."""

    kind: Literal["alert", "resolved", "release", "gone", "burn"]
    what: str


class Spent(Struct, frozen=True, kw_only=True):
    """What an objective lost. None where nothing was recorded."""

    slo: str
    bad: float
    """Events; the recorded rates, added up, so that it is exact to a few per cent."""

    total: float
    left_before: float | None
    """Share of the budget at the first moment; 1 untouched."""

    left_after: float | None
    worst_burn: float | None
    worst_at: float | None


class Counted(Struct, frozen=True, kw_only=True):
    """What happened how often."""

    question: str
    rows: tuple[Row, ...]
    says: str | None
    problem: str | None


class Incident(Struct, frozen=True, kw_only=True):
    """All that is known."""

    service: str
    since: float
    until: float
    step_s: float
    """How exactly times are known."""

    timeline: tuple[Event, ...]
    """In the order of time."""

    spent: tuple[Spent, ...]
    counted: tuple[Counted, ...]
    digests: tuple[str, ...]
    """Of the releases that were served, the oldest first; folders have none."""

    first_alert: float | None
    """When the first page or ticket began."""

    last_resolved: float | None
    """When the last one ended; None while one fires, or where there was none."""

    released_before_s: float | None
    """From the last release before the first alert to that alert; None where there was none in the interval."""


def incident_of(prometheus: Prometheus, service: str, since: float, until: float) -> Incident:
    """What happened between two moments.

    Args:
        prometheus: Whom to ask; about 12 questions.
        service: Of the label `service`.
        since: Unix seconds.
        until: Unix seconds; later, by 30 days at most.

    Raises:
        IntervalError: the moments are in the wrong order or too far apart.
        PrometheusError: it cannot be asked.
    """
    if not 0 < until - since <= LONGEST_S:
        raise IntervalError(
            f"the interval is {until - since:g} s long, expected more than 0 and at most 30 days",
            hint="`--since` is the earlier moment: a length (6h, 2d) before `--until`, or a time",
        )
    step_s = max(STEP_LEAST_S, math.ceil((until - since) / POINTS_MOST))

    def lines(promql: str) -> list[Series]:
        filled = fill(promql, {"service": service}, into="promql")
        return [series for series in prometheus.range(filled, since, until, step_s) if series.points]

    alerts, releases, burns = lines(ALERTS), lines(RELEASES), lines(BURN)
    told = [*_alerts(alerts, since, until, step_s), *_releases(releases, since, until, step_s), *_worst(burns)]
    timeline = tuple(sorted(told, key=lambda event: event.at))
    first = min((run[0] for series in alerts for run in _runs(series, step_s)), default=None)
    last = max((run[1] for series in alerts for run in _runs(series, step_s)), default=None)
    is_over = last is not None and last < until - 2 * step_s
    starts = [event.at for event in timeline if event.kind == "release" and event.at > since + step_s]
    before = [at for at in starts if first is not None and at <= first]
    return Incident(
        service=service,
        since=since,
        until=until,
        step_s=step_s,
        timeline=timeline,
        spent=_spent(lines(LEFT), burns, lines(BAD), lines(TOTAL), step_s),
        counted=tuple(_counted(prometheus, service, since, until)),
        digests=_digests(releases),
        first_alert=first,
        last_resolved=last if is_over else None,
        released_before_s=first - before[-1] if first is not None and before else None,
    )


def _runs(series: Series, step_s: float) -> list[tuple[float, float]]:
    return runs_of([at for at, _ in series.points], step_s)


def _alerts(found: Iterable[Series], since: float, until: float, step_s: float) -> Iterator[Event]:
    for series in found:
        labels = series.labels
        parts = (labels.get(name) for name in ("slo", "tier", "model", "pool", "instance"))
        about = " ".join(part for part in parts if part)
        name = f"{labels.get('alertname', '?')} ({labels.get('severity', '?')}{', ' if about else ''}{about})"
        for first, last in _runs(series, step_s):
            began = "fires already" if first <= since + step_s else "fires"
            yield Event(at=first, kind="alert", what=f"{name} {began}")
            if last < until - 2 * step_s:
                yield Event(at=last + step_s, kind="resolved", what=f"{name} is over")


def _releases(found: Iterable[Series], since: float, until: float, step_s: float) -> Iterator[Event]:
    for series in found:
        labels = series.labels
        parts = (labels.get("digest", "")[:19] or "a folder", labels.get("track"))
        name = f"{labels.get('version', '?')} ({', '.join(part for part in parts if part)})"
        for first, last in _runs(series, step_s):
            began = "is served already" if first <= since + step_s else "is served"
            yield Event(at=first, kind="release", what=f"{name} {began}")
            if last < until - 2 * step_s:
                yield Event(at=last + step_s, kind="gone", what=f"{name} is served no longer")


def _worst(found: Iterable[Series]) -> Iterator[Event]:
    for series in found:
        if worst := _peak(series):
            at, rate = worst
            if rate > 1:
                slo = series.labels.get("slo", "?")
                yield Event(at=at, kind="burn", what=f"{slo} burns fastest: {rate:,.1f} times what its budget allows")


def _peak(series: Series) -> tuple[float, float] | None:
    real = [point for point in series.points if math.isfinite(point[1])]
    return max(real, key=lambda point: point[1], default=None)


def _spent(
    left: list[Series], burns: list[Series], bad: list[Series], total: list[Series], step_s: float
) -> tuple[Spent, ...]:
    def by_slo(found: list[Series]) -> dict[str, Series]:
        return {series.labels.get("slo", ""): series for series in found}

    lefts, fastest, bads, totals = by_slo(left), by_slo(burns), by_slo(bad), by_slo(total)
    spent = []
    for slo in sorted(lefts.keys() | totals.keys()):
        budget = [value for _, value in lefts[slo].points if math.isfinite(value)] if slo in lefts else []
        worst = _peak(fastest[slo]) if slo in fastest else None
        spent.append(
            Spent(
                slo=slo,
                bad=_events(bads.get(slo), step_s),
                total=_events(totals.get(slo), step_s),
                left_before=budget[0] if budget else None,
                left_after=budget[-1] if budget else None,
                worst_burn=worst[1] if worst else None,
                worst_at=worst[0] if worst else None,
            )
        )
    return tuple(spent)


def _events(rates: Series | None, step_s: float) -> float:
    return sum(value * step_s for _, value in rates.points if math.isfinite(value)) if rates else 0.0


def _digests(found: Iterable[Series]) -> tuple[str, ...]:
    firsts = sorted((series.points[0][0], series.labels.get("digest", "")) for series in found)
    return tuple(dict.fromkeys(digest for _, digest in firsts if digest))


def _counted(prometheus: Prometheus, service: str, since: float, until: float) -> Iterator[Counted]:
    asking = Asking(prometheus, until, patience_s=60.0)
    values = {"service": service, "range": f"{max(1, round(until - since))}s"}
    for evidence in COUNTED:
        answer = asking.answer(evidence, values)
        yield Counted(question=answer.question, rows=answer.rows, says=answer.says, problem=answer.problem)
