"""Reading dashboards: values go into queries safely, and what is no dashboard is refused with a reason."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slo_files import ROOT

from slipway_bundle.errors import FileError
from slipway_signals.dashboards.reading import DashboardError, legend_text, load_dashboard, load_dashboards, substitute
from slipway_signals.slo.selectors import parse_selector

ONCALL = ROOT / "observability" / "dashboards" / "slipway-oncall.json"


def put(promql: str, values: Mapping[str, Sequence[str]] | None = None, interval_s: float = 15) -> str:
    """With the usual lengths of time."""
    return substitute(promql, values or {}, interval_s=interval_s, range_s=3_600, scrape_s=15)


@pytest.mark.parametrize(
    ("promql", "expected"),
    [
        ('up{service="$service"}', 'up{service="churn"}'),
        ('up{service="${service}"}', 'up{service="churn"}'),
        ('up{model=~"$model"}', 'up{model=~"(detect|recognise)"}'),
        ('up{model!~"${model:regex}"}', 'up{model!~"(detect|recognise)"}'),
        ('up{feature=~"$feature"}', 'up{feature=~".*"}'),
        ('up{service="churn",model=~"x$service"}', 'up{service="churn",model=~"xchurn"}'),
    ],
)
def test_a_variable_becomes_what_was_chosen(promql: str, expected: str) -> None:
    values = {"service": ["churn"], "model": ["detect", "recognise"], "feature": []}

    assert put(promql, values) == expected


def test_a_value_is_escaped_for_where_it_stands() -> None:
    values = {"route": ["/v2/models/{name}"]}

    assert put('x{route="$route"}', values) == 'x{route="/v2/models/{name}"}'
    assert put('x{route=~"$route"}', values) == r'x{route=~"/v2/models/\\{name\\}"}'


@given(st.text(), st.sampled_from(["=", "=~", "!=", "!~"]))
def test_no_value_can_end_the_string_it_stands_in(hostile: str, operator: str) -> None:
    """A value comes out of an address: whatever it is, it stays one value of one label."""
    promql = put(f'up{{service{operator}"$service",job="slipway"}}', {"service": [hostile]})

    found = parse_selector(promql)

    assert found.metric == "up"
    assert [matcher.label for matcher in found.matchers] == ["service", "job"]
    assert found.matchers[0].accepts(hostile) is (operator in {"=", "=~"})


def test_what_label_replace_has_found_is_no_variable() -> None:
    promql = 'label_replace(up{service="$service"}, "a", "$1-$2", "b", "(.)(.)")'

    assert put(promql, {"service": ["churn"]}) == promql.replace("$service", "churn")


def test_a_rate_looks_at_four_scrapes_at_least() -> None:
    assert put("rate(x[$__rate_interval])") == "rate(x[60s])"
    assert put("rate(x[$__rate_interval])", interval_s=300) == "rate(x[315s])"
    assert put("rate(x[$__range:$__interval])") == "rate(x[3600s:15s])"
    assert substitute("x[$__interval]", {}, interval_s=0.5, range_s=60, scrape_s=0.3) == "x[500ms]"


@pytest.mark.parametrize(
    ("promql", "values", "problem"),
    [
        ('up{service="$servce"}', {"service": ["churn"]}, "no value for $servce"),
        ('up{model="$model"}', {"model": ["a", "b"]}, "needs one value, got 2"),
        ('up{model="$model"}', {"model": []}, "needs one value, got 0"),
    ],
)
def test_a_query_without_its_value_is_refused(promql: str, values: Mapping[str, Sequence[str]], problem: str) -> None:
    with pytest.raises(DashboardError) as refused:
        put(promql, values)

    assert problem in refused.value.message
    assert promql in refused.value.message


def test_a_legend_is_made_of_labels() -> None:
    labels = {"http_route": "/predict", "le": "0.1"}

    assert legend_text("{{http_route}} p95", labels) == "/predict p95"
    assert legend_text("{{ http_route }} {{track}}", labels) == "/predict"


def test_what_grafana_saved_again_is_read_the_same(tmp_path: Path) -> None:
    """Grafana adds fields of its own, and writes the query of a variable as an object."""
    file = json.loads(ONCALL.read_text())
    file["iteration"], file["panels"][0]["pluginVersion"], file["time"] = 3, "11.2.0", {"from": "now-6h", "to": "now"}
    file["templating"]["list"][1]["query"] = {"query": file["templating"]["list"][1]["query"], "refId": "StandardQuery"}
    again = tmp_path / ONCALL.name
    again.write_text(json.dumps(file))

    before, after = load_dashboard(ONCALL), load_dashboard(again)

    assert after.panels == before.panels
    assert after.variables == before.variables
    assert (before.range_s, after.range_s) == (3_600, 21_600)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda file: file | {"uid": "other"}, "`uid` is 'other', expected the file's stem 'slipway-oncall'"),
        (lambda file: file | {"panels": [{**file["panels"][0], "type": "gauge"}]}, "panel 1 is a 'gauge'"),
        (lambda file: file | {"panels": 3}, "$.panels"),
        (lambda file: [file], "is no dashboard"),
    ],
)
def test_what_is_no_dashboard_is_refused_with_a_reason(tmp_path: Path, change: object, problem: str) -> None:
    assert callable(change)
    path = tmp_path / ONCALL.name
    path.write_text(json.dumps(change(json.loads(ONCALL.read_text()))))

    with pytest.raises(DashboardError) as refused:
        load_dashboards(tmp_path)

    assert problem in refused.value.message
    assert ONCALL.name in refused.value.message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no folder with dashboards"):
        load_dashboards(tmp_path / "none")


def test_a_panel_is_found_by_its_number() -> None:
    page = load_dashboard(ONCALL)

    assert page.panel(2).title == "Budget left"
    with pytest.raises(DashboardError, match="has no panel 99, expected one of 1, 2, 3"):
        page.panel(99)
