import re
from pathlib import Path

import pytest
from slo_files import ROOT, promtool
from test_signals_slo_files import every_alert

from slipway_signals.drift.alerts import drift_alerts
from slipway_signals.drift.promql import Thresholds
from slipway_signals.slo.promised_watches import promised_watches
from slipway_signals.slo.promrules import Timing, render_yaml

PAGES = sorted((ROOT / "runbooks").glob("Slipway*.md"))
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify"]
LONGEST = 70


def defined() -> dict[str, str]:
    """Severity of every alert, of those that wait for their metrics, too."""
    waiting = [watch.alert for watch in promised_watches("churn", "x", Timing())]
    drift = drift_alerts("churn", "x", Timing(), Thresholds())
    return {alert.name: alert.labels["severity"] for alert in (*waiting, *drift, *every_alert())}


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.stem for page in PAGES} == set(defined())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_read_at_three_in_the_morning(page: Path) -> None:
    text = page.read_text()

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert len(text.splitlines()) <= LONGEST
    assert f"alert: {page.stem}" in text
    assert re.search(rf"^severity: {defined()[page.stem]}\b", text, re.MULTILINE)
    assert "```promql" in text.partition("## Diagnosis")[2].partition("## Mitigation")[0]


@pytest.mark.needs("promtool")
def test_the_first_query_of_every_page_is_one(tmp_path: Path) -> None:
    rules = []
    for page in PAGES:
        found = re.search(r"```promql\n(.*?)\n```", page.read_text(), re.DOTALL)
        assert found is not None
        query = found[1].replace("$service", "churn").replace("$slo", "churn-availability")
        rules.append({"record": f"page:{page.stem}", "expr": query})
    path = tmp_path / "pages.yaml"
    path.write_text(render_yaml({"groups": [{"name": "pages", "rules": rules}]}, source="runbooks"))

    run = promtool("check", "rules", str(path))

    assert run.returncode == 0, run.stderr
