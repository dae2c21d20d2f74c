"""The verdict as JUnit XML, for a CI system that shows tests: one case for each check, metric and finding.

It judges nothing. The invariant: a file without a failure and an error is a pass, and only that; what is inconclusive
is an error, because CI that skips it would let it through.
Source: the format as Jenkins and GitLab read it (https://github.com/testmoapp/junitxml).
"""

from xml.etree.ElementTree import Element, indent, tostring

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.report.head import headline, paired
from slipway_signals.gate.report.markup import el
from slipway_signals.gate.report.words import bounds_text, change_text, margin_text
from slipway_signals.gate.verdict import Criterion, Judged

__all__ = ["render_junit"]


def render_junit(evidence: Evidence) -> bytes:
    """The XML, UTF-8, with its declaration."""
    decision = evidence.decision
    cases = [_case("decision", "verdict", _wrong(decision.verdict, headline(decision), decision.reasons))]
    for check in evidence.checks:
        status = {"ok": None, "failed": "failure", "skipped": "skipped"}[check.status]
        told = None if status is None else el(status, "\n".join(check.details), message=check.text)
        cases.append(_case("check", f"{check.name}{f' ({check.arm})' if check.arm else ''}", told))
    cases += [_case("metric", criterion.metric, _told(criterion, judged)) for criterion, judged in paired(evidence)]
    cases += [_case("measurement", one.code, el("error", message=one.text)) for one in decision.findings]
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "error", "skipped")}
    suite = el(
        "testsuite",
        *cases,
        name="slipway gate" if evidence.subject is None else f"slipway gate {evidence.subject.rollout}",
        tests=len(cases),
        failures=counts["failure"],
        errors=counts["error"],
        skipped=counts["skipped"],
        time=decision.at_s,
        timestamp=evidence.finished,
    )
    root = el("testsuites", suite)
    indent(root)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _case(group: str, name: str, told: Element | None) -> Element:
    return el("testcase", told, classname=f"gate.{group}", name=name)


def _wrong(verdict: str, message: str, reasons: tuple[str, ...]) -> Element | None:
    if verdict == "pass":
        return None
    return el("failure" if verdict == "fail" else "error", "\n".join(reasons), message=message)


def _told(criterion: Criterion, judged: Judged) -> Element | None:
    if judged.verdict == "pass" or (criterion.role == "guard" and judged.verdict != "fail"):
        return None
    message = f"{criterion.title}: {change_text(criterion, judged.estimate)}, margin {margin_text(criterion)}"
    return _wrong(judged.verdict, message, (f"between {bounds_text(criterion, judged)}", criterion.reason))
