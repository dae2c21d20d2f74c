"""Panels by their shape: what all lines, numbers, tables and timelines of our dashboards have in common.

Nothing is asked or written here. A panel says its question in `description`; where it stands follows from the order and
from its width. Values that judge come from where rules are made, never from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from slipway_signals.dashboards.reading import (
    Annotation,
    Column,
    Grid,
    Kind,
    Link,
    Panel,
    Target,
    Threshold,
    Variable,
)

__all__ = [
    "MODEL",
    "SERVICE",
    "links_of",
    "marks",
    "panel",
    "placed",
    "row",
    "stat",
    "table",
    "timeline",
    "timeseries",
    "value",
]

WIDTH: Final = 24
GOOD: Final = "green"
WARN: Final = "orange"
BAD: Final = "red"
PLAIN: Final = "blue"

PAGES: Final = {
    "slipway-exec": "Executive",
    "slipway-oncall": "On call",
    "slipway-debug": "Debug",
    "slipway-release": "Release",
    "slipway-drift": "Drift",
}

SERVICE: Final = Variable(
    name="service",
    label="service",
    query="label_values(slipway_build_info, service)",
    is_multi=False,
    selector="slipway_build_info",
    values_of="service",
)
MODEL: Final = Variable(
    name="model",
    label="model",
    query='label_values(slipway_model_ready{service="$service"}, model)',
    is_multi=True,
    selector='slipway_model_ready{service="$service"}',
    values_of="model",
)

Queries = Sequence[tuple[str, str]]
"""Each PromQL with its legend."""


def panel(
    number: int,
    title: str,
    question: str,
    kind: Kind,
    queries: Queries,
    *,
    unit: str,
    width: int,
    height: int,
    decimals: int | None = None,
    is_instant: bool = False,
    has_exemplars: bool = False,
    thresholds: Sequence[Threshold] = (),
    no_value: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    is_stacked: bool = False,
    words: Mapping[str, str] | None = None,
    promised: Queries = (),
) -> Panel:
    """A panel of any kind; its queries are A, B, …, and those of what is promised come last."""
    targets = tuple(
        Target(
            ref=chr(ord("A") + place),
            expr=expr,
            legend=legend,
            is_instant=is_instant,
            has_exemplars=has_exemplars and place < len(queries),
            is_promised=place >= len(queries),
        )
        for place, (expr, legend) in enumerate((*queries, *promised))
    )
    return Panel(
        id=number,
        title=title,
        description=question,
        kind=kind,
        unit=unit,
        decimals=decimals,
        targets=targets,
        grid=Grid(0, 0, width, height),
        thresholds=tuple(thresholds),
        no_value=no_value,
        minimum=minimum,
        maximum=maximum,
        is_stacked=is_stacked,
        words=words or {},
    )


def timeseries(
    number: int,
    title: str,
    question: str,
    *queries: tuple[str, str],
    unit: str,
    width: int = 12,
    height: int = 8,
    decimals: int | None = None,
    limit: float | None = None,
    no_value: str = "",
    is_stacked: bool = False,
    has_exemplars: bool = False,
    maximum: float | None = None,
    minimum: float | None = 0,
    promised: Queries = (),
) -> Panel:
    """Lines over time; above `limit` is bad, and the limit is drawn; lines of what is `promised` look like none."""
    steps = () if limit is None else (Threshold(None, GOOD), Threshold(limit, BAD))
    return panel(
        number,
        title,
        question,
        "timeseries",
        queries,
        unit=unit,
        width=width,
        height=height,
        decimals=decimals,
        thresholds=steps,
        no_value=no_value,
        is_stacked=is_stacked,
        has_exemplars=has_exemplars,
        minimum=minimum,
        maximum=maximum,
        promised=promised,
    )


def stat(
    number: int,
    title: str,
    question: str,
    expr: str,
    *,
    unit: str,
    legend: str,
    thresholds: Sequence[Threshold] = (),
    width: int = 4,
    height: int = 5,
    decimals: int | None = 1,
    no_value: str = "",
) -> Panel:
    """One number, with the line that it comes from behind it."""
    return panel(
        number,
        title,
        question,
        "stat",
        [(expr, legend)],
        unit=unit,
        width=width,
        height=height,
        decimals=decimals,
        thresholds=thresholds or (Threshold(None, PLAIN),),
        no_value=no_value,
    )


def value(
    title: str, *, unit: str, decimals: int | None = None, thresholds: Sequence[Threshold] = ()
) -> tuple[str, str, int | None, Sequence[Threshold]]:
    """A column of a table that shows a query's value."""
    return title, unit, decimals, thresholds


def table(
    number: int,
    title: str,
    question: str,
    labels: Mapping[str, str],
    *queries: tuple[str, tuple[str, str, int | None, Sequence[Threshold]]],
    width: int = 12,
    height: int = 8,
    no_value: str = "",
) -> Panel:
    """Rows of labels with the values of queries beside them.

    Args:
        number: Of the panel.
        title: Of the panel.
        question: Of the panel.
        labels: Labels with their headings, in the order of the columns.
        queries: PromQL with its column (`value`).
        width: Of 24.
        height: Units of 30 pixels.
        no_value: What an empty table means.
    """
    asked = [(expr, "") for expr, _ in queries]
    made = panel(
        number,
        title,
        question,
        "table",
        asked,
        unit="short",
        width=width,
        height=height,
        is_instant=True,
        no_value=no_value,
    )
    columns = [Column(title=heading, label=label) for label, heading in labels.items()]
    columns += [
        Column(title=heading, ref=target.ref, unit=unit, decimals=decimals, thresholds=tuple(thresholds))
        for target, (_, (heading, unit, decimals, thresholds)) in zip(made.targets, queries, strict=True)
    ]
    return msgspec.structs.replace(made, columns=tuple(columns))


def timeline(
    number: int,
    title: str,
    question: str,
    *queries: tuple[str, str],
    words: Mapping[str, str],
    width: int = 12,
    height: int = 8,
    no_value: str = "",
) -> Panel:
    """States over time, where 1 is good and 0 is bad."""
    return panel(
        number,
        title,
        question,
        "state-timeline",
        queries,
        unit="none",
        width=width,
        height=height,
        words=words,
        thresholds=(Threshold(None, BAD), Threshold(1, GOOD)),
        no_value=no_value,
    )


def row(number: int, title: str) -> Panel:
    """A heading over the panels that follow."""
    return Panel(id=number, title=title, description="", kind="row", grid=Grid(0, 0, WIDTH, 1))


def placed(panels: Sequence[Panel]) -> tuple[Panel, ...]:
    """The same panels, each where it has room: from left to right, line by line."""
    return tuple(_placed(panels))


def links_of(uid: str) -> tuple[Link, ...]:
    """From one dashboard to the others."""
    return tuple(Link(title, f"/d/{other}") for other, title in PAGES.items() if other != uid)


def marks(service: str) -> tuple[Annotation, ...]:
    """What is marked in every panel: deploys, steps of a canary, alerts that fire.

    Args:
        service: Matcher of the label, such as `service="$service"`.
    """
    info = f"count by (service, version, digest) (slipway_build_info{{{service}}}"
    firing = f'ALERTS{{{service},alertstate="firing",severity!="info"}}'
    canaries = f'count by (service) (up{{{service},track="canary"}}'
    return (
        Annotation(
            name="Deploys",
            expr=f"{info}) unless {info} offset 1m)",
            title="{{service}} {{version}} {{digest}}",
            color="blue",
        ),
        Annotation(
            name="Canary steps",
            expr=f"({canaries}) or 0 * {canaries} offset 1m)) != ({canaries} offset 1m) or 0 * {canaries}))",
            title="{{service}}: the canary has more or fewer replicas",
            color="purple",
        ),
        Annotation(
            name="Alerts",
            expr=f"max by (alertname, service, slo, severity) ({firing})",
            title="{{alertname}} {{slo}} ({{severity}})",
            color="red",
        ),
    )


def _placed(panels: Sequence[Panel]) -> Iterator[Panel]:
    x = y = height = 0
    for one in panels:
        if x + one.grid.w > WIDTH:
            x, y, height = 0, y + height, 0
        yield msgspec.structs.replace(one, grid=Grid(x, y, one.grid.w, one.grid.h))
        x, height = x + one.grid.w, max(height, one.grid.h)
