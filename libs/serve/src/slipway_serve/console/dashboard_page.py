"""A dashboard as a page: the frame of every panel, its title and its question; `dashboard.js` asks and draws.

The panels' answers come one by one from `/api/dashboards/…`, so that a slow query does not hold up the others.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from slipway_serve.console.frame import short_title
from slipway_serve.console.markdown import rendered
from slipway_serve.page_markup import Child, Html, el
from slipway_signals.dashboards.reading import Dashboard, Link, Panel, Variable

RANGES: Final = (
    ("now-5m", "5 minutes"),
    ("now-15m", "15 minutes"),
    ("now-1h", "1 hour"),
    ("now-6h", "6 hours"),
    ("now-1d", "1 day"),
    ("now-7d", "7 days"),
    ("now-30d", "30 days"),
)
LIBRARIES: Final = ("/static/uplot.js",)
SCRIPTS: Final = ("/static/dashboard.js",)
CHARTS: Final = frozenset({"timeseries", "heatmap", "state-timeline"})


def dashboard_body(
    dashboard: Dashboard,
    choices: Mapping[str, Sequence[str]],
    chosen: Mapping[str, Sequence[str]],
    *,
    start: str,
    end: str,
    alone: int | None,
    problem: str | None = None,
) -> list[Child]:
    """Children of `<main>`.

    Args:
        dashboard: which.
        choices: what each variable may be.
        chosen: what each variable is.
        start: as `from` in the address.
        end: as `to` in the address.
        alone: the panel that is shown large, above the others; None: none.
        problem: why the variables could not be asked.
    """
    first = [panel for panel in dashboard.panels if panel.id == alone]
    rest = [panel for panel in dashboard.panels if panel.id != alone]
    asked = [(f"var-{name}", value) for name, values in chosen.items() for value in values]
    here = urlencode([*asked, ("from", start), ("to", end)])
    return [
        el(
            "div", el("h1", short_title(dashboard.title)), el("p", dashboard.description, class_="lead"), class_="title"
        ),
        _chooser(dashboard, choices, chosen, start=start, end=end, alone=alone),
        el("p", problem, class_="notice", role="note") if problem else None,
        el("div", id="marks"),
        el("noscript", el("p", "Charts are drawn by a script, and scripts are off.", class_="notice")),
        el(
            "div",
            [_panel(panel, here, is_alone=True) for panel in first],
            [_panel(panel, here) for panel in rest],
            class_="grid",
            data_uid=dashboard.uid,
            id="grid",
        ),
        _links(dashboard.links, chosen),
    ]


def _chooser(
    dashboard: Dashboard,
    choices: Mapping[str, Sequence[str]],
    chosen: Mapping[str, Sequence[str]],
    *,
    start: str,
    end: str,
    alone: int | None,
) -> Html:
    ranges = RANGES if end == "now" else ()
    if start not in dict(ranges):
        ranges = ((start, "as in the address"), *ranges)
    return el(
        "form",
        [_select(one, choices.get(one.name, ()), chosen.get(one.name, ())) for one in dashboard.variables],
        el(
            "label",
            el("span", "Last"),
            el(
                "select",
                [el("option", words, value=value, selected=value == start) for value, words in ranges],
                name="from",
            ),
        ),
        el("input", type="hidden", name="to", value=end) if end != "now" else None,
        el("input", type="hidden", name="viewPanel", value=str(alone)) if alone is not None else None,
        el("p", "", class_="quiet", id="drawn", role="status"),
        method="get",
        class_="chooser",
        id="chooser",
    )


def _select(variable: Variable, choices: Sequence[str], chosen: Sequence[str]) -> Html:
    known = [*choices, *(value for value in chosen if value not in choices)]
    options: list[Child] = [el("option", value, value=value, selected=value in chosen) for value in known]
    if variable.is_multi:
        options.insert(0, el("option", "All", value="", selected=not chosen))
    return el("label", el("span", variable.label.capitalize()), el("select", options, name=f"var-{variable.name}"))


def _panel(panel: Panel, here: str, *, is_alone: bool = False) -> Html:
    size = f"w-{panel.grid.w}"
    if panel.kind == "row":
        return el("h2", panel.title, class_="row-title")
    if panel.kind == "text":
        return el(
            "section",
            el("h2", panel.title) if panel.title else None,
            rendered(panel.text),
            class_=f"panel words {size}",
        )
    return el(
        "section",
        el(
            "header",
            el("h2", el("a", panel.title, href=f"?{here}" if is_alone else f"?{here}&viewPanel={panel.id}")),
            el("p", panel.description, class_="quiet question"),
        ),
        el("div", class_="body", aria_busy="true"),
        class_=f"panel drawn kind-{panel.kind} {'w-24 alone' if is_alone else size}",
        data_panel=str(panel.id),
        data_kind=panel.kind,
        id=f"panel-{panel.id}",
    )


def _links(links: Sequence[Link], chosen: Mapping[str, Sequence[str]]) -> Html | None:
    """To other dashboards, for the same service; links to anything else are Grafana's own."""
    query = urlencode([(f"var-{name}", value) for name, values in chosen.items() for value in values])
    near = [link for link in links if "/d/" in link.url]
    if not near:
        return None
    items = []
    for link in near:
        uid = link.url.partition("/d/")[2].partition("?")[0].partition("/")[0]
        items.append(el("span", el("a", link.title, href=f"/dashboards/{quote(uid)}" + (f"?{query}" if query else ""))))
    return el("p", items, class_="ways")
