"""Why: the sentences of a decision, the most important first.

It decides nothing. The invariant: the same decision has the same words, so they can be replayed.
"""

from collections.abc import Sequence

from slipway_signals.gate.verdict import Check, Criterion, Finding, HardStop, Judged, Needed, Verdict

__all__ = ["amount_text", "reasons_of"]


def reasons_of(
    verdict: Verdict,
    criteria: Sequence[Criterion],
    metrics: Sequence[Judged],
    findings: Sequence[Finding],
    stop: HardStop | None,
    needed: Needed | None,
    fatal: Sequence[Check],
) -> tuple[str, ...]:
    """At least one sentence, without full stops."""
    if verdict == "pass":
        count = sum(one.role == "must" for one in criteria)
        return (f"each of {count} metrics is worse by less than its margin, if at all",)
    judged = list(zip(criteria, metrics, strict=True)) if metrics else []
    found = [check.text for check in fatal]
    if verdict == "fail":
        found += [stop.text] if stop is not None and stop.arm == "candidate" else []
        found += [_worse(criterion, one) for criterion, one in judged if one.verdict == "fail"]
        return tuple(found)
    found += [finding.text for finding in findings]
    for criterion, one in judged:
        if one.verdict == "fail":
            found.append(f"{_worse(criterion, one)}; with the findings above that fails nothing")
        elif one.verdict == "inconclusive" and criterion.role == "must":
            found.append(_open(criterion, one))
    if needed is not None:
        found.append(
            f"about {needed.requests:,} more requests for each arm ({needed.seconds:.0f} s) would probably settle it"
        )
    return tuple(found)


def amount_text(criterion: Criterion, value: float | None) -> str:
    """A value of a metric as a reader compares it: `+4.1 %`, `+0.05 points`; `?` when it is not known."""
    if value is None:
        return "?"
    if criterion.unit == "ratio":
        return f"{(value - 1.0) * 100:+.3g} %"
    return f"{value * 100:.3g} %" if criterion.kind in {"limit", "distribution"} else f"{value * 100:+.3g} points"


def _worse(criterion: Criterion, one: Judged) -> str:
    estimate, margin = amount_text(criterion, one.estimate), amount_text(criterion, criterion.margin)
    between = f"{amount_text(criterion, one.lower)} to {amount_text(criterion, one.upper)}"
    return f"{criterion.metric} is worse: {estimate} ({between}), margin {margin}; p = {one.p_worse_holm:.2g}"


def _open(criterion: Criterion, one: Judged) -> str:
    if one.estimate is None:
        return f"{criterion.metric} has no data: got {one.n_stable} of stable and {one.n_candidate} of the candidate"
    upper, margin = amount_text(criterion, one.upper), amount_text(criterion, criterion.margin)
    return f"{criterion.metric} is not shown to be below its margin of {margin}: it is below {upper}"
