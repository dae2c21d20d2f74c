"""The report of a gate: one HTML file that a reviewer reads in a minute. No script, nothing from the network.

It judges nothing (`judging` did) and opens nothing. The invariants: the page opens from a disk, on a phone, in print
and in the dark; the same evidence gives the same page; every word that came from a run is escaped.
"""

from importlib import resources

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.report.details import inputs_section, soundness_section
from slipway_signals.gate.report.distributions import latency_section, outputs_section
from slipway_signals.gate.report.head import headline, metric_rows, verdict_panel
from slipway_signals.gate.report.markup import el, html_of
from slipway_signals.gate.report.over_time import looks_section, run_section
from slipway_signals.gate.totals import Totals

__all__ = ["render_page"]


def render_page(evidence: Evidence, *, digest: str | None = None, signer: str | None = None) -> str:
    """The page.

    Args:
        evidence: What was decided, and on what.
        digest: Of the evidence, so that a reader can find it again.
        signer: Whose signature was verified.
    """
    title = headline(evidence.decision)
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{title} · slipway gate"),
        el("link", rel="icon", href="data:,"),
        el("style", style),
    )
    totals = Totals()
    for window in evidence.windows:
        (totals.skip if window.is_warm_up else totals.add)(window)
    main = el(
        "main",
        verdict_panel(evidence, digest, signer),
        el("section", el("h2", "Every metric against its margin"), metric_rows(evidence), class_="panel"),
        latency_section(evidence, totals),
        outputs_section(evidence, totals),
        looks_section(evidence),
        run_section(evidence),
        soundness_section(evidence, totals),
        inputs_section(evidence),
    )
    return "<!doctype html>\n" + html_of(el("html", head, el("body", main), lang="en")) + "\n"
