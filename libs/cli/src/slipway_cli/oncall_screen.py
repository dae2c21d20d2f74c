"""How `slipway oncall` looks: what fires now, and the first minute of one alert.

It asks nothing and decides nothing. The invariant: the order is that of the questions of somebody who was woken: since
when, what, by which release, how bad, why, what to do; then the answers, and the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from slipway_cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.markdown import Markdown
    from rich.table import Table
    from rich.text import Text

    from slipway_signals.oncall import Brief, Budget, JudgedCause
    from slipway_signals.oncall_asking import Answer
    from slipway_signals.oncall_firing import Firing
    from slipway_signals.oncall_releases import Release
    from slipway_signals.runbooks import Runbook

TINTS: Final = {"page": "bold red", "ticket": "bold yellow"}
BEFORE: Final = ("Meaning", "Impact")
"""Headings that the brief stands for; the others are shown as they are on the page, filled in."""
AFTER: Final = ("Mitigation", "Verify", "Escalation")

WHERE: Final = {
    "previous": "`slipway bundle list` shows the versions in the store",
    "release": "`slipway bundle list` shows the versions in the store",
    "server": "it is the address that users call",
    "capture": "it is `folder` of [runtime.capture]",
    "alertmanager": "give it with --alertmanager",
}
"""Where a person finds what Prometheus does not know."""


def draw_firing(terminal: Terminal, found: "Sequence[Firing]", now: float) -> None:
    """A table of what fires, in the order given; nothing where nothing does."""
    from rich.text import Text

    table = _table("severity", "for", "alert", "about", "told", "what")
    for one in found:
        labels, severity = one.alert.labels, one.alert.labels.get("severity", "")
        state = length_text(now - one.alert.since) + ("" if one.alert.state == "firing" else " (pending)")
        told = {True: "yes", False: one.quiet_because or "no", None: "?"}[one.is_told]
        about = [labels[name] for name in ("service", "slo", "model", "pool", "instance") if name in labels][:2]
        what = one.alert.annotations.get("summary", "")
        tint = TINTS.get(severity, "")
        table.add_row(Text(severity, style=tint), state, Text(one.alert.name), Text(" ".join(about)), told, Text(what))
    if found:
        terminal.draw(table)


def draw_brief(terminal: Terminal, told: "Brief", runbook: "Runbook") -> None:
    """The whole screen."""
    from rich.text import Text

    head = Text.assemble((told.alert, "bold"), "  ", (told.severity, TINTS.get(told.severity, "bold")))
    words = [text for text in (told.summary, told.description) if text]
    if runbook.alert is None:
        words.insert(0, f"{runbook.title}, a playbook")
    terminal.draw(head, *(Text(text) for text in words))
    terminal.draw(_facts(told), Text(""))
    if told.likely is not None:
        terminal.draw(_likely(told.likely), Text(""))
    terminal.draw(*(drawn for answer in told.answers for drawn in _answer(answer)))
    terminal.draw(Text(""), _sections(runbook, told.values, (*BEFORE, *AFTER)))
    for problem in told.problems:
        terminal.warn(problem)


def draw_page(terminal: Terminal, runbook: "Runbook", values: "Mapping[str, str]") -> None:
    """The whole page as it is written, but for the names that `values` has: what is left when nobody answers."""
    from rich.text import Text

    terminal.draw(Text(runbook.title, style="bold"), _sections(runbook, values))


def _sections(runbook: "Runbook", values: "Mapping[str, str]", names: "Sequence[str] | None" = None) -> "Markdown":
    from rich.markdown import Markdown

    from slipway_signals.runbooks import fill_page

    shown = [section for section in runbook.sections if names is None or section.heading in names]
    return Markdown(fill_page("\n".join(f"## {section.heading}\n\n{section.text}" for section in shown), values))


def length_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 d`."""
    from slipway_signals.oncall_asking import value_text

    return value_text(seconds, "seconds") if seconds >= 1 else "0 s"


def moment_text(at: float) -> str:
    """`2026-11-22 03:04:05 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _table(*titles: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=bool(titles), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _facts(told: "Brief") -> "Table":
    from rich.text import Text

    table = _table()
    for name, value in _lines_of(told):
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _lines_of(told: "Brief") -> Iterable[tuple[str, str]]:
    if told.since is None:
        yield "state", "quiet: it does not fire now; the answers below are as of now"
    else:
        yield "state", f"{told.state} for {length_text(told.now - told.since)}, since {moment_text(told.since)}"
    about = [part for part in (told.service, told.slo) if part]
    yield "about", " · ".join([*about, f"owner {told.owner}"])
    if told.alike:
        yield "", f"{told.alike} more of this name: `slipway oncall` lists them"
    for release in told.releases:
        yield "release", _release(release, told)
    if told.previous is not None:
        yield "before it", told.previous.title
    for budget in told.budgets:
        yield "budget", _budget(budget)
    if told.service:
        yield "top error", told.top_error or "none in the last 5 minutes"
    if told.beside:
        yield "also fires", ", ".join(told.beside)
    if told.dashboard:
        yield "dashboard", told.dashboard


def _release(release: "Release", told: "Brief") -> str:
    when = f"since {moment_text(release.since)}" if release.is_since_known else "for longer than is known"
    gap = told.released_before_s
    if gap is None or release != told.releases[0]:
        return f"{release.title} {when}"
    return f"{release.title} {when}, {length_text(abs(gap))} {'before' if gap >= 0 else 'after'} the alert began"


def _budget(budget: "Budget") -> str:
    from slipway_signals.oncall_asking import value_text

    parts = []
    if budget.left_ratio is not None:
        parts.append(f"{value_text(budget.left_ratio, 'ratio')} left")
    if budget.burn_rate is not None:
        parts.append(f"burns at {budget.burn_rate:.3g}")
    if budget.ends_hours is not None and budget.ends_hours >= 0:
        parts.append(f"gone in {value_text(3_600 * budget.ends_hours, 'seconds')}")
    return f"{budget.slo}: {', '.join(parts) or 'no number now'}"


def _likely(likely: "JudgedCause") -> "Table":
    from rich.text import Text

    from slipway_signals.runbooks import names_in

    table = _table()
    table.add_row(Text("likely", style="bold"), Text(likely.name, style="bold"))
    table.add_row("", Text(likely.why))
    table.add_row(Text("next", style="bold"), Text(likely.step))
    if likely.command:
        table.add_row("", Text(likely.command, style="bold"))
    for name in sorted(names_in(likely.command or "")):
        table.add_row("", f"${name} is not known here; {WHERE.get(name, 'fill it in')}")
    return table


def _answer(answer: "Answer") -> "Iterable[Text]":
    from rich.text import Text

    yield Text(answer.question, style="bold")
    for row in answer.rows:
        yield Text(f"  {row.text}")
    if answer.says is not None:
        yield Text(f"  none: {answer.says}")
    if answer.problem is not None:
        yield Text(f"  not answered: {answer.problem}", style="yellow")
