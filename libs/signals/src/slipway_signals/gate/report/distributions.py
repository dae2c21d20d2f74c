"""What both arms answered, and how fast: distribution functions, side by side.

It judges nothing. The invariant: an arm has one stroke on the whole page: stable a broken one, the candidate a full
one.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final
from xml.etree.ElementTree import Element

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.histogram import Histogram, Sketch
from slipway_signals.gate.records import ARMS, Arm
from slipway_signals.gate.report.markup import Child, el, table
from slipway_signals.gate.report.plots import Line, linear_axis, log_axis, nines_axis, plot
from slipway_signals.gate.report.words import count_text, latency_text
from slipway_signals.gate.totals import ArmTotal, Totals

__all__ = ["key_of_arms", "latency_section", "outputs_section"]

QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)
SHOWN: Final = 4
"""Fields of the answer that are drawn; the rest can be opened."""
NEAR: Final = 10.0
"""A threshold that is further from the slowest answers than this is not drawn."""
VALUES: Final = 8
"""Values of a label that are listed."""


def key_of_arms() -> Element:
    """Which stroke is whose."""
    words: list[Child] = []
    for arm in ARMS:
        words += [el("span", class_=f"key {arm}", aria_hidden="true"), arm, " "]
    return el("p", *words, class_="quiet")


def latency_section(evidence: Evidence, totals: Totals) -> Element | None:
    """How long answers took: the functions, and the quantiles in figures."""
    arms = {arm: total.latency_us for arm, total in totals.arms.items()}
    if not all(one.count for one in arms.values()):
        return None
    most = max(one.count for one in arms.values())
    y = nines_axis(1.0 - 1.0 / most)
    low = min(one.quantile(0.001) for one in arms.values())
    high = max(one.quantile(y.high) for one in arms.values())
    lines = [_steps(one, arm) for arm, one in arms.items()]
    promised_us = 1e6 * (evidence.promises.latency_threshold_s or 0.0) if evidence.promises is not None else 0.0
    rules = [("promise", "x", promised_us)] if low < promised_us < high * NEAR else []
    x = log_axis(low, max(high, *(value for _, _, value in rules), 0.0), latency_text)
    said = "; ".join(f"{_name(q)} {_both(arms, q)}" for q in (0.5, 0.95, 0.99))
    return el(
        "section",
        el("h2", "Latency of both arms"),
        el(
            "p",
            "Share of answers that came within a time, from the moment a request was due; the tail has as much room as "
            "the rest.",
            f" The thin line is the threshold of slo.yaml, {latency_text(promised_us)}." if rules else "",
            class_="quiet",
        ),
        key_of_arms(),
        plot(f"Latency, stable and candidate: {said}", x, y, lines, rules=rules),
        _quantiles(arms, most),
        class_="panel",
    )


def outputs_section(evidence: Evidence, totals: Totals) -> Element | None:
    """What the arms answered: fields that do not pass come first."""
    arms = totals.arms
    verdicts = {one.metric: one.verdict for one in evidence.decision.metrics}
    order = {"fail": 0, "inconclusive": 1}
    drawn = [
        (order.get(verdicts.get(f"outputs.{name}", "pass"), 2), name, _output(name, arms))
        for name in _fields(arms["stable"].outputs, arms["candidate"].outputs)
    ]
    drawn += [
        (order.get(verdicts.get(f"labels.{name}", "pass"), 2), name, _label(name, arms))
        for name in _fields(arms["stable"].labels, arms["candidate"].labels)
    ]
    shown = [figure for _, _, figure in sorted(drawn, key=lambda one: one[:2])]
    if not shown:
        return None
    rest = shown[SHOWN:]
    return el(
        "section",
        el("h2", "What the arms answered"),
        key_of_arms(),
        el("div", *shown[:SHOWN], class_="several"),
        el("details", el("summary", f"{len(rest)} more fields"), el("div", *rest, class_="several")) if rest else None,
        class_="panel",
    )


def _steps(counted: Histogram | Sketch, style: str) -> Line:
    values, counts = counted.arrays()
    total = int(counts.sum())
    shares = [below / total for below in accumulate(int(one) for one in counts)]
    points = tuple((float(value), share) for value, share in zip(values, shares, strict=True))
    return Line(style=style, points=((points[0][0], 0.0), *points), is_steps=True)


def _output(name: str, arms: Mapping[Arm, ArmTotal]) -> Element:
    found = {arm: totals.outputs.get(name, Sketch()) for arm, totals in arms.items()}
    found = {arm: sketch for arm, sketch in found.items() if sketch.count}
    low = min(one.quantile(0.001) for one in found.values())
    high = max(one.quantile(0.999) for one in found.values())
    x, y = linear_axis(low, high), linear_axis(0.0, 1.0)
    medians = ", ".join(f"{arm} {one.quantile(0.5):.4g}" for arm, one in found.items())
    return el(
        "figure",
        el("figcaption", el("h3", name), el("span", f"median: {medians}", class_="quiet")),
        plot(f"Distribution of {name}; median: {medians}", x, y, [_steps(one, arm) for arm, one in found.items()]),
    )


def _label(name: str, arms: Mapping[Arm, ArmTotal]) -> Element:
    counted: dict[Arm, Mapping[str, int]] = {arm: total.labels.get(name, {}) for arm, total in arms.items()}
    totals = {arm: max(1, sum(values.values())) for arm, values in counted.items()}
    values = _fields(counted["stable"], counted["candidate"])
    values.sort(key=lambda value: -sum(counted[arm].get(value, 0) for arm in ARMS))
    rows = []
    for value in values[:VALUES]:
        shares = [counted[arm].get(value, 0) / totals[arm] for arm in ARMS]
        rows.append([value or "(empty)", *(f"{100 * share:.2f} %" for share in shares)])
    return el(
        "figure",
        el("figcaption", el("h3", name), el("span", f"{len(values)} values", class_="quiet")),
        table(f"Shares of the values of {name}", ("value", *ARMS), rows, style="figures"),
    )


def _quantiles(arms: Mapping[Arm, Histogram], most: int) -> Element:
    rows = []
    for q in QUANTILES:
        if (1.0 - q) * most < 1.0:  # fewer than one answer is beyond it
            continue
        stable, candidate = (arms[arm].quantile(q) for arm in ARMS)
        change = f"{100 * (candidate / max(stable, 1) - 1):+.1f} %".replace("-", "\N{MINUS SIGN}")
        rows.append([_name(q), latency_text(stable), latency_text(candidate), change])
    counted = ", ".join(f"{count_text(one.count)} of {arm}" for arm, one in arms.items())
    drawn = table("Latency by quantile", ("quantile", *ARMS, "difference"), rows, style="figures")
    return el("div", drawn, el("p", f"Answers: {counted}.", class_="quiet"))


def _both(arms: Mapping[Arm, Histogram], q: float) -> str:
    return " and ".join(latency_text(one.quantile(q)) for one in arms.values())


def _name(q: float) -> str:
    return f"p{100 * q:.6g}"


def _fields(*tables: Iterable[str]) -> list[str]:
    return sorted({name for table in tables for name in table})
