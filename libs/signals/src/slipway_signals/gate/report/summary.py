"""The verdict as Markdown, for a pull request: what was decided, why, and every metric in one table.

It judges nothing. The invariant: words that came from a run are text, never markup of the comment.
"""

import re
from collections.abc import Iterator
from typing import Final

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.records import ARMS
from slipway_signals.gate.report.head import answered, headline, paired
from slipway_signals.gate.report.markup import clean
from slipway_signals.gate.report.words import (
    SIGNS,
    bounds_text,
    change_text,
    count_text,
    duration_text,
    margin_text,
    short_digest,
)

__all__ = ["render_summary"]

ACTIVE: Final = re.compile(r"([\\`*_{}\[\]<>#|~@!])")
"""Characters that mean something in a comment: markup, tables, mentions."""


def render_summary(evidence: Evidence, *, digest: str | None = None, report: str | None = None) -> str:
    """The Markdown.

    Args:
        evidence: What was decided, and on what.
        digest: Of the evidence.
        report: Address of the page, if a reader of the comment can open one.
    """
    return "\n".join(_lines(evidence, digest, report)) + "\n"


def _lines(evidence: Evidence, digest: str | None, report: str | None) -> Iterator[str]:
    decision = evidence.decision
    yield f"## {SIGNS[decision.verdict]} {headline(decision)}"
    yield ""
    yield from (f"- {_text(reason)}" for reason in decision.reasons)
    yield ""
    yield _about(evidence)
    if decision.findings:
        yield from ("", "**Wrong with the measurement**", "")
        yield from (f"- {_text(one.code)}: {_text(one.text)}" for one in decision.findings)
    both = paired(evidence)
    if both:
        yield from ("", "| | metric | estimate | interval | margin |", "|---|---|--:|---|--:|")
    for criterion, judged in both:
        word = f"{SIGNS[judged.verdict]} {judged.verdict}{' (guard)' if criterion.role == 'guard' else ''}"
        estimate, bounds = change_text(criterion, judged.estimate), bounds_text(criterion, judged)
        margin = margin_text(criterion) + (r" \*" if criterion.origin == "plan" else "")
        yield f"| {word} | {_text(criterion.title)} | {estimate} | {bounds} | {margin} |"
    told = [one for one in evidence.criteria if one.origin == "plan"]
    if told:
        yield ""
        yield from (f"\\* {_text(one.metric)}: {_text(one.reason)}" for one in told)
    yield ""
    parts = [f"Evidence `{digest}`"] if digest else []
    parts += [f"[report]({report})"] if report else []
    yield "; ".join([*parts, "the same verdict again: `slipway gate replay FILE`"])


def _about(evidence: Evidence) -> str:
    decision, subject = evidence.decision, evidence.subject
    parts = [] if subject is None else [_text(f"{subject.rollout}, stage {subject.stage}, pods {subject.pod_hash}")]
    for arm, digests in answered(evidence).items():
        parts += [f"{arm} {_text(', '.join(map(short_digest, digests)))}"] if digests else []
    parts += [f"{count_text(decision.requests[arm])} requests to {arm}" for arm in ARMS if arm in decision.requests]
    return "; ".join([*parts, f"decided after {duration_text(decision.at_s)}"])


def _text(text: str) -> str:
    """One line that is only text."""
    return ACTIVE.sub(r"\\\1", " ".join(clean(text).split()))
