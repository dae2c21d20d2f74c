"""The run from beginning to end: how each interval narrowed, and what happened to both arms meanwhile.

It judges nothing. The invariant: a look is drawn as it was judged then, not as it would be judged now.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element

from msgspec import Struct

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.records import ARMS, Arm, Window
from slipway_signals.gate.report.distributions import key_of_arms
from slipway_signals.gate.report.head import paired, verdict_word
from slipway_signals.gate.report.markup import Child, el
from slipway_signals.gate.report.plots import Axis, Band, Line, log_axis, plot, seconds_axis
from slipway_signals.gate.report.words import change_text, count_text, duration_text, latency_text, margin_text
from slipway_signals.gate.verdict import Criterion, Judged, Look

__all__ = ["looks_section", "run_section"]

SHOWN: Final = 6
"""Metrics that are drawn; the rest can be opened."""
POINTS: Final = 150
"""Looks that are drawn; more are too near to each other to be seen."""
LOW: Final = -1.0
HIGH: Final = 3.0
"""In margins from no difference: intervals begin far outside."""
MOMENTS: Final = 120
"""Points of a line over time, at most: windows of a long run are put together."""


class _Moment(Struct, frozen=True, kw_only=True):
    """A few windows."""

    at_s: float
    """Their middle."""
    is_warm_up: bool
    p95_us: dict[Arm, int]
    failed: dict[Arm, int]


def looks_section(evidence: Evidence) -> Element | None:
    """Small pictures: each metric's interval at each look."""
    if not evidence.looks:
        return None
    looks = _some(evidence.looks)
    figures = [_narrowing(criterion, last, looks) for criterion, last in paired(evidence)]
    rest = figures[SHOWN:]
    return el(
        "section",
        el("h2", "What the gate saw at each look"),
        _turns(evidence.looks),
        el("div", *figures[:SHOWN], class_="several"),
        el("details", el("summary", f"{len(rest)} more metrics"), el("div", *rest, class_="several")) if rest else None,
        class_="panel",
    )


def run_section(evidence: Evidence) -> Element | None:
    """Latency of both arms from window to window, and when requests failed."""
    seen = _moments(evidence.windows)
    values = [value for moment in seen for value in moment.p95_us.values()]
    if not values:
        return None
    x, y = seconds_axis(evidence.windows[-1].end_s), log_axis(min(values) / 2, max(values) * 2, latency_text)
    lines = [
        Line(style=arm, points=tuple((one.at_s, one.p95_us[arm]) for one in seen if arm in one.p95_us)) for arm in ARMS
    ]
    failed = {arm: sum(one.failed.get(arm, 0) for one in seen) for arm in ARMS}
    rules = [
        (f"failed {arm}", "x", one.at_s) for arm in ARMS for one in seen if one.failed.get(arm) and not one.is_warm_up
    ]
    warm_s = max((window.end_s for window in evidence.windows if window.is_warm_up), default=0.0)
    drawn: list[Line | Band] = [Band(style="warm-up", points=((0.0, y.low, y.high), (warm_s, y.low, y.high)))]
    said = f"Failed requests, warm-up included: {count_text(failed['stable'])} of stable"
    said += f", {count_text(failed['candidate'])} of the candidate"
    return el(
        "section",
        el("h2", "The run, window by window"),
        el(
            "p",
            "95 of 100 answers came within this time. ",
            f"The first {duration_text(warm_s)}, shaded, are warm-up and not judged. " if warm_s else "",
            said,
            "; thin lines mark windows with any." if rules else ".",
            class_="quiet",
        ),
        key_of_arms(),
        plot(f"p95 of both arms over {duration_text(x.high)}. {said}", x, y, [*drawn, *lines], rules=rules),
        class_="panel",
    )


def _narrowing(criterion: Criterion, last: Judged, looks: Sequence[Look]) -> Element:
    """One metric: the interval at each look, in margins from no difference."""
    span = criterion.margin - criterion.neutral

    def margins(value: float | None, unknown: float) -> float:
        return unknown if value is None else (value - criterion.neutral) / span

    seen = [(look.at_s, one) for look in looks for one in look.metrics if one.metric == criterion.metric]
    y = Axis(
        scale="linear",
        low=LOW,
        high=HIGH,
        ticks=((0.0, change_text(criterion, criterion.neutral)), (1.0, margin_text(criterion))),
    )
    band = Band(
        style=f"band {last.verdict}",
        points=tuple((at, margins(one.lower, LOW), margins(one.upper, HIGH)) for at, one in seen),
    )
    middle = Line(
        style=f"middle {last.verdict}",
        points=tuple((at, margins(one.estimate, 0.0)) for at, one in seen if one.estimate is not None),
    )
    said = f"{criterion.title}: {change_text(criterion, last.estimate)} at the end, {last.verdict}"
    return el(
        "figure",
        el("figcaption", el("h3", criterion.title), verdict_word(last.verdict)),
        plot(
            said,
            seconds_axis(looks[-1].at_s),
            y,
            [one for one in (band, middle) if one.points],
            rules=[("margin", "y", 1.0), ("neutral", "y", 0.0)],
        ),
    )


def _turns(looks: Sequence[Look]) -> Element:
    """When the verdict of the looks changed, in words."""
    turns = [
        look
        for before, look in zip([None, *looks], looks, strict=False)
        if not before or before.verdict != look.verdict
    ]
    words: list[Child] = []
    for look in turns[:SHOWN]:
        words += [el("li", f"from {duration_text(look.at_s)} ", verdict_word(look.verdict))]
    if len(turns) > SHOWN:
        words.append(el("li", f"and {len(turns) - SHOWN} changes more"))
    return el("ul", *words, class_="turns")


def _some(looks: Sequence[Look]) -> list[Look]:
    """At most `POINTS` of them, the last included."""
    step = max(1, -(-len(looks) // POINTS))
    kept = list(looks[::step])
    return kept if kept[-1] is looks[-1] else [*kept, looks[-1]]


def _moments(windows: Sequence[Window]) -> list[_Moment]:
    """The run from beginning to end, warm-up included."""
    step = max(1, -(-len(windows) // MOMENTS))
    return [_moment_of(windows[at : at + step]) for at in range(0, len(windows), step)]


def _moment_of(windows: Sequence[Window]) -> _Moment:
    latencies = {arm: Histogram() for arm in ARMS}
    failed: Counter[Arm] = Counter()
    for window in windows:
        for arm, counts in window.arms.items():
            latencies[arm].merge(counts.latency_us)
            failed[arm] += sum(counts.failed.values())
    return _Moment(
        at_s=(windows[0].begin_s + windows[-1].end_s) / 2,
        is_warm_up=windows[0].is_warm_up,
        p95_us={arm: each.quantile(0.95) for arm, each in latencies.items() if each.count},
        failed=dict(failed),
    )
