"""A post-mortem as Markdown: what the systems know is filled in, what people know is left blank.

It asks nothing. The invariant: each fact on the page is one of `Incident` or of the bundles' difference; a blank is
marked `…`, so that a page with one is not finished.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from slipway_bundle.diff import BundleDiff
from slipway_signals.oncall_asking import value_text
from slipway_signals.postmortem import Incident

__all__ = ["BLANK", "write_postmortem"]

BLANK: Final = "…"
ORDER: Final = ("lineage", "metric", "model", "schema", "code", "package", "attachment", "service", "source")
"""Of the difference: where the model comes from first, because that is what nobody remembers."""


def write_postmortem(incident: Incident, difference: BundleDiff | None, why_not: str | None = None) -> str:
    """The page.

    Args:
        incident: What happened.
        difference: Of the two bundles, or None.
        why_not: Why there is no difference, for the reader.
    """
    parts = (
        _head(incident),
        _summary(incident),
        _spent(incident),
        _timeline(incident),
        _counts(incident),
        _difference(difference, why_not),
        _blanks(),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(incident: Incident) -> Iterator[str]:
    yield f"# {incident.service}: {BLANK} ({_day(incident.since)})"
    yield ""
    yield f"Between {_moment(incident.since)} and {_moment(incident.until)}; times are exact to {incident.step_s:g} s."
    yield f"Written by `slipway postmortem new`; what is marked {BLANK} is for people. It blames nobody."
    yield ""


def _summary(incident: Incident) -> Iterator[str]:
    yield from ("## Summary", "", f"{BLANK} (two sentences: what users noticed, and why)", "")
    yield from ("| | |", "|---|---|")
    yield _row("first alert", _moment(incident.first_alert) if incident.first_alert else "none")
    if incident.released_before_s is not None:
        yield _row("last release before it", f"{value_text(incident.released_before_s, 'seconds')} before")
    yield _row("last alert over", _moment(incident.last_resolved) if incident.last_resolved else _not_over(incident))
    if incident.first_alert and incident.last_resolved:
        yield _row("alerts lasted", value_text(incident.last_resolved - incident.first_alert, "seconds"))
    yield _row("when it really began", BLANK)
    yield _row("who noticed, and how", BLANK)
    yield ""


def _not_over(incident: Incident) -> str:
    return "an alert still fires" if incident.first_alert else "none"


def _spent(incident: Incident) -> Iterator[str]:
    yield from ("## What users lost", "")
    if not incident.spent:
        yield from ("No objective of this service was recorded.", "")
        return
    yield "| objective | bad events | of | budget before | after | fastest burn |"
    yield "|---|--:|--:|--:|--:|--:|"
    for one in incident.spent:
        worst = "-" if one.worst_burn is None else f"{one.worst_burn:,.1f}"
        left = [value_text(each, "ratio") if each is not None else "-" for each in (one.left_before, one.left_after)]
        yield _row(one.slo, f"{one.bad:,.0f}", f"{one.total:,.0f}", *left, worst)
    yield from ("", f"In words, for those who depend on the service: {BLANK}", "")


def _timeline(incident: Incident) -> Iterator[str]:
    yield from ("## Timeline", "", "| time (UTC) | | what |", "|---|---|---|")
    for event in incident.timeline:
        yield _row(_moment(event.at), event.kind, event.what)
    if not incident.timeline:
        yield _row("", "", "no alert, no release: nothing was recorded in this interval")
    yield from (_row(BLANK, "people", f"{BLANK} (who did what, and what they saw)"), "")


def _counts(incident: Incident) -> Iterator[str]:
    yield from ("## What was counted", "")
    for counted in incident.counted:
        yield f"- {counted.question}"
        yield from (f"  - {row.text}" for row in counted.rows)
        if not counted.rows:
            yield f"  - {counted.says or counted.problem}"
    yield ""


def _difference(difference: BundleDiff | None, why_not: str | None) -> Iterator[str]:
    yield from ("## What the release changed", "")
    if difference is None:
        yield from (f"Not compared: {why_not or 'no two bundles were named'}.", "")
        return
    yield f"From `{difference.before}` to `{difference.after}`:"
    yield ""
    if not difference.changes:
        yield from ("Nothing.", "")
        return
    yield "| | what | before | after |"
    yield "|---|---|---|---|"
    for area in ORDER:
        for change in difference.changes:
            if change.area == area:
                yield _row(area, change.name, change.before or "-", change.after or "-")
    yield ""
    if not any(change.area == "lineage" for change in difference.changes):
        yield from ("Training data and lineage are the same, or neither bundle says.", "")


def _blanks() -> Iterator[str]:
    for heading, asks in (
        ("Cause", "the chain of causes, down to what made each possible"),
        ("What went well", ""),
        ("What went badly", ""),
        ("Where we were lucky", ""),
    ):
        yield from (f"## {heading}", "", f"{BLANK} ({asks})" if asks else BLANK, "")
    yield from ("## Actions", "", "| what | prevents, detects or mitigates | who | until |", "|---|---|---|---|")
    yield _row(BLANK, BLANK, BLANK, BLANK)


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
