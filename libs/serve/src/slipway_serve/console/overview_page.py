"""The first page: the answer in one sentence, what to do, and below it what the answer rests on."""

from collections.abc import Sequence, Set

from slipway_serve.console.facts import Ended, Firing, Objective
from slipway_serve.console.frame import alert_link, command, dashboard_link, sign, stamp
from slipway_serve.console.overview import GRAIN_S, LATELY_S, Overview
from slipway_serve.console.releases import Served
from slipway_serve.console.words import clock_text, number_text, ratio_text, sentence, since_words, span_text
from slipway_serve.page_markup import Child, Html, el, prose
from slipway_signals.oncall import Brief
from slipway_signals.oncall_releases import Release

STATES = {
    "failing": ("hurt", "Missed now"),
    "spent": ("failing", "Budget spent"),
    "met": ("fine", "Met"),
    "idle": ("unknown", "No traffic"),
    "unknown": ("unknown", "No data"),
}
ORDER = tuple(STATES)
UNSAID = frozenset({"category", "long", "short"})
"""Labels that say what others of the same alert say in other words."""
MOST_ENDED = 8
"""Alerts that ended, by name and service; more are no help."""
LOW = 0.25
"""So little of a budget is marked."""
SHORT = 12
"""Digits of a digest that a person compares."""


def overview_body(seen: Overview, brief: Brief | None) -> list[Child]:
    """Children of `<main>`.

    Args:
        seen: what there is.
        brief: of the alert that the verdict names; None when there is none, or when it could not be asked.
    """
    return [
        _verdict(seen, brief),
        [el("p", notice, class_="notice", role="note") for notice in seen.notices],
        _alerts(seen) if seen.alerts else None,
        _objectives(seen) if seen.objectives else None,
        _releases(seen) if seen.releases else None,
        _ended(seen) if seen.ended else None,
        stamp(seen.at),
    ]


def release_name(release: Release) -> list[Child]:
    """Version, the first digits of the digest, and the track."""
    digest = release.digest.removeprefix("sha256:")[:SHORT]
    track = f" ({release.track})" if release.track else ""
    return [release.version or "no version", " · ", el("code", digest) if digest else "from a folder", track]


def served_words(release: Release, now: float) -> str:
    """Since when it is served."""
    words = f"for {span_text(now - release.since)}, since {clock_text(release.since, now)}"
    return words if release.is_since_known else f"since {clock_text(release.since, now)} or longer"


def _verdict(seen: Overview, brief: Brief | None) -> Html:
    verdict = seen.verdict
    objective = seen.objective(verdict.slo)
    facts: list[tuple[str, Child]] = []
    if verdict.service:
        facts.append(("Service", el("strong", verdict.service)))
    if verdict.slo:
        facts.append(("Objective", [el("strong", objective.title if objective else verdict.slo)]))
    if verdict.since is not None:
        facts.append(("Since", since_words(verdict.since, seen.at)))
    if verdict.service:
        facts.append(("Release", _release_words(seen.release_of(verdict.service), seen.at)))
    if objective is not None:
        facts.append(("Budget left", _budget_words(objective)))
    return el(
        "section",
        el("h1", sign(verdict.level), verdict.headline),
        el("p", verdict.reason, class_="lead"),
        el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in facts], class_="key-facts")
        if facts
        else None,
        el("p", "Also: ", [_other(alert) for alert in verdict.others], class_="also") if verdict.others else None,
        _todo(seen, brief),
        class_=f"verdict {verdict.level}",
        id="verdict",
        aria_label="Are users hurt?",
    )


def _other(alert: Firing) -> Html:
    return el("a", alert.summary, href=alert_link(alert.name, alert.labels))


def _todo(seen: Overview, brief: Brief | None) -> Html | None:
    """The next step, and the ways to more."""
    verdict = seen.verdict
    ways: list[Child] = []
    if verdict.alert is not None:
        ways.append(el("a", "Runbook with live answers", href=alert_link(verdict.alert.name, verdict.alert.labels)))
        board = dashboard_link(verdict.alert.dashboard_url)
        if board:
            ways.append(el("a", "Dashboard", href=board))
    elif verdict.level == "failing":
        ways.append(el("a", "Dashboard", href=f"/dashboards/slipway-oncall?var-service={verdict.service}"))
    if not ways:
        return None
    return el(
        "div",
        el("h2", "Do this first") if brief is not None else None,
        next_step(brief) if brief is not None else None,
        el("p", [el("span", way) for way in ways], class_="ways"),
        class_="todo",
    )


def next_step(brief: Brief) -> list[Child]:
    """The most likely cause with its reason, and what to type."""
    likely = brief.likely
    if likely is None:
        return [el("p", "No cause could be told apart. Open the runbook: its questions are answered there.")]
    return [
        el("p", el("strong", sentence(likely.name)), f". {sentence(likely.why)}" if likely.why else None),
        prose(sentence(likely.step)),
        command(likely.command) if likely.command else None,
    ]


def _release_words(served: Served | None, now: float) -> Child:
    if served is None:
        return "unknown"
    return [
        el("strong", release_name(served.release)),
        el("br"),
        el("span", served_words(served.release, now), class_="quiet"),
    ]


def _budget_words(objective: Objective) -> list[Child]:
    left = objective.budget_left
    words: list[Child] = [el("strong", ratio_text(left))]
    if objective.budget_ends_hours is not None and (left or 0) > 0:
        words += [el("br"), el("span", f"gone in {span_text(objective.budget_ends_hours * 3600)}", class_="quiet")]
    return words


def _alerts(seen: Overview) -> Html:
    firing = [alert for alert in seen.alerts if not alert.is_pending]
    pending = [alert for alert in seen.alerts if alert.is_pending]
    return el(
        "section",
        el("h2", "Firing"),
        _alert_list(firing, seen.at) if firing else el("p", "Nothing fires.", class_="quiet"),
        el(
            "details",
            el("summary", f"{len(pending)} more hold, and fire if they last"),
            _alert_list(pending, seen.at),
            id="pending",
        )
        if pending
        else None,
        class_="panel",
        id="alerts",
    )


def _alert_list(alerts: Sequence[Firing], now: float) -> Html:
    """One entry for each alert and service; what else of that alert fires is named below it."""
    groups: dict[tuple[str, str, str], list[Firing]] = {}
    for alert in alerts:
        groups.setdefault((alert.severity, alert.name, alert.service), []).append(alert)
    return el("ul", [_alert(members, now) for members in groups.values()], class_="alerts")


def _alert(members: Sequence[Firing], now: float) -> Html:
    first = members[0]
    about = [first.name, first.service or "monitoring", f"for {span_text(now - first.since)}", _heard(first)]
    shared = set(first.labels.items()).intersection(*(one.labels.items() for one in members))
    more = [el("a", _difference(one, shared), href=alert_link(one.name, one.labels)) for one in members]
    return el(
        "li",
        el("span", first.severity or "alert", class_=f"tag {first.severity}"),
        el(
            "div",
            el("a", first.summary, href=alert_link(first.name, first.labels)),
            el("p", " · ".join(about), class_="quiet"),
            el("p", f"{len(members)} of them: ", more, class_="also") if len(members) > 1 else None,
        ),
        class_="muted" if first.told is not None and first.told.is_muted else None,
    )


def _ended(seen: Overview) -> Html:
    """What fired and does no more: the last of each alert and service, and how many there were."""
    groups: dict[tuple[str, str], list[Ended]] = {}
    for one in seen.ended:
        groups.setdefault((one.service, one.name), []).append(one)
    items = [_end(members, seen.at) for members in groups.values()]
    more = len(items) - MOST_ENDED
    return el(
        "section",
        el("h2", f"Ended in the last {span_text(LATELY_S)}"),
        el("ul", items[:MOST_ENDED], class_="served"),
        el("p", f"And {more} more alerts.", class_="quiet") if more > 0 else None,
        class_="panel",
        id="ended",
    )


def _end(members: Sequence[Ended], now: float) -> Html:
    last = members[0]
    times = f"{len(members)} alerts, the last " if len(members) > 1 else ""
    return el(
        "li",
        el("strong", last.service or "monitoring"),
        el("a", last.name, href=alert_link(last.name, last.labels)),
        el("span", f"{times}{span_text(now - last.until)} ago, at {clock_text(last.until, now)}", class_="quiet"),
        el("span", f"it lasted {span_text(last.until - last.since + GRAIN_S)}", class_="quiet"),
    )


def _difference(alert: Firing, shared: Set[tuple[str, str]]) -> str:
    """What tells an alert from others of its name."""
    own = sorted(alert.labels.items() - shared)
    return ", ".join(value for key, value in own if key not in UNSAID) or alert.summary


def _heard(alert: Firing) -> str:
    if alert.told is None:
        return "nobody is known to be told"
    if alert.told.is_muted:
        return f"muted: {alert.told.because}"
    return f"told to {', '.join(alert.told.receivers)}"


def _objectives(seen: Overview) -> Html:
    head = ("Objective", "State", "Bad in 5 min", "Burn rate", "Budget left")
    rows = [
        el(
            "tr",
            el("th", el("span", objective.title), el("span", objective.service, class_="quiet"), scope="row"),
            [el("td", cell, data_label=head[index + 1]) for index, cell in enumerate(_cells(objective))],
        )
        for objective in sorted(seen.objectives, key=lambda one: ORDER.index(one.state))
    ]
    table = el(
        "table",
        el("thead", el("tr", [el("th", word, scope="col") for word in head])),
        el("tbody", rows),
        class_="objectives",
    )
    return el(
        "section",
        el("h2", "What is promised"),
        el("div", table, class_="scroll", tabindex="0", role="region", aria_label="Objectives"),
        class_="panel",
        id="objectives",
    )


def _cells(objective: Objective) -> list[Child]:
    level, words = STATES[objective.state]
    allowed = ratio_text(None if objective.target is None else 1 - objective.target)
    bad = f"{ratio_text(objective.errors)} of {allowed}" if objective.errors is not None else f"– of {allowed}"
    burn = number_text(objective.burn_rate) + " ×" if objective.burn_rate is not None else "–"
    return [el("span", sign(level), words), bad, burn, _bar(objective.budget_left)]


def _bar(left: float | None) -> Child:
    """What is left of the budget, as a length and in words."""
    if left is None:
        return "–"
    length = f"{100 * max(0.0, min(1.0, left)):.1f}"
    level = "bad" if left <= 0 else "warn" if left < LOW else ""
    drawn = el(
        "svg",
        el("rect", width=length, height="10"),
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        class_=f"bar {level}",
        aria_hidden="true",
    )
    return el("span", drawn, el("span", ratio_text(left), class_=f"left {level}"))


def _releases(seen: Overview) -> Html:
    items = [
        el(
            "li",
            el("strong", served.release.service),
            el("span", release_name(served.release)),
            el("span", served_words(served.release, seen.at), class_="quiet"),
            el("span", _targets(served.targets), class_="quiet"),
        )
        for served in seen.releases
    ]
    return el("section", el("h2", "What is served"), el("ul", items, class_="served"), class_="panel", id="served")


def _targets(count: int) -> str:
    if not count:
        return "no target answers now"
    return "1 target" if count == 1 else f"{count} targets"
