"""The end of a report: whether the measurement was sound, and everything that went into it.

It judges nothing. The invariant: what the gate was told, overrides and their reasons first, can be read without any
other file.
"""

from xml.etree.ElementTree import Element

import msgspec

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.records import ARMS
from slipway_signals.gate.report.markup import Child, el, table
from slipway_signals.gate.report.words import count_text, latency_text, margin_text, short_digest
from slipway_signals.gate.totals import Totals
from slipway_signals.gate.verdict import Check

__all__ = ["inputs_section", "soundness_section"]

SIGNS = {"ok": "●", "failed": "▲", "skipped": "○"}
STYLES = {"ok": "pass", "failed": "fail", "skipped": "inconclusive"}


def soundness_section(evidence: Evidence, totals: Totals) -> Element:
    """Findings, checks before any traffic, and the health of who asked."""
    findings = evidence.decision.findings
    found: Child = el("p", "Nothing was wrong with the measurement.", class_="quiet")
    if findings:
        rows = [el("li", el("strong", one.code), f" ({one.arm}): " if one.arm else ": ", one.text) for one in findings]
        found = el("ul", rows, class_="findings")
    return el(
        "section",
        el("h2", "Was the measurement sound?"),
        found,
        el("h3", "Before any traffic") if evidence.checks else None,
        el("ul", [_check(one) for one in evidence.checks], class_="checks") if evidence.checks else None,
        el("h3", "Who asked, and who answered") if evidence.windows else None,
        _counted(totals) if evidence.windows else None,
        class_="panel",
    )


def inputs_section(evidence: Evidence) -> Element:
    """Margins with their reasons, the plan, the versions, and how to get the same verdict again."""
    names = ("Metric", "Margin", "From", "Reason")
    rows = [
        [one.metric, f"{margin_text(one)}{'*' if one.origin == 'plan' else ''}", one.origin, one.reason]
        for one in sorted(evidence.criteria, key=lambda one: one.origin != "plan")
    ]
    without = [[name, "not judged", "plan", reason] for name, reason in sorted(evidence.plan.without.items())]
    plan = msgspec.json.format(msgspec.json.encode(evidence.plan, order="deterministic"), indent=2).decode()
    load = evidence.plan.load
    facts = [(name, version) for name, version in sorted(evidence.versions.items())]
    if load is not None:
        facts.append(("seed", str(load.seed)))
        facts.append(("rate", f"{load.rate:g} inputs a second, {load.arrivals} arrivals, {load.protocol}"))
    if evidence.promises is not None:
        facts.append(("slo.yaml", f"{evidence.promises.service}, {short_digest(evidence.promises.digest)}"))
    return el(
        "section",
        el("h2", "Inputs"),
        el("p", "*: somebody set this margin in the plan.", class_="quiet")
        if any(one.origin == "plan" for one in evidence.criteria)
        else None,
        table("Margins and their reasons", names, rows + without, style="stacked") if rows or without else None,
        el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in facts]) if facts else None,
        el("details", el("summary", "The plan"), el("pre", el("code", plan), tabindex="0")),
        el("p", "The same verdict again, from the evidence alone: ", el("code", "slipway gate replay FILE")),
        class_="panel",
    )


def _check(check: Check) -> Element:
    arm = f" ({check.arm})" if check.arm else ""
    word = el(
        "span",
        el("span", SIGNS[check.status], " ", aria_hidden="true"),
        check.status,
        class_=f"tag {STYLES[check.status]}",
    )
    more = el("ul", [el("li", one) for one in check.details]) if check.details else None
    return el("li", word, " ", el("strong", f"{check.name}{arm}"), f": {check.text}", more)


def _counted(totals: Totals) -> Element:
    arms = [totals.arms[arm] for arm in ARMS]
    rows = [
        ["sent", *(count_text(one.sent) for one in arms)],
        ["answered", *(count_text(one.succeeded) for one in arms)],
        ["malformed", *(count_text(one.malformed) for one in arms)],
    ]
    reasons = sorted({reason for one in arms for reason in one.failed})
    rows += [[f"failed: {reason}", *(count_text(one.failed.get(reason, 0)) for one in arms)] for reason in reasons]
    digests = sorted({digest for one in arms for digest in one.digests})
    rows += [
        [
            f"from {short_digest(digest) or 'a server that did not say'}",
            *(count_text(one.digests.get(digest, 0)) for one in arms),
        ]
        for digest in digests
    ]
    late = latency_text(totals.slip_us.quantile(0.99)) if totals.slip_us.count else "not known"
    busiest = f"{100 * max(totals.cpu_shares, default=0.0):.0f} % of a core"
    sockets = f" and {100 * totals.sockets_share:.0f} % of its sockets" if totals.sockets_share else ""
    words = (
        f"Due: {count_text(totals.offered)} inputs, {count_text(totals.dropped)} of them not sent; 99 of 100 were sent "
        f"less than {late} late; the busiest worker used at most {busiest}{sockets}."
    )
    return el("div", table("Requests", ("counted", *ARMS), rows, style="figures"), el("p", words, class_="quiet"))
