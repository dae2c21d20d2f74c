"""Write dashboards: each as the Grafana JSON of its file, by Grafana's own library.

`building_*` say what is asked; this says how Grafana shows it. Nothing is asked of Prometheus, nothing is drawn. The
invariant: what `reading` reads of a file is what was written, so Grafana and the console show the same.

The library is needed by whoever changes dashboards and by nobody else; nothing but `scripts/regen.py` and tests imports
this. It emits the classic model (v1): GrafanaDashboard resources and files of a provider take nothing newer.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

with warnings.catch_warnings():  # the classic model is the library's old one
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import bargauge, common, heatmap, stat, statetimeline, table, text, timeseries
    from grafana_foundation_sdk.builders import dashboard as v1
    from grafana_foundation_sdk.builders import prometheus as queries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common as shown
    from grafana_foundation_sdk.models import dashboard as model
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from slipway_signals.dashboards.building_debug import debug
from slipway_signals.dashboards.building_drift import drift
from slipway_signals.dashboards.building_exec import executive
from slipway_signals.dashboards.building_oncall import oncall
from slipway_signals.dashboards.building_release import release
from slipway_signals.dashboards.reading import Annotation, Column, Dashboard, Panel, Target, Threshold, Variable
from slipway_signals.dashboards.wire import FOLDER

__all__ = ["dashboards", "outputs", "render"]

SOURCE: Final = shown.DataSourceRef(type_val="prometheus", uid="${datasource}")
SCHEMA: Final = 42
PROMISED: Final = [
    model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "text"}),
    model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
]
"""How a line looks that nobody measured: in the colour of the text, which no other line has."""


def dashboards() -> tuple[Dashboard, ...]:
    """All of them, the one for most people first."""
    return executive(), oncall(), debug(), release(), drift()


def outputs() -> dict[Path, str]:
    """What every dashboard's file must hold, by path relative to the repository's root."""
    return {FOLDER / f"{one.uid}.json": render(one) for one in dashboards()}


def render(page: Dashboard) -> str:
    """One dashboard as JSON, the same bytes each time."""
    made = (
        v1.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags(["slipway"])
        .timezone("browser")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time(f"now-{page.range_s:g}s" if page.range_s % 3_600 else f"now-{page.range_s / 3_600:g}h", "now")
        .with_variable(v1.DatasourceVariable("datasource").label("data source").type("prometheus"))
    )
    for variable in page.variables:
        made.with_variable(_variable(variable))
    for annotation in page.annotations:
        made.annotation(_annotation(annotation))
    for link in page.links:
        made.link(
            v1.DashboardLink(link.title)
            .type(model.DashboardLinkType.LINK)
            .url(link.url)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
    built = made.build()
    built.schema_version = SCHEMA
    built.panels = [_panel(one) for one in page.panels]
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _variable(variable: Variable) -> v1.QueryVariable:
    made = (
        v1.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(SOURCE)
        .query(variable.query)
        .definition(variable.query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(variable.is_multi)
    )
    return made.include_all(include_all=True).all_value(".*") if variable.is_multi else made


def _annotation(one: Annotation) -> v1.AnnotationQuery:
    return (
        v1.AnnotationQuery()
        .name(one.name)
        .datasource(SOURCE)
        .enable(enable=True)
        .expr(one.expr)
        .title_format(one.title)
        .icon_color(one.color)
        .step("30s")
        .use_value_for_time(use_value_for_time=False)
    )


def _panel(panel: Panel) -> Any:
    grid = model.GridPos(h=panel.grid.h, w=panel.grid.w, x=panel.grid.x, y=panel.grid.y)
    if panel.kind == "row":
        return v1.Row(panel.title).id(panel.id).grid_pos(grid).build()
    made: Any = KINDS[panel.kind](panel)
    made.id(panel.id).title(panel.title).description(panel.description).grid_pos(grid).datasource(SOURCE)
    for target in panel.targets:
        made.with_target(_target(target, panel))
    if panel.kind == "text":
        return made.build()
    made.unit(panel.unit).thresholds(_thresholds(panel.thresholds))
    for value, call in (
        (panel.decimals, made.decimals),
        (panel.no_value or None, made.no_value),
        (panel.minimum, made.min),
        (panel.maximum, made.max),
    ):
        if value is not None:
            call(value)
    if panel.words:
        made.mappings([model.ValueMap({value: model.ValueMappingResult(text=it) for value, it in panel.words.items()})])
    return made.build()


def _target(target: Target, panel: Panel) -> queries.Dataquery:
    made = queries.Dataquery().ref_id(target.ref).expr(target.expr).legend_format(target.legend)
    if target.has_exemplars:
        made.exemplar(exemplar=True)
    if panel.kind == "table":
        made.format(PromQueryFormat.TABLE)
    elif panel.kind == "heatmap":
        made.format(PromQueryFormat.HEATMAP if target.legend == "{{le}}" else PromQueryFormat.TIME_SERIES)
    return made.instant() if target.is_instant else made.range()


def _thresholds(steps: tuple[Threshold, ...]) -> v1.ThresholdsConfig:
    made = [model.Threshold(value=step.value, color=step.color) for step in steps]
    return v1.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(30 if panel.is_stacked else 0)
        .show_points(shown.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(shown.LegendDisplayMode.LIST)
            .placement(shown.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(shown.TooltipDisplayMode.MULTI).sort(shown.SortOrder.DESCENDING))
    )
    if panel.is_stacked:
        made.stacking(common.StackingConfig().mode(shown.StackingMode.NORMAL))
    for target in panel.targets:
        if target.is_promised:
            made.override_by_query(target.ref, PROMISED)
    if panel.thresholds:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(shown.GraphThresholdsStyleMode.DASHED))
    return made


def _number(_: Panel) -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False)
    return (
        stat.Panel()
        .reduce_options(last)
        .graph_mode(shown.BigValueGraphMode.AREA)
        .color_mode(shown.BigValueColorMode.VALUE)
    )


def _rows(panel: Panel) -> table.Panel:
    made = table.Panel()
    names = list(_columns(panel))
    made.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    made.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, (name, _) in enumerate(names)},
                "renameByName": {name: column.title for name, column in names},
            },
        )
    )
    for _, column in names:
        if column.ref is None:
            continue
        properties = [model.DynamicConfigValue("unit", column.unit)]
        if column.decimals is not None:
            properties.append(model.DynamicConfigValue("decimals", column.decimals))
        if column.thresholds:
            properties.append(model.DynamicConfigValue("thresholds", _thresholds(column.thresholds).build()))
            properties.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        made.override_by_name(column.title, properties)
    return made


def _columns(panel: Panel) -> Iterator[tuple[str, Column]]:
    """Each column with the name that Grafana gives its field: values are numbered when there are several queries."""
    for column in panel.columns:
        if column.ref is None:
            yield column.label or "", column
        else:
            yield (f"Value #{column.ref}" if len(panel.targets) > 1 else "Value"), column


def _bars(_: Panel) -> bargauge.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False)
    return bargauge.Panel().reduce_options(last).orientation(shown.VizOrientation.HORIZONTAL)


def _map(_: Panel) -> heatmap.Panel:
    return heatmap.Panel().calculate(calculate=False)


def _states(_: Panel) -> statetimeline.Panel:
    return statetimeline.Panel().merge_values(merge_values=True).show_value(shown.VisibilityMode.AUTO)


def _words(panel: Panel) -> text.Panel:
    return text.Panel().content(panel.text)


KINDS: Final[dict[str, Callable[[Panel], object]]] = {
    "timeseries": _lines,
    "stat": _number,
    "table": _rows,
    "bargauge": _bars,
    "heatmap": _map,
    "state-timeline": _states,
    "text": _words,
}
