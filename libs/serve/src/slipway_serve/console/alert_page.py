"""The page of one alert: what it says now, what the live system answers to its runbook's questions, and the runbook."""

from collections.abc import Mapping, Sequence

from slipway_serve.console.frame import command, dashboard_link, runbook_link, sign, stamp
from slipway_serve.console.markdown import rendered
from slipway_serve.console.overview_page import next_step, release_name, served_words
from slipway_serve.console.words import number_text, ratio_text, sentence, since_words, span_text
from slipway_serve.page_markup import Child, Html, el
from slipway_signals.oncall import Brief, JudgedCause
from slipway_signals.oncall_asking import Answer
from slipway_signals.runbooks import Runbook

LEVELS = {("firing", "page"): "hurt", ("firing", "ticket"): "failing", ("pending", "page"): "failing"}


def alert_body(brief: Brief, runbook: Runbook, pages: Sequence[str]) -> list[Child]:
    """Children of `<main>`.

    Args:
        brief: of the alert, live.
        runbook: its page.
        pages: names of all runbooks.
    """
    return [
        _head(brief),
        el("div", _todo(brief), _causes(brief.causes) if len(brief.causes) > 1 else None, class_="pair"),
        _answers(brief.answers) if brief.answers else None,
        _pages(runbook, brief.values, pages),
        stamp(brief.now),
    ]


def runbook_body(runbook: Runbook, pages: Sequence[str]) -> list[Child]:
    """Children of `<main>` of a runbook that nobody asked about a service: names stay as they are."""
    about = [el("p", f"{runbook.severity} · {runbook.owner}", class_="lead")]
    live = [
        el("p", el("a", f"{alert}: live answers", href=f"/alerts/{alert}"), class_="ways") for alert in runbook.alerts
    ]
    return [el("div", el("h1", runbook.title), about, live, class_="title"), _pages(runbook, None, pages)]


def index_body(runbooks: Mapping[str, Runbook], firing: Mapping[str, str]) -> list[Child]:
    """Children of `<main>`: every runbook, what fires first.

    Args:
        runbooks: by name.
        firing: names of alerts that fire, and the address of their page.
    """
    groups = (
        ("Firing now", [one for one in runbooks.values() if one.alert in firing]),
        ("Playbooks", [one for one in runbooks.values() if one.alert is None]),
        ("Pages", [one for one in runbooks.values() if one.alert and one.severity.startswith("page")]),
        ("Tickets", [one for one in runbooks.values() if one.alert and not one.severity.startswith("page")]),
    )
    sections = [
        el("section", el("h2", title), el("ul", [_entry(one, firing) for one in members]), class_="panel index")
        for title, members in groups
        if members
    ]
    lead = el("p", f"{len(runbooks)} pages: one for each alert, and playbooks for what crosses alerts.", class_="lead")
    return [el("div", el("h1", "Runbooks"), lead, class_="title"), *sections]


def _entry(runbook: Runbook, firing: Mapping[str, str]) -> Html:
    href = firing.get(runbook.alert or "", runbook_link(runbook.name))
    meaning = next((section.text for section in runbook.sections if section.heading == "Meaning"), "")
    sentence = " ".join(meaning.split("\n\n")[0].split("\n")[:1])
    return el(
        "li",
        el("a", runbook.title, href=href),
        el("div", rendered(sentence), class_="quiet") if sentence else None,
    )


def _head(brief: Brief) -> Html:
    level = LEVELS.get((brief.state, brief.severity), "fine" if brief.state == "quiet" else "watching")
    about = " · ".join(filter(None, (brief.service, brief.slo)))
    facts: list[tuple[str, Child]] = []
    if brief.since is not None:
        facts.append(("Since", since_words(brief.since, brief.now)))
    for release in brief.releases[:2]:
        words = [el("strong", release_name(release)), el("br")]
        facts.append(("Release", [*words, el("span", served_words(release, brief.now), class_="quiet")]))
    if brief.released_before_s is not None:
        when = "before" if brief.released_before_s >= 0 else "after"
        facts.append(("The release came", el("strong", f"{span_text(abs(brief.released_before_s))} {when} the alert")))
    for budget in brief.budgets[:1]:
        left: list[Child] = [el("strong", ratio_text(budget.left_ratio))]
        if budget.burn_rate:
            left += [el("br"), el("span", f"burns {number_text(budget.burn_rate)} times too fast", class_="quiet")]
        facts.append(("Budget left", left))
    if brief.top_error:
        facts.append(("Top error", el("strong", brief.top_error)))
    return el(
        "section",
        el("p", sign(level), f"{brief.alert} · {brief.state}" + (f" · {about}" if about else ""), class_="state-line"),
        el("h1", brief.summary or (f"{brief.alert} does not fire" if brief.state == "quiet" else brief.alert)),
        el("p", brief.description, class_="lead") if brief.description else None,
        el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in facts], class_="key-facts")
        if facts
        else None,
        el("p", f"{brief.alike} more of this name fire.", class_="quiet") if brief.alike else None,
        el("p", f"Fires beside it: {', '.join(brief.beside)}.", class_="quiet") if brief.beside else None,
        [el("p", problem, class_="notice", role="note") for problem in brief.problems],
        class_=f"verdict {level}",
        id="verdict",
        aria_label="The alert",
    )


def _todo(brief: Brief) -> Html:
    board = dashboard_link(brief.dashboard) if brief.dashboard else None
    return el(
        "section",
        el("h2", "Do this first" if brief.state != "quiet" else "It does not fire; if it did"),
        next_step(brief),
        el("p", el("a", "Dashboard", href=board), class_="ways") if board else None,
        class_="panel todo",
        id="todo",
    )


def _causes(causes: Sequence[JudgedCause]) -> Html:
    said = {True: ("failing", "Evidence for it."), False: ("calm", "No evidence."), None: ("unknown", "Not asked.")}
    items = []
    for cause in causes:
        level, words = said[cause.holds]
        if cause.promql is None:
            words = "What remains when it is nothing else."
        text = el("div", el("strong", sentence(cause.name)), " ", el("span", words, class_="quiet"))
        items.append(el("li", sign(level), text))
    return el("section", el("h2", "What it may be"), el("ul", items, class_="causes"), class_="panel", id="causes")


def _answers(answers: Sequence[Answer]) -> Html:
    return el(
        "section",
        el("h2", "Asked now"),
        el("div", [_answer(answer) for answer in answers], class_="questions"),
        class_="panel",
        id="answers",
    )


def _answer(answer: Answer) -> Html:
    if answer.problem is not None:
        said: Child = el("p", answer.problem, class_="error")
    elif answer.rows:
        said = el("ul", [el("li", row.text) for row in answer.rows], class_="rows")
    else:
        said = el("p", answer.says or "Nothing.", class_="says")
    return el(
        "div",
        el("h3", answer.question),
        said,
        el(
            "details",
            el("summary", "Query"),
            command(answer.promql, what="Query"),
            id=f"query-{answer.id}",
        ),
        class_="asked",
    )


def _pages(runbook: Runbook, values: Mapping[str, str] | None, pages: Sequence[str]) -> Html:
    sections = [
        el("section", el("h2", section.heading), rendered(section.text, values=values, pages=pages))
        for section in runbook.sections
    ]
    return el("article", sections, class_="panel runbook", id="runbook")
