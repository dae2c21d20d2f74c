"""Every panel of every dashboard shows something under the load, and says what it is.

The files that Grafana and the console read are asked as they do it; nothing is taken from the code that wrote them.
"""

import math
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from watched_stack import Watched

from slipway_signals.dashboards.reading import Dashboard, Panel, Target, legend_text, load_dashboards, substitute
from slipway_signals.prometheus import Prometheus, Sample, Series

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

ROOT = Path(__file__).resolve().parents[2]
PAGES = load_dashboards(ROOT / "observability" / "dashboards")
PANELS = [(page, panel) for page in PAGES for panel in page.panels if panel.kind != "row"]
INTERVAL_S, SCRAPE_S = 2.0, 1.0
MOST = 20
SLOWEST_S = 1.0
OLDER_THAN_THE_TEST = re.compile(r"usual_rate1h|offset 7d")
"""Lines that compare with past weeks: Prometheus has none here, and the alerts' own tests bring them."""


def named(value: object) -> str:
    """What pytest calls a case."""
    return value.uid if isinstance(value, Dashboard) else f"{value.id}" if isinstance(value, Panel) else str(value)


def filled(promql: str, watched: Watched, service: str) -> str:
    """The query as the page of this service asks it."""
    values = {"service": [service], "model": [], "feature": ["income"]}
    range_s = time.time() - watched.since
    return substitute(promql, values, interval_s=INTERVAL_S, range_s=range_s, scrape_s=SCRAPE_S)


def ask(target: Target, watched: Watched, service: str) -> Sequence[Sample | Series]:
    """What the panel is drawn from."""
    promql, prometheus = filled(target.expr, watched, service), watched.prometheus
    begun, now = time.monotonic(), time.time()
    found: Sequence[Sample | Series] = (
        prometheus.instant(promql) if target.is_instant else prometheus.range(promql, watched.since, now, INTERVAL_S)
    )
    took_s = time.monotonic() - begun
    assert took_s < SLOWEST_S, f"{took_s:.2f} s: {promql}"
    return found


def has_number(one: Sample | Series) -> bool:
    """Whether there is anything to draw."""
    values = [one.value] if isinstance(one, Sample) else [value for _, value in one.points]
    return any(math.isfinite(value) for value in values)


@pytest.mark.parametrize(("page", "panel"), PANELS, ids=named)
def test_a_panel_shows_something_and_not_too_much(watched: Watched, page: Dashboard, panel: Panel) -> None:
    drawn = {
        service: {target.ref: ask(target, watched, service) for target in panel.targets} for service in watched.services
    }

    for target in panel.targets:
        lines = [one for answers in drawn.values() for one in answers[target.ref]]
        if not OLDER_THAN_THE_TEST.search(target.expr):
            assert any(has_number(one) for one in lines), f"nothing to see in {page.uid} {panel.id}: {target.expr}"
        assert all(has_number(one) for one in lines), f"only NaN in a line of {page.uid} {panel.id}: {target.expr}"
        for label in re.findall(r"\{\{(\w+)\}\}", target.legend):
            assert any(label in one.labels for one in lines) or not lines, f"no series has {label}: {target.legend}"
        for column in panel.columns:
            assert column.label is None or any(column.label in one.labels for one in lines), column
    most = 1 if panel.kind == "stat" else MOST
    for service, answers in drawn.items():
        assert sum(map(len, answers.values())) <= most, f"{service}: {page.uid} {panel.id}"


@pytest.mark.parametrize(("page", "panel"), PANELS, ids=named)
def test_no_two_lines_of_a_panel_have_one_name(watched: Watched, page: Dashboard, panel: Panel) -> None:
    for service in watched.services:
        names = [
            legend_text(target.legend, one.labels)
            for target in panel.targets
            if panel.kind != "table"
            for one in ask(target, watched, service)
        ]

        assert len(names) == len(set(names)), f"{page.uid} {panel.id} of {service}: {sorted(names)}"
        assert all(names)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_choice_of_a_dashboard_has_values(watched: Watched, page: Dashboard) -> None:
    for variable in page.variables:
        selector = filled(variable.selector, watched, "churn")

        assert watched.prometheus.label_values(variable.values_of, selector), variable.query


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_deploys_canary_steps_and_alerts_are_marked(watched: Watched, page: Dashboard) -> None:
    marked = {
        one.name: watched.prometheus.range(filled(one.expr, watched, "churn"), watched.since, time.time(), 1.0)
        for one in page.annotations
    }

    assert set(marked) == {"Deploys", "Canary steps", "Alerts"}
    assert all(marked.values())
    assert {one.labels["digest"][:7] for one in marked["Deploys"]} == {"sha256:"}
    assert "SlipwaySLOFastBurn" in {one.labels["alertname"] for one in marked["Alerts"]}


def test_a_slow_request_can_be_followed_to_its_trace(watched: Watched) -> None:
    [panel] = [panel for page, panel in PANELS if page.uid == "slipway-debug" and panel.kind == "heatmap"][:1]
    [target] = panel.targets

    found = watched.prometheus.exemplars(filled(target.expr, watched, "churn"), watched.since, time.time())

    assert target.has_exemplars
    assert found
    assert re.fullmatch("[0-9a-f]{32}", found[-1].labels["trace_id"])


def test_the_first_line_says_that_users_of_churn_are_hurt(watched: Watched) -> None:
    oncall = next(page for page in PAGES if page.uid == "slipway-oncall")

    burn, left = (ask(oncall.panel(number).targets[0], watched, "churn") for number in (1, 2))

    assert isinstance(burn[0], Sample | Series)
    assert value_of(burn[0]) > 1
    assert value_of(left[0]) < 0


def test_what_is_near_an_alert_is_what_fires(watched: Watched) -> None:
    near = next(page for page in PAGES if page.uid == "slipway-oncall").panel(5)
    fast = near.targets[0]
    [worst] = [one for one in ask(fast, watched, "churn") if one.labels["slo"] == "churn-availability"]

    firing = {
        (one.labels["slo"], one.labels.get("tier")) for one in alerts_of(watched.prometheus, "SlipwaySLOFastBurn")
    }

    assert value_of(worst) > 1
    assert ("churn-availability", "fast") in firing


def alerts_of(prometheus: Prometheus, name: str) -> list[Sample]:
    """Those that fire."""
    return [Sample(one.labels, one.value) for one in prometheus.alerts() if one.name == name and one.state == "firing"]


def value_of(one: Sample | Series) -> float:
    """The last."""
    return one.value if isinstance(one, Sample) else one.points[-1][1]
