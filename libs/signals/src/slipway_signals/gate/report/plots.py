"""Drawings of a report: an interval against its margin, distributions, a line over time. SVG in HTML, no script.

They know no evidence. The invariants: lines are drawn in a square that stretches to its place, words stand beside it in
the page's own size, so a plot is as readable on a phone as on a wide screen; the arms differ by their stroke as well
as by colour; what a drawing says is in its label too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal
from xml.etree.ElementTree import Element

from msgspec import Struct

from slipway_signals.gate.report.markup import Child, el

__all__ = ["Axis", "Band", "Line", "interval", "linear_axis", "log_axis", "nines_axis", "plot", "seconds_axis"]

SIDE: Final = 1000.0
"""Of the square in which everything is drawn."""
FINEST: Final = 1.5
"""Points of a line that are nearer than this on both axes are drawn once."""
BEYOND: Final = 3.0
"""Margins beyond neutral that an interval's drawing reaches to."""
BEFORE: Final = 1.5
"""Margins before neutral."""

Scale = Literal["linear", "log", "nines"]


class Axis(Struct, frozen=True, kw_only=True):
    """From values to a place, 0 … 1."""

    scale: Scale
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Where a value is; values outside are at the end."""
        low, high, at = (self._bent(one) for one in (self.low, self.high, value))
        return 0.0 if high <= low else min(1.0, max(0.0, (at - low) / (high - low)))

    def _bent(self, value: float) -> float:
        if self.scale == "log":
            return math.log(max(value, 1e-9))
        return -math.log10(max(1.0 - value, 1e-9)) if self.scale == "nines" else value


class Line(Struct, frozen=True, kw_only=True):
    """Points, in order; `is_steps`: a value holds until the next one."""

    style: str
    points: tuple[tuple[float, float], ...]
    is_steps: bool = False


class Band(Struct, frozen=True, kw_only=True):
    """Between two lines: (x, lower, upper), in order."""

    style: str
    points: tuple[tuple[float, float, float], ...]


def linear_axis(low: float, high: float, *, unit: str = "", count: int = 4) -> Axis:
    """Round ticks between two values."""
    span = high - low if high > low else abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1.0, 2.0, 5.0, 10.0) if span / (step * factor) <= count + 1)
    first = math.ceil(low / step - 1e-9)
    last = math.floor((low + span) / step + 1e-9)
    ticks = tuple((number * step, f"{number * step:.6g}{unit}") for number in range(first, last + 1))
    return Axis(scale="linear", low=low, high=low + span, ticks=ticks)


def seconds_axis(high: float) -> Axis:
    """Seconds since the start of a run."""
    return linear_axis(0.0, high, unit=" s", count=5)


def log_axis(low: float, high: float, name: Callable[[float], str]) -> Axis:
    """Ticks at 1, 2 and 5 of each power of ten, at most seven; `name` writes them."""
    low, high = max(low, 1e-9), max(high, low * 1.5, 2e-9)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        ticks = tuple((value, name(value)) for value in found if low <= value <= high)
        if len(ticks) <= 7:
            break
    return Axis(scale="log", low=low, high=high, ticks=ticks)


def nines_axis(highest: float) -> Axis:
    """Shares from 0 to 0.9, 0.99, 0.999, …: as far as `highest` reaches; the tail gets as much room as the rest."""
    nines = max(2, min(5, math.ceil(-math.log10(max(1.0 - highest, 1e-5)) - 1e-9)))
    shares = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999)
    ticks = tuple((share, f"{100 * share:.6g} %") for share in shares if share <= 1.0 - 10.0**-nines + 1e-12)
    return Axis(scale="nines", low=0.0, high=1.0 - 10.0**-nines, ticks=ticks)


def plot(
    label: str, x: Axis, y: Axis, drawn: Sequence[Line | Band], *, rules: Sequence[tuple[str, str, float]] = ()
) -> Element:
    """Lines and bands over two axes.

    Args:
        label: what it shows, for those who hear the page.
        x: to the right.
        y: upwards.
        drawn: in this order.
        rules: straight lines through the plot: style, `x` or `y`, value.
    """
    inside: list[Child] = [_rule("grid", "y", y.place(value)) for value, _ in y.ticks]
    inside += [_rule("grid", "x", x.place(value)) for value, _ in x.ticks]
    inside += [_shape(one, x, y) for one in drawn]
    inside += [_rule(style, which, (x if which == "x" else y).place(value)) for style, which, value in rules]
    marks: list[Child] = [
        el("span", text, class_="y", style=f"bottom:{100 * y.place(value):.2f}%") for value, text in y.ticks
    ]
    marks += [
        el("span", text, class_="x minor" if number % 2 else "x", style=f"left:{100 * x.place(value):.2f}%")
        for number, (value, text) in enumerate(x.ticks)
    ]
    return el(
        "div",
        el("div", _square(label, *inside), el("div", *marks, aria_hidden="true"), class_="field"),
        class_="plot",
    )


def interval(
    label: str, style: str, neutral: float, margin: float, bounds: tuple[float | None, float | None, float | None]
) -> Element:
    """Lower bound, estimate and upper bound against no difference and the margin.

    All intervals of a report have one scale: no difference and the margin stand in the same place in each, worse is to
    the right. A bound that the data do not give reaches to the end.
    """
    span = margin - neutral

    def at(value: float | None, unknown: float) -> float:
        margins = unknown if value is None else (value - neutral) / span
        return SIDE * (min(BEYOND, max(-BEFORE, margins)) + BEFORE) / (BEYOND + BEFORE)

    lower, estimate, upper = bounds
    edge, zero = at(margin, 1.0), at(neutral, 0.0)
    ends = sorted((at(lower, -BEFORE), at(upper, BEYOND)))
    drawn: list[Child] = [
        el("rect", class_="beyond", x=edge, y=0.0, width=SIDE - edge, height=SIDE),
        el("line", class_="neutral", x1=zero, y1=0.0, x2=zero, y2=SIDE),
        el("line", class_="margin", x1=edge, y1=0.0, x2=edge, y2=SIDE),
        el("line", class_=f"reach {style}", x1=ends[0], y1=SIDE / 2, x2=ends[1], y2=SIDE / 2),
    ]
    drawn += [
        el("line", class_=f"end {style}", x1=end, y1=SIDE * 0.3, x2=end, y2=SIDE * 0.7)
        for end, bound in zip(ends, sorted((lower, upper), key=lambda one: at(one, 0.0)), strict=True)
        if bound is not None and 0 < end < SIDE
    ]
    if ends[0] == SIDE:  # all of it is further to the right
        drawn.append(el("polygon", class_=f"further {style}", points="975,250 1000,500 975,750"))
    elif estimate is not None:
        here = at(estimate, 0.0)
        drawn.append(el("line", class_=f"point {style}", x1=here, y1=SIDE * 0.15, x2=here, y2=SIDE * 0.85))
    return el("div", _square(label, *drawn), class_="interval")


def _square(label: str, *children: Child) -> Element:
    side = f"{SIDE:.0f}"
    return el("svg", *children, viewBox=f"0 0 {side} {side}", preserveAspectRatio="none", role="img", aria_label=label)


def _rule(style: str, which: str, place: float) -> Element:
    if which == "x":
        return el("line", class_=style, x1=SIDE * place, y1=0.0, x2=SIDE * place, y2=SIDE)
    return el("line", class_=style, x1=0.0, y1=SIDE * (1 - place), x2=SIDE, y2=SIDE * (1 - place))


def _shape(one: Line | Band, x: Axis, y: Axis) -> Element:
    if isinstance(one, Band):
        above = [(SIDE * x.place(at), SIDE * (1 - y.place(upper))) for at, _, upper in one.points]
        below = [(SIDE * x.place(at), SIDE * (1 - y.place(lower))) for at, lower, _ in reversed(one.points)]
        return el("path", class_=one.style, d=f"{_path(_thinned(above) + _thinned(below))}Z")
    places = [(SIDE * x.place(at), SIDE * (1 - y.place(value))) for at, value in one.points]
    places = _thinned(places)
    if one.is_steps:
        places = [
            step
            for before, after in zip(places, [*places[1:], places[-1]], strict=True)
            for step in (before, (after[0], before[1]))
        ]
    return el("path", class_=one.style, d=_path(places))


def _thinned(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the points that nobody could see; the last one stays."""
    kept: list[tuple[float, float]] = []
    for place in places:
        if not kept or max(abs(place[0] - kept[-1][0]), abs(place[1] - kept[-1][1])) >= FINEST:
            kept.append(place)
    if places and kept[-1] != places[-1]:
        kept.append(places[-1])
    return kept


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'M' if not number else 'L'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(places))
