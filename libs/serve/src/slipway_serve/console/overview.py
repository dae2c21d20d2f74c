"""The first minute as data: are users hurt, by which objective, since when, on which release; what fires; what is left.

Everything comes from recorded series and from the alerts of Prometheus; `judge` decides from them alone, without a
clock. What Prometheus does not say is unknown here, never fine.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeVar

from msgspec import Struct

from slipway_bundle import SlipwayError
from slipway_serve.console.facts import QUERY, Ended, Firing, Objective, read_alerts, read_ended, read_objectives
from slipway_serve.console.releases import Releases, Served
from slipway_serve.console.sources import Sources
from slipway_serve.console.words import joined, number_text, ratio_text, span_text
from slipway_signals.alertmanager import Routed
from slipway_signals.prometheus import Sample

T = TypeVar("T")
Level = Literal["hurt", "failing", "watching", "unknown", "fine"]
"""hurt: a page about users fires. failing: an objective is missed now, no page yet. watching: a page about something
else fires, the monitoring itself for instance. unknown: nobody can tell. fine: every objective with traffic is met."""

EVALUATED: Final = "max(timestamp(slipway:slo_objective:ratio))"
LATELY_S: Final = 1800.0
"""How long an alert that ended is shown."""
GRAIN_S: Final = 5.0
"""How exactly it is known when an alert began and ended."""
FIRED: Final = 'ALERTS{alertstate="firing",severity!="info"}'
BEGAN: Final = f"min_over_time(timestamp({FIRED})[{LATELY_S:.0f}s:{GRAIN_S:.0f}s])"
ENDED: Final = f"max_over_time(timestamp({FIRED})[{LATELY_S:.0f}s:{GRAIN_S:.0f}s])"
STALE_S: Final = 120.0
"""Rules are evaluated every 30 s; four missed evaluations are no accident."""
CLOCKS_S: Final = 60.0
"""Clocks may differ by that much before it is said."""
HURTING: Final = frozenset({"availability", "latency"})
"""Categories of alerts that users feel."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer to: are users hurt?"""

    level: Level
    headline: str
    reason: str
    service: str = ""
    slo: str = ""
    since: float | None = None
    alert: Firing | None = None
    """What to open first."""

    others: tuple[Firing, ...] = ()
    """What hurts users beside it: one for each service and objective."""


class Overview(Struct, frozen=True, kw_only=True):
    """All of the first page."""

    at: float
    verdict: Verdict
    objectives: tuple[Objective, ...] = ()
    alerts: tuple[Firing, ...] = ()
    ended: tuple[Ended, ...] = ()
    """The last first."""

    releases: tuple[Served, ...] = ()
    notices: tuple[str, ...] = ()
    """What makes the page less sure than it looks."""

    def release_of(self, service: str) -> Served | None:
        """The youngest release of a service."""
        return next((one for one in self.releases if one.release.service == service), None)

    def objective(self, slo: str) -> Objective | None:
        """By name."""
        return next((objective for objective in self.objectives if objective.slo == slo), None)


def look(sources: Sources, releases: Releases) -> Overview:
    """Ask Prometheus and Alertmanager, and judge. Never raises for what they do: that is part of the answer."""
    now = sources.clock()
    prometheus = sources.prometheus
    samples = sources.beside(lambda: prometheus.instant(QUERY))
    alerts = sources.beside(prometheus.alerts)
    ages = sources.beside(lambda: (prometheus.instant("time()"), prometheus.instant(EVALUATED)))
    served = sources.beside(lambda: releases.served(now))
    lately = sources.beside(lambda: (prometheus.instant(BEGAN), prometheus.instant(ENDED)))
    routed = sources.beside(sources.alertmanager.routed if sources.alertmanager is not None else list[Routed])
    notices: list[str] = []
    told = _or_notice(routed, list[Routed](), notices, "Who was told is not known, and perhaps nobody is")
    try:
        objectives, firing = read_objectives(samples()), read_alerts(alerts(), told)
        clock, evaluated = (found[0].value if found else None for found in ages())
    except SlipwayError as error:
        verdict = Verdict(level="unknown", headline="Nobody can tell: Prometheus gives no answer", reason=str(error))
        return Overview(at=now, verdict=verdict, notices=tuple(notices))
    if clock is not None and abs(clock - now) > CLOCKS_S:
        ahead = "ahead of" if clock > now else "behind"
        notices.append(f"Prometheus' clock is {span_text(abs(clock - now))} {ahead} this machine's: times are its own.")
    fired = _or_notice(lately, (list[Sample](), list[Sample]()), notices, "What ended lately is not known")
    return Overview(
        at=now,
        verdict=judge(objectives, firing, None if clock is None or evaluated is None else clock - evaluated),
        objectives=objectives,
        alerts=firing,
        ended=read_ended(*fired, firing),
        releases=_or_notice(served, (), notices, "What is served is not known"),
        notices=tuple(notices),
    )


def judge(objectives: Sequence[Objective], alerts: Sequence[Firing], rules_age_s: float | None) -> Verdict:
    """Are users hurt?

    Args:
        objectives: all of them.
        alerts: all that fire or are pending.
        rules_age_s: since when the rules were evaluated last; None: never.
    """
    pages = [alert for alert in alerts if alert.severity == "page" and not alert.is_pending]
    burning = {objective.slo: objective.burn_rate or 0.0 for objective in objectives}
    hurting = [alert for alert in pages if alert.category in HURTING]
    if hurting:
        return _hurt(sorted(hurting, key=lambda one: (-burning.get(one.slo, math.inf), one.since)), objectives)
    if not objectives:
        reason = "Either the address is wrong, or its `rule_files` are not those of `observability/rules`."
        headline = "Nobody can tell: this Prometheus knows no objective of slipway"
        return Verdict(level="unknown", headline=headline, reason=reason)
    if rules_age_s is None or rules_age_s > STALE_S:
        age = "ever" if rules_age_s is None else f"for {span_text(rules_age_s)}"
        headline = f"Nobody can tell: no rule was evaluated {age}"
        return Verdict(level="unknown", headline=headline, reason="No alert can fire. Look at Prometheus' own page.")
    if failing := [objective for objective in objectives if objective.state == "failing"]:
        return _failing(failing)
    if pages:
        first = pages[0]
        headline = f"Users are fine, {first.name} wakes somebody"
        return Verdict(level="watching", headline=headline, reason=first.summary, since=first.since, alert=first)
    return _fine(objectives)


def _or_notice(answer: Callable[[], T], otherwise: T, notices: list[str], words: str) -> T:
    """An answer that the page can do without; then a notice says so."""
    try:
        return answer()
    except SlipwayError as error:
        notices.append(f"{words}: {error}")
        return otherwise


def _hurt(alerts: Sequence[Firing], objectives: Sequence[Objective]) -> Verdict:
    first = alerts[0]
    services = sorted({alert.service for alert in alerts})
    about = next((objective for objective in objectives if objective.slo == first.slo), None)
    others = {(alert.service, alert.slo): alert for alert in reversed(alerts)}
    others.pop((first.service, first.slo), None)
    return Verdict(
        level="hurt",
        headline=f"Users of {joined(services)} are hurt",
        reason=first.summary if about is None else _missed(about),
        service=first.service,
        slo=first.slo,
        since=min(alert.since for alert in alerts if (alert.service, alert.slo) == (first.service, first.slo)),
        alert=first,
        others=tuple(others.values()),
    )


def _failing(failing: Sequence[Objective]) -> Verdict:
    worst = max(failing, key=lambda one: one.burn_rate or 0.0)
    services = sorted({objective.service for objective in failing})
    return Verdict(
        level="failing",
        headline=f"{joined(services)} {'fails' if len(services) == 1 else 'fail'} now; nobody is woken yet",
        reason=_missed(worst),
        service=worst.service,
        slo=worst.slo,
    )


def _fine(objectives: Sequence[Objective]) -> Verdict:
    dark = [objective for objective in objectives if objective.state in {"idle", "unknown"}]
    met = len(objectives) - len(dark)
    if not met:
        return Verdict(
            level="unknown",
            headline="Nobody can tell: no requests are counted",
            reason="No objective has an event in the last minutes: no traffic, or targets that are not scraped.",
        )
    services = sorted({objective.service for objective in objectives if objective not in dark})
    without = f" {joined([objective.title for objective in dark])}: no events." if dark else ""
    reason = f"{met} of {len(objectives)} objectives are met, of {joined(services)}.{without}"
    return Verdict(level="fine", headline="Nobody is hurt", reason=reason)


def _missed(objective: Objective) -> str:
    """In numbers: what is promised, and what is."""
    allowed = None if objective.target is None else 1 - objective.target
    words = f"{ratio_text(objective.errors)} of the events of the last 5 min were bad; {ratio_text(allowed)} may be."
    if objective.burn_rate is not None:
        words += f" The budget burns {number_text(objective.burn_rate)} times too fast."
    return words
