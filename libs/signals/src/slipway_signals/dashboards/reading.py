"""Read dashboards: the Grafana JSON of `observability/dashboards/` as panels, queries and variables.

It asks nothing and draws nothing: whoever has a Prometheus puts values into a query with `substitute` and shows the
answer. It understands the part of Grafana's model (schema version 42, classic) that `building` writes; fields that it
does not know are left alone.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from slipway_bundle.errors import FileError
from slipway_signals.dashboards import wire
from slipway_signals.dashboards.variables import DashboardError, legend_text, substitute

__all__ = [
    "Annotation",
    "Column",
    "Dashboard",
    "DashboardError",
    "Grid",
    "Kind",
    "Link",
    "Panel",
    "Target",
    "Threshold",
    "Variable",
    "legend_text",
    "load_dashboard",
    "load_dashboards",
    "substitute",
]

Kind = Literal["timeseries", "stat", "table", "bargauge", "heatmap", "state-timeline", "text", "row"]

_ASKED: Final = re.compile(r"label_values\((?:(?P<selector>.+),\s*)?(?P<label>\w+)\)")


class Grid(Struct, frozen=True):
    """Where a panel stands; the page is 24 wide, one unit of height is 30 pixels."""

    x: int
    y: int
    w: int
    h: int


class Target(Struct, frozen=True, kw_only=True):
    """One query of a panel."""

    ref: str
    """A, B, … within its panel."""

    expr: str
    """PromQL with variables."""

    legend: str
    """What a series is called: text with `{{label}}`; empty in tables, whose rows say it."""

    is_instant: bool
    """Whether the last value is asked, and not a line."""

    has_exemplars: bool = False
    """Whether single requests, with their traces, belong to it."""

    is_promised: bool = False
    """Whether it is what is promised or allowed, drawn apart from what is measured."""


class Threshold(Struct, frozen=True):
    """From this value on, this colour."""

    value: float | None
    """None: from the beginning."""

    color: str
    """`green`, `orange`, `red`, …; whoever draws chooses what these look like."""


class Link(Struct, frozen=True):
    """A way to somewhere else; the URL may hold variables."""

    title: str
    url: str


class Column(Struct, frozen=True, kw_only=True):
    """One column of a table, in its order: of a label, or of a query's value."""

    title: str
    label: str | None = None
    """The label whose value it shows."""

    ref: str | None = None
    """The query whose value it shows."""

    unit: str = ""
    """Of a value; as Panel.unit."""

    decimals: int | None = None
    thresholds: tuple[Threshold, ...] = ()


class Panel(Struct, frozen=True, kw_only=True):
    """One panel, or the row that stands above some."""

    id: int
    """Stable: links name it as `viewPanel`."""

    title: str
    description: str
    """The question that it answers."""

    kind: Kind
    unit: str = ""
    """Grafana's name: `s`, `percentunit`, `reqps`, `short`, `bytes`, `currencyUSD`, `h`, `none`, …"""

    decimals: int | None = None
    targets: tuple[Target, ...] = ()
    grid: Grid = Grid(0, 0, 24, 8)
    thresholds: tuple[Threshold, ...] = ()
    no_value: str = ""
    """What it means that there is no series."""

    columns: tuple[Column, ...] = ()
    """Of a table; rows of different queries with the same labels are one row."""

    minimum: float | None = None
    maximum: float | None = None
    is_stacked: bool = False
    words: Mapping[str, str] = field(default_factory=dict)
    """Of a state timeline: words for values, `{"1": "ready", "0": "not ready"}`."""

    text: str = ""
    """Of a text panel: Markdown."""

    links: tuple[Link, ...] = ()


class Variable(Struct, frozen=True, kw_only=True):
    """Something the reader chooses, from the values of a label."""

    name: str
    query: str
    """`label_values(SELECTOR, LABEL)`; may name variables before it."""

    label: str
    """What the page calls it."""

    is_multi: bool
    """Whether several values may be chosen; none stands for all."""

    selector: str = ""
    """Of the query: the series whose label is asked."""

    values_of: str = ""
    """Of the query: the label."""


class Annotation(Struct, frozen=True, kw_only=True):
    """Moments that are marked in every panel: where the query has a value that is not 0."""

    name: str
    expr: str
    title: str
    """With `{{label}}`, as a legend."""

    color: str


class Dashboard(Struct, frozen=True, kw_only=True):
    """One page."""

    uid: str
    """The file's stem."""

    title: str
    description: str
    variables: tuple[Variable, ...] = ()
    panels: tuple[Panel, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    links: tuple[Link, ...] = ()
    """To the other dashboards and to what explains this one."""

    range_s: float = 3_600
    """How far it looks back when nobody says."""

    def panel(self, number: int) -> Panel:
        """The panel with this id; raises DashboardError, which lists those there are."""
        for panel in self.panels:
            if panel.id == number:
                return panel
        there = ", ".join(str(panel.id) for panel in self.panels)
        raise DashboardError(f"{self.uid} has no panel {number}, expected one of {there}")


def load_dashboards(folder: Path) -> tuple[Dashboard, ...]:
    """Every `*.json` in `folder`, by name.

    Raises:
        FileError: The folder or a file cannot be read.
        DashboardError: A file is no dashboard that `building` could have written.
    """
    if not folder.is_dir():
        raise FileError(f"{str(folder)!r} is no folder with dashboards", hint="`observability/dashboards` has them")
    return tuple(load_dashboard(path) for path in sorted(folder.glob("*.json")))


def load_dashboard(path: Path) -> Dashboard:
    """One file; raises as `load_dashboards`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from error
    try:
        file = msgspec.json.decode(data, type=wire.File)
    except msgspec.MsgspecError as error:
        raise DashboardError(f"{path.name} is no dashboard: {error}") from error
    if file.uid != path.stem:
        raise DashboardError(f"{path.name}: `uid` is {file.uid!r}, expected the file's stem {path.stem!r}")
    return Dashboard(
        uid=file.uid,
        title=file.title,
        description=file.description,
        variables=tuple(_variable(one) for one in file.templating.list if one.type == "query"),
        panels=tuple(_panel(one, path.name) for one in file.panels),
        annotations=tuple(
            Annotation(name=one.name, expr=one.expr, title=one.title_format, color=one.icon_color)
            for one in file.annotations.list
            if one.expr
        ),
        links=tuple(Link(one.title, one.url) for one in file.links),
        range_s=_range_s(file.time.start),
    )


def _range_s(start: str) -> float:
    found = re.fullmatch(r"now-(\d+)([smhd])", start)
    if found is None:
        return 3_600
    return int(found[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]]


def _variable(one: wire.Variable) -> Variable:
    query = one.query if isinstance(one.query, str) else one.query.query
    asked = _ASKED.fullmatch(query)
    return Variable(
        name=one.name,
        query=query,
        label=one.label or one.name,
        is_multi=one.multi,
        selector=(asked["selector"] or "") if asked else "",
        values_of=asked["label"] if asked else "",
    )


def _panel(one: wire.Panel, file: str) -> Panel:
    if one.type not in Kind.__args__:  # type: ignore[attr-defined]  # a Literal's values
        raise DashboardError(f"{file}: panel {one.id} is a {one.type!r}, expected one of {', '.join(Kind.__args__)}")  # type: ignore[attr-defined]
    kind: Kind = one.type  # type: ignore[assignment]  # checked above
    defaults = one.field_config.defaults
    apart = {it.matcher.options for it in one.field_config.overrides if it.matcher.id == wire.BY_QUERY}
    return Panel(
        id=one.id,
        title=one.title,
        description=one.description,
        kind=kind,
        unit=defaults.unit,
        decimals=None if defaults.decimals is None else int(defaults.decimals),
        targets=tuple(
            Target(
                ref=it.ref_id,
                expr=it.expr,
                legend=it.legend_format,
                is_instant=it.instant,
                has_exemplars=it.exemplar,
                is_promised=it.ref_id in apart,
            )
            for it in one.targets
        ),
        grid=Grid(one.grid_pos.x, one.grid_pos.y, one.grid_pos.w, one.grid_pos.h),
        thresholds=_thresholds(defaults.thresholds),
        no_value=defaults.no_value,
        columns=_columns(one),
        minimum=defaults.min,
        maximum=defaults.max,
        is_stacked=defaults.custom.stacking.mode in {"normal", "percent"},
        words={value: it.text for group in defaults.mappings for value, it in group.options.items()},
        text=one.options.content,
        links=tuple(Link(it.title, it.url) for it in one.links),
    )


def _thresholds(found: wire.Thresholds) -> tuple[Threshold, ...]:
    return tuple(Threshold(step.value, step.color) for step in found.steps)


def _columns(one: wire.Panel) -> tuple[Column, ...]:
    """Of a table, by the transformation that orders and names the columns."""
    organize = next((it.options for it in one.transformations if it.id == "organize"), None)
    if organize is None:
        return ()
    overrides = {it.matcher.options: {p.id: p.value for p in it.properties} for it in one.field_config.overrides}
    columns = []
    for name in sorted(organize.index_by_name, key=organize.index_by_name.__getitem__):
        title = organize.rename_by_name.get(name, name)
        ref = name.removeprefix("Value #") if name.startswith("Value #") else ("A" if name == "Value" else None)
        known = overrides.get(title, {})
        decimals = known.get("decimals")
        columns.append(
            Column(
                title=title,
                label=None if ref else name,
                ref=ref,
                unit=str(known.get("unit", "")),
                decimals=decimals if isinstance(decimals, int) else None,
                thresholds=_thresholds(msgspec.convert(known.get("thresholds", {}), wire.Thresholds)),
            )
        )
    return tuple(columns)
