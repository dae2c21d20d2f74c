"""The first screen of a report: the verdict, why, what was compared, and every metric against its margin.

It judges nothing. The invariant: who reads no further than this knows what was decided and on what.
"""

from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.records import ARMS, Arm
from slipway_signals.gate.report.markup import Child, el
from slipway_signals.gate.report.plots import interval
from slipway_signals.gate.report.words import (
    SIGNS,
    bounds_text,
    change_text,
    count_text,
    duration_text,
    margin_text,
    p_text,
    short_digest,
)
from slipway_signals.gate.verdict import Criterion, Decision, Judged, Verdict

__all__ = ["HEADLINES", "answered", "headline", "metric_rows", "paired", "verdict_panel", "verdict_word"]

HEADLINES: Final[dict[Verdict, str]] = {
    "pass": "Pass: the candidate is no worse than stable",
    "fail": "Fail: the candidate is worse than stable",
    "inconclusive": "Inconclusive: the evidence is not enough",
}
STOPPED: Final = "Fail: the candidate crossed an absolute line"
MATTERS: Final[dict[Verdict, int]] = {"fail": 0, "inconclusive": 1, "pass": 2}


def headline(decision: Decision) -> str:
    """The verdict in one line."""
    if decision.hard_stop is not None and decision.verdict == "fail":
        return STOPPED
    if decision.verdict == "fail" and not any(one.verdict == "fail" for one in decision.metrics):
        return "Fail: the candidate may not take this traffic"
    return HEADLINES[decision.verdict]


def verdict_panel(evidence: Evidence, digest: str | None, signer: str | None) -> Element:
    """The verdict, its reasons, and what was compared."""
    decision = evidence.decision
    needed = decision.needed
    more: Child = None
    if needed is not None:
        about = f"{count_text(needed.requests)} more requests for each arm, about {duration_text(needed.seconds)} more"
        more = el("p", el("strong", "What would be enough: "), f"{about} at this rate (for {needed.metric})")
    return el(
        "section",
        el("h1", el("span", SIGNS[decision.verdict], class_="sign", aria_hidden="true"), headline(decision)),
        el("ul", [el("li", reason) for reason in decision.reasons], class_="reasons") if decision.reasons else None,
        more,
        el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in _facts(evidence, digest, signer)]),
        class_=f"verdict {decision.verdict}",
    )


def _facts(evidence: Evidence, digest: str | None, signer: str | None) -> list[tuple[str, Child]]:
    decision, plan = evidence.decision, evidence.plan
    subject = evidence.subject
    facts: list[tuple[str, Child]] = []
    if subject is not None:
        facts.append(("Rollout", f"{subject.rollout}, stage {subject.stage}, pods {subject.pod_hash}"))
    for arm, digests in answered(evidence).items():
        shown: list[Child] = [
            [", " if number else "", el("code", short_digest(one), title=one)] for number, one in enumerate(digests)
        ]
        facts.append((arm.capitalize(), shown or "nobody said who answered"))
    judged = [f"{count_text(decision.requests[arm])} ({arm})" for arm in ARMS if arm in decision.requests]
    facts.append(("Requests judged", " and ".join(judged) or "none"))
    after = f"after {duration_text(decision.at_s)}; {count_text(len(evidence.looks))} looks, each valid by itself"
    facts.append(("Decided", after if decision.at_s else "before any traffic"))
    facts.append(("False pass or fail", f"at most {100 * plan.alpha:g} % of runs, however often one looks"))
    facts.append(("Run", f"{_moment(evidence.started)} to {_moment(evidence.finished)} UTC"))
    if digest is not None:
        signed = f", signed by {signer}" if signer else ""
        facts.append(("Evidence", [el("code", short_digest(digest), title=digest), signed]))
    return facts


def answered(evidence: Evidence) -> dict[Arm, list[str]]:
    """Arm → the bundles that the plan names or that said that they answered; warm-up included."""
    seen: dict[Arm, dict[str, None]] = {arm: {} for arm in ARMS}
    for arm, digest in evidence.plan.digests.items():
        seen[arm][digest] = None
    for window in evidence.windows:
        for arm, counts in window.arms.items():
            seen[arm].update(dict.fromkeys(digest for digest in counts.digests if digest))
    return {arm: list(digests) for arm, digests in seen.items()}


def paired(evidence: Evidence) -> list[tuple[Criterion, Judged]]:
    """Each metric of the last look beside what is demanded of it, what decides first."""
    judged = {one.metric: one for one in evidence.decision.metrics}
    both = [
        (one, judged.get(one.metric, Judged(metric=one.metric, verdict="inconclusive"))) for one in evidence.criteria
    ]
    return sorted(both, key=lambda pair: (MATTERS[pair[1].verdict], pair[0].role == "guard"))


def metric_rows(evidence: Evidence) -> Element:
    """A table: each metric, its interval against the margin, and the figures."""
    both = paired(evidence)
    if not both:
        return el("p", "No request was judged, so there is nothing to compare.", class_="quiet")
    names = ("Metric", "Verdict", "Interval", "Estimate", "Margin")
    key = el(
        "p",
        "Worse is to the right. A metric passes when its whole interval is left of its margin ",
        el("span", class_="key margin", aria_hidden="true"),
        "; no difference is ",
        el("span", class_="key neutral", aria_hidden="true"),
        ". All intervals hold at every look at once. p: how probable such a verdict would be if it were wrong; ",
        "points are percentage points.",
        class_="quiet",
    )
    head = el("thead", el("tr", [el("th", name, scope="col") for name in names]))
    return el("div", key, el("table", head, el("tbody", [_row(*pair) for pair in both]), class_="metrics"))


def _row(criterion: Criterion, judged: Judged) -> Element:
    style = judged.verdict
    estimate, bounds, margin = (
        change_text(criterion, judged.estimate),
        bounds_text(criterion, judged),
        margin_text(criterion),
    )
    label = f"{criterion.title}: {estimate}, between {bounds}; margin {margin}: {style}"
    drawing = interval(label, style, criterion.neutral, criterion.margin, (judged.lower, judged.estimate, judged.upper))
    is_overridden = criterion.origin == "plan"
    return el(
        "tr",
        el(
            "th",
            el("span", criterion.title),
            el("span", criterion.metric, ", guard" if criterion.role == "guard" else "", class_="quiet"),
            scope="row",
        ),
        el("td", verdict_word(style), class_="word"),
        el("td", drawing, class_="drawing"),
        el("td", el("strong", estimate), el("span", bounds, class_="quiet"), class_="figure"),
        el(
            "td",
            el("strong", margin, "*" if is_overridden else ""),
            el("span", _strength(judged), class_="quiet"),
            class_="figure",
        ),
    )


def _strength(judged: Judged) -> str:
    """On how much it rests, and how sure it is."""
    counted = f"n {count_text(judged.n_stable)} / {count_text(judged.n_candidate)}"
    if judged.verdict == "pass":
        return f"p {p_text(judged.p_inferior)}; {counted}"
    return f"p {p_text(judged.p_worse_holm)}; {counted}" if judged.verdict == "fail" else counted


def verdict_word(verdict: Verdict) -> Element:
    """A verdict as a shape, a word and a colour."""
    return el("span", el("span", SIGNS[verdict], " ", aria_hidden="true"), verdict, class_=f"tag {verdict}")


def _moment(text: str) -> str:
    """RFC 3339 as people read it; what is no time is shown as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text
