"""`slipway slo`: objectives are checked, compiled and explained."""

import shutil
from pathlib import Path

import pytest
from cli_commands import ROOT, Slipway


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the objectives of the two services, and nothing compiled; the place to stand in."""
    for name in ("churn", "documents"):
        folder = tmp_path / "services" / name
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "services" / name / "slo.yaml", folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_compiled_is_what_is_committed(slipway: Slipway, repository: Path) -> None:
    said = slipway("slo", "build")

    assert said.status == 0, said.err
    for line in said.out.splitlines():
        assert (repository / line).read_text() == (ROOT / line).read_text()
    assert slipway("slo", "build", "--check").status == 0


def test_a_changed_objective_is_told_by_check(slipway: Slipway, repository: Path) -> None:
    slipway("slo", "build")
    path = repository / "services" / "churn" / "slo.yaml"
    path.write_text(path.read_text().replace("target: 0.999", "target: 0.995"))

    said = slipway("slo", "build", "--check")

    assert said.status == 1
    assert "observability/rules/churn-availability.yaml" in said.out.splitlines()
    assert "slipway slo build" in said.err
    assert "documents" not in said.out


def test_one_service_is_compiled_alone(slipway: Slipway, repository: Path) -> None:
    slipway("slo", "build", "documents")
    said = slipway("slo", "build", "churn", "--json").document

    assert said["changed"]
    assert all("churn" in Path(name).name for name in said["changed"])
    assert (repository / "observability" / "rules" / "documents-latency.yaml").exists()


def test_an_error_names_file_line_and_column(slipway: Slipway, repository: Path) -> None:
    path = repository / "services" / "churn" / "slo.yaml"
    path.write_text(path.read_text().replace("target: 0.999", "target: 99.9"))

    said = slipway("slo", "build")

    assert said.status == 2
    assert said.err.startswith("error: services/churn/slo.yaml:31:53: $.spec.objectives[0].target is 99.9: expected")
    assert not (repository / "observability").exists()


def test_the_service_must_be_that_of_its_folder(slipway: Slipway, repository: Path) -> None:
    (repository / "services" / "churn").rename(repository / "services" / "fraud")

    said = slipway("slo", "build")

    assert said.status == 2
    assert "spec.service is 'churn', expected the folder's name 'fraud'" in said.err


@pytest.mark.needs("promtool")
def test_a_good_file_is_accepted_by_promtool(slipway: Slipway, repository: Path) -> None:
    said = slipway("slo", "check", "services/churn/slo.yaml")

    assert said.status == 0, said.err
    assert said.out.splitlines() == ["churn-availability", "churn-latency"]


@pytest.mark.needs("promtool")
def test_a_raw_query_that_is_no_promql_is_refused_by_promtool(slipway: Slipway, repository: Path) -> None:
    path = repository / "services" / "churn" / "slo.yaml"
    path.write_text(
        "apiVersion: openslo/v1\nkind: SLO\n"
        "metadata: {name: churn-raw, annotations: {slipway.dev/owner: x}}\n"
        "spec:\n  service: churn\n  budgetingMethod: Occurrences\n"
        "  timeWindow: [{duration: 30d, isRolling: true}]\n"
        "  objectives: [{target: 0.99}]\n"
        "  indicator: {spec: {ratioMetric: {counter: true, rawType: success, raw: {metricSource: "
        "{spec: {query: 'sum(rate(x[5m]) / y'}}}}}}\n"
    )

    said = slipway("slo", "check", str(path))

    assert said.status == 1
    assert "promtool refuses the rules" in said.err


def test_the_table_has_the_minutes_of_the_workbook(slipway: Slipway, repository: Path) -> None:
    said = slipway("slo", "explain", "churn")

    assert said.status == 0
    assert "churn-availability: 0.999 over 30d, 43.2 minutes of budget" in said.out
    told = "page 1h and 5m 14.4 0.0144 0.9 min 8.6 min 17.3 min 43.2 min - 4.9 min 98%"
    row = next(line for line in said.out.splitlines() if "1h and 5m" in line)
    assert row.split() == told.split()


def test_few_requests_take_longer_to_be_sure(slipway: Slipway, repository: Path) -> None:
    many = slipway("slo", "explain", "churn", "--json").document
    few = slipway("slo", "explain", "churn", "--per-minute", "1", "--json").document

    first = [told["slos"][0]["rows"][0]["detection_minutes"][0] for told in (many, few)]
    assert first == [0.9, 3.6]


def test_a_service_without_objectives_is_told(slipway: Slipway, repository: Path) -> None:
    said = slipway("slo", "explain", "fraud")

    assert said.status == 2
    assert "expected one that has an slo.yaml: churn, documents" in said.err
