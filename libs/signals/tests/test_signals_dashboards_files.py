"""The committed dashboards: what they ask exists, what they say is complete, and every alert has its panel."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from slo_files import ROOT

from slipway_signals.dashboards import building
from slipway_signals.dashboards.reading import Dashboard, Panel, Target, load_dashboards, substitute
from slipway_signals.slo.build import load_services
from slipway_signals.slo.panels import PANELS, panel_url
from slipway_signals.slo.series import Known, selectors_of

FOLDER = ROOT / "observability" / "dashboards"
PAGES = {page.uid: page for page in load_dashboards(FOLDER)}
SHOWN = [(page, panel) for page in PAGES.values() for panel in page.panels if panel.kind != "row"]
ONCALL_MOST = 12
TARGET_LABELS = frozenset({"service", "track", "instance", "job", "pod"})


def named(value: object) -> str:
    """What pytest calls a case."""
    return value.uid if isinstance(value, Dashboard) else f"{value.id}" if isinstance(value, Panel) else str(value)


def rules() -> Iterator[dict[str, object]]:
    """Every rule that is committed."""
    for path in sorted((ROOT / "observability" / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


RULES = tuple(rules())
KNOWN = Known().and_recorded(str(rule["record"]) for rule in RULES if "record" in rule)
ALERTS = {str(rule["alert"]): str(rule["expr"]) for rule in RULES if "alert" in rule}


def filled(target: Target) -> str:
    """The query as one service asks it."""
    values = {"service": ["churn"], "model": [], "feature": ["income"]}
    return substitute(target.expr, values, interval_s=15, range_s=3_600, scrape_s=15)


def metrics_of(promql: str) -> set[str]:
    """Names of the metrics in a query."""
    return {one.metric for one in selectors_of(promql)}


def test_the_files_are_what_the_builders_make() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}

    assert committed == {path.name: text for path, text in building.outputs().items()}


@pytest.mark.parametrize("made", building.dashboards(), ids=named)
def test_what_is_read_is_what_was_built(made: Dashboard) -> None:
    assert PAGES[made.uid] == made


@pytest.mark.parametrize(("page", "panel"), SHOWN, ids=named)
def test_a_panel_says_its_question_its_unit_and_its_lines(page: Dashboard, panel: Panel) -> None:
    assert re.search(r"[a-z].*\?", panel.description), panel.description
    assert "\n" not in panel.description
    assert panel.unit
    assert panel.targets
    for target in panel.targets:
        assert target.legend or panel.kind == "table", f"{page.uid} {panel.id} {target.ref}"
    for column in panel.columns:
        assert column.label or column.unit


@pytest.mark.parametrize(("page", "panel"), SHOWN, ids=named)
def test_a_panel_asks_only_for_series_that_exist(page: Dashboard, panel: Panel) -> None:
    asked = [one.expr for one in panel.targets] + [one.expr for one in page.annotations]

    for promql in asked:
        assert metrics_of(promql)
        for selector in selectors_of(promql):
            assert KNOWN.problem_of(selector) is None, f"{page.uid} {panel.id}"


@pytest.mark.parametrize("page", PAGES.values(), ids=named)
def test_numbers_of_panels_are_unique_and_nothing_overlaps(page: Dashboard) -> None:
    cells = [
        (x, y)
        for panel in page.panels
        for x in range(panel.grid.x, panel.grid.x + panel.grid.w)
        for y in range(panel.grid.y, panel.grid.y + panel.grid.h)
    ]

    assert len({panel.id for panel in page.panels}) == len(page.panels)
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("page", PAGES.values(), ids=named)
def test_links_name_dashboards_that_exist(page: Dashboard) -> None:
    linked = {link.url for link in page.links}

    assert linked == {f"/d/{uid}" for uid in PAGES if uid != page.uid}


def test_the_on_call_dashboard_is_short_and_begins_with_the_users() -> None:
    page = PAGES["slipway-oncall"]
    first = [panel for panel in page.panels if panel.grid.y == 0]

    assert len(page.panels) <= ONCALL_MOST
    assert "users" in first[0].description
    assert "budget" in first[1].description
    assert {metric for panel in first[:2] for target in panel.targets for metric in metrics_of(target.expr)} == {
        "slipway:slo_burn_rate:ratio_rate5m",
        "slipway:slo_budget_remaining:ratio",
    }


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_has_a_panel_that_shows_its_metric(alert: str) -> None:
    uid, number = PANELS[alert]
    shown = {metric for target in PAGES[uid].panel(number).targets for metric in metrics_of(target.expr)}
    asked = metrics_of(ALERTS[alert])

    if asked:
        assert shown & asked, f"{alert}: {sorted(asked)}, its panel: {sorted(shown)}"
    else:  # the watchdog asks nothing: its panel shows that it fires
        assert any(f'"{alert}"' in target.expr for target in PAGES[uid].panel(number).targets)


def test_no_panel_is_kept_for_an_alert_that_is_gone() -> None:
    assert set(PANELS) == set(ALERTS)


def test_an_alert_links_to_its_panel() -> None:
    told = [rule for rule in RULES if "alert" in rule]

    for rule in told:
        words, labels = rule["annotations"], rule["labels"]
        assert isinstance(words, dict)
        assert isinstance(labels, dict)
        assert words["dashboard_url"] == panel_url(str(rule["alert"]), labels["service"])
        assert (ROOT / words["dashboard_url"].partition("?")[0]).is_file()


def test_an_alert_without_a_panel_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="no panel shows SlipwayNew"):
        panel_url("SlipwayNew", "churn")


def test_limits_that_a_panel_draws_are_those_of_the_rules() -> None:
    """A number in a panel that is not 0 or 1 stands in the rule of an alert that the panel is for."""
    for alert, (uid, number) in PANELS.items():
        for threshold in PAGES[uid].panel(number).thresholds:
            if threshold.value not in {None, 0, 1}:
                same = [ALERTS[other] for other, place in PANELS.items() if place == (uid, number)]
                assert any(f"{threshold.value:g}" in expr for expr in same), f"{alert}: {threshold.value}"


def test_every_objective_of_a_service_can_be_seen() -> None:
    """No panel names a service or an objective: whoever adds one has its dashboards."""
    names = [name for service in load_services(ROOT) for name in (service.service, *(slo.name for slo in service.slos))]

    for path in FOLDER.iterdir():
        text = path.read_text()
        assert not [name for name in names if name in text], path.name


@pytest.mark.needs("promtool")
def test_promtool_understands_every_query(tmp_path: Path) -> None:
    asked = [filled(target) for _, panel in SHOWN for target in panel.targets]
    recorded = [{"record": f"query:{place}", "expr": promql} for place, promql in enumerate(asked)]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": recorded}]}))

    done = subprocess.run(["promtool", "check", "rules", path], check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert f"{len(asked)} rules found" in done.stdout


@pytest.mark.parametrize("uid", PAGES)
def test_grafana_finds_what_it_needs(uid: str) -> None:
    """What its own importer asks of a file: uid, schema, a data source of one's choice, numbers, places."""
    file = json.loads((FOLDER / f"{uid}.json").read_text())

    assert file["uid"] == uid
    assert file["schemaVersion"] == 42
    assert file["editable"] is False
    assert file["templating"]["list"][0]["type"] == "datasource"
    for panel in file["panels"]:
        assert panel["type"] == "row" or panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for one in file["annotations"]["list"]:
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for link in file["links"]:
        assert link["keepTime"]
        assert link["includeVars"]


def test_the_panels_in_the_table_of_metrics_exist() -> None:
    """The last column of `docs/signals.md`: `debug 14 and 15, release 5`."""
    pages = {"on call": "slipway-oncall", "executive": "slipway-exec"}
    rows = re.findall(r"^\| (M\d+) \|.*\| ([^|]+) \|$", (ROOT / "docs" / "signals.md").read_text(), re.MULTILINE)

    assert len(rows) == 15
    for _, told in rows:
        for page, numbers in re.findall(r"([a-z][a-z ]*?) ((?:\d+(?: and | to )?)+)", told):
            for number in re.findall(r"\d+", numbers):
                assert PAGES[pages.get(page, f"slipway-{page}")].panel(int(number))
