"""Answers for the panels of a dashboard: Prometheus asked with the panel's own queries, shaped for drawing.

Numbers stay numbers; `static/console/` draws them. Times are laid on one grid for each answer, aligned to the clock, so
that a line does not wobble when it is asked again a second later.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from slipway_bundle import UsageError
from slipway_serve.console.sources import Sources
from slipway_signals.dashboards.reading import (
    Annotation,
    Column,
    Dashboard,
    Panel,
    Target,
    Threshold,
    legend_text,
    substitute,
)
from slipway_signals.prometheus import Sample, Series

POINTS: Final = 240
"""About how many points a line has; a phone shows fewer pixels than twice that."""
STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)
GRAIN_S: Final = 5.0
"""A window ends at a multiple of this: a later grain would leave out what happened last."""
LONGEST_S: Final = 400 * 86_400
ALL: Final = frozenset({"", "All", "$__all"})
"""Values of a variable in Grafana's links that stand for every value."""
EXEMPLARS: Final = 40
"""The slowest requests of a window that are shown."""
RELATIVE: Final = re.compile(r"now(?:-(\d+)([smhdw]))?")
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
Values = Mapping[str, Sequence[str]]


class WindowError(UsageError):
    """A page is asked for a time that is none."""

    code = "window_invalid"


class Window(Struct, frozen=True, kw_only=True):
    """The time that a page shows."""

    start: float
    """Unix seconds, some steps before `end`."""

    end: float
    at: float | None
    """When values are asked that are no lines; None: now, by Prometheus' clock."""

    step_s: float
    scrape_s: float

    @property
    def times(self) -> list[float]:
        """The grid: from start to end, both included."""
        return [self.start + index * self.step_s for index in range(round((self.end - self.start) / self.step_s) + 1)]

    def fill(self, expr: str, values: Values) -> str:
        """A query with its variables filled in."""
        range_s = self.end - self.start
        return substitute(expr, values, interval_s=self.step_s, range_s=range_s, scrape_s=self.scrape_s)


class Line(Struct, frozen=True, kw_only=True):
    """One series of a chart."""

    name: str
    values: tuple[float | None, ...]
    """On the answer's `times`."""

    is_promised: bool = False
    """Whether it is what is promised or allowed, and not measured."""


class Value(Struct, frozen=True, kw_only=True):
    """One value now."""

    name: str
    value: float | None


class Spot(Struct, frozen=True, kw_only=True):
    """One request that is marked in a chart."""

    at: float
    value: float
    trace_id: str


class Answer(Struct, frozen=True, kw_only=True):
    """What a panel shows. Which of the parts is filled follows from the panel's kind."""

    id: int
    kind: str
    unit: str
    decimals: int | None
    thresholds: tuple[Threshold, ...]
    minimum: float | None
    maximum: float | None
    is_stacked: bool
    words: Mapping[str, str]
    empty: str
    """What it means that there is nothing; shown when there is nothing."""

    times: tuple[float, ...] = ()
    lines: tuple[Line, ...] = ()
    values: tuple[Value, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str | float | None, ...], ...] = ()
    spots: tuple[Spot, ...] = ()


class Mark(Struct, frozen=True, kw_only=True):
    """A moment that is marked in every chart."""

    at: float
    name: str
    text: str
    color: str


def window_of(start: str | None, end: str | None, *, now: float, range_s: float, scrape_s: float) -> Window:
    """The time a page is asked for.

    Args:
        start: `now-15m`, or Unix milliseconds as Grafana's links have them; None: `range_s` before the end.
        end: the same; None: now.
        now: Unix seconds.
        range_s: Of the dashboard.
        scrape_s: Seconds between scrapes; no step is shorter.

    Raises:
        WindowError: it cannot be read, or ends before it begins.
    """
    last = now if end is None else _moment(end, now)
    first = last - range_s if start is None else _moment(start, now)
    if not 0 < last - first <= LONGEST_S:
        raise WindowError(
            f"the page is asked for the time from {start!r} to {end!r}, expected an end after the start",
            hint="try from=now-1h&to=now",
        )
    wanted = max((last - first) / POINTS, scrape_s)
    step_s = float(next((step for step in STEPS_S if step >= wanted), STEPS_S[-1]))
    grain_s = min(step_s, GRAIN_S)
    ends = math.floor(last / grain_s) * grain_s
    return Window(
        start=ends - math.floor((last - first) / step_s) * step_s,
        end=ends,
        at=None if end in {None, "now"} else last,
        step_s=step_s,
        scrape_s=scrape_s,
    )


def choices_of(sources: Sources, dashboard: Dashboard, given: Values, window: Window) -> dict[str, tuple[str, ...]]:
    """What each variable may be, from Prometheus; a later one may depend on what is chosen for an earlier.

    Raises:
        PrometheusError: it cannot be asked.
        DashboardError: a variable's query names one that is not there.
    """
    chosen: dict[str, Sequence[str]] = {}
    choices: dict[str, tuple[str, ...]] = {}
    for variable in dashboard.variables:
        selector = window.fill(variable.selector or '{__name__=~".+"}', chosen)
        choices[variable.name] = tuple(sources.prometheus.label_values(variable.values_of, selector))
        chosen[variable.name] = _chosen(variable.is_multi, given.get(variable.name, ()), choices[variable.name])
    return choices


def chosen_of(dashboard: Dashboard, given: Values, choices: Mapping[str, tuple[str, ...]]) -> dict[str, Sequence[str]]:
    """The value of every variable: what is given, else all, or the first where only one can be."""
    return {
        variable.name: _chosen(variable.is_multi, given.get(variable.name, ()), choices.get(variable.name, ()))
        for variable in dashboard.variables
    }


def answer(sources: Sources, panel: Panel, values: Values, window: Window) -> Answer:
    """Ask what a panel asks; its queries beside each other.

    Raises:
        PrometheusError: it cannot be asked, or refuses a query.
        DashboardError: a query names a variable without a value.
    """
    made = partial(_answer, panel)
    if panel.kind in {"table", "bargauge", "stat"}:  # a stat is what is now, not what was last known
        found = _instant(sources, panel.targets, values, window)
        if panel.kind == "table":
            columns, rows = _table(panel, found)
            return made(columns=columns, rows=rows)
        named = [(target, sample) for target, samples in found for sample in samples]
        return made(
            values=tuple(
                Value(name=_name(target, sample.labels, len(named)), value=_finite(sample.value))
                for target, sample in named
            )
        )
    lines, spots = _lines(sources, panel.targets, values, window)
    return made(times=tuple(window.times), lines=lines, spots=spots)


def marks(sources: Sources, annotations: Sequence[Annotation], values: Values, window: Window) -> tuple[Mark, ...]:
    """When each annotation began to hold, oldest first.

    Raises:
        PrometheusError: it cannot be asked.
    """
    asked = [
        (one, sources.beside(partial(_range, sources, window.fill(one.expr, values), window))) for one in annotations
    ]
    found = [
        Mark(at=at, name=one.name, text=legend_text(one.title, series.labels), color=one.color)
        for one, result in asked
        for series in result()
        for at in _begins(series, window)
    ]
    return tuple(sorted(found, key=lambda mark: mark.at))


def _answer(panel: Panel, **parts: object) -> Answer:
    return Answer(
        id=panel.id,
        kind=panel.kind,
        unit=panel.unit,
        decimals=panel.decimals,
        thresholds=panel.thresholds,
        minimum=panel.minimum,
        maximum=panel.maximum,
        is_stacked=panel.is_stacked,
        words=panel.words,
        empty=panel.no_value or "No data",
        **parts,  # type: ignore[arg-type]  # the parts of Answer
    )


def _moment(text: str, now: float) -> float:
    found = RELATIVE.fullmatch(text)
    if found is not None:
        return now - (int(found[1]) * UNITS_S[found[2]] if found[1] else 0)
    if text.isascii() and text.isdecimal() and len(text) <= 14:
        return int(text) / 1000
    raise WindowError(f"{text[:40]!r} is no time, expected now, now-15m or Unix milliseconds")


def _chosen(is_multi: bool, given: Sequence[str], choices: Sequence[str]) -> Sequence[str]:  # noqa: FBT001  # of a variable
    asked = [value for value in given if value not in ALL]
    if asked:
        return asked if is_multi else asked[:1]
    return () if is_multi else choices[:1]


def _instant(
    sources: Sources, targets: Sequence[Target], values: Values, window: Window
) -> list[tuple[Target, list[Sample]]]:
    ask = sources.patient.instant
    asked = [(target, sources.beside(partial(ask, window.fill(target.expr, values), window.at))) for target in targets]
    return [(target, result()) for target, result in asked]


def _lines(
    sources: Sources, targets: Sequence[Target], values: Values, window: Window
) -> tuple[tuple[Line, ...], tuple[Spot, ...]]:
    asked = [(it, sources.beside(partial(_range, sources, window.fill(it.expr, values), window))) for it in targets]
    marked = [
        sources.beside(partial(sources.patient.exemplars, window.fill(it.expr, values), window.start, window.end))
        for it in targets
        if it.has_exemplars
    ]
    found = [(target, series) for target, result in asked for series in result()]
    lines = tuple(
        Line(
            name=_name(target, series.labels, len(found)),
            values=_on_grid(series, window),
            is_promised=target.is_promised,
        )
        for target, series in found
    )
    spots = [
        Spot(at=one.at, value=one.value, trace_id=one.labels.get("trace_id", ""))
        for result in marked
        for one in result()
        if math.isfinite(one.value)
    ]
    slowest = sorted(spots, key=lambda spot: -spot.value)[:EXEMPLARS]
    return lines, tuple(slowest)


def _range(sources: Sources, promql: str, window: Window) -> list[Series]:
    return sources.patient.range(promql, window.start, window.end, window.step_s)


def _on_grid(series: Series, window: Window) -> tuple[float | None, ...]:
    grid: list[float | None] = [None] * len(window.times)
    for at, value in series.points:
        index = round((at - window.start) / window.step_s)
        if 0 <= index < len(grid):
            grid[index] = _finite(value)
    return tuple(grid)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _name(target: Target, labels: Mapping[str, str], count: int) -> str:
    """What a series is called; where a dashboard names none, its labels, and nothing where it is alone."""
    named = legend_text(target.legend, labels)
    if named or count == 1:
        return named
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != "__name__") or target.ref


def _table(
    panel: Panel, found: Sequence[tuple[Target, list[Sample]]]
) -> tuple[tuple[Column, ...], tuple[tuple[str | float | None, ...], ...]]:
    """One row for each set of labels among the columns; queries meet where these are the same."""
    columns = panel.columns or _columns(panel, found)
    keys = [column.label for column in columns if column.label is not None]
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for target, samples in found:
        for sample in samples:
            row = tuple(sample.labels.get(key, "") for key in keys)
            rows.setdefault(row, {})[target.ref] = sample.value
    made = []
    for row, values in rows.items():
        words = dict(zip(keys, row, strict=True))
        made.append(
            tuple(
                words[column.label] if column.label is not None else _finite(values.get(column.ref or "", math.nan))
                for column in columns
            )
        )
    return columns, tuple(made)


def _columns(panel: Panel, found: Sequence[tuple[Target, list[Sample]]]) -> tuple[Column, ...]:
    """Of a table that names none: every label, then every query's value."""
    labels = sorted({key for _, samples in found for it in samples for key in it.labels if key != "__name__"})
    words = tuple(Column(title=label, label=label) for label in labels)
    return words + tuple(
        Column(title=target.legend or target.ref, ref=target.ref, unit=panel.unit, decimals=panel.decimals)
        for target in panel.targets
    )


def _begins(series: Series, window: Window) -> list[float]:
    """Where a run of values other than 0 begins; one that goes on since before the window is no moment in it."""
    begins, before = [], window.start - window.step_s
    for at, value in series.points:
        if value == 0 or math.isnan(value):
            continue
        if at - before > 1.5 * window.step_s:
            begins.append(at)
        before = at
    return begins
