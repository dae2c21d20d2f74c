"""The page of signals names what is there: metrics that are defined, and every alert that has a runbook."""

import re
from pathlib import Path

from slipway_signals import metrics

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "signals.md").read_text()


def test_every_metric_on_the_page_is_defined() -> None:
    named = set(re.findall(r"`((?:slipway|http_server)_[a-z_]+)(?=[`{])", PAGE))
    known = {metric.name for metric in metrics.ALL}
    known |= {f"{metric.name}_count" for metric in metrics.ALL if metric.kind == "histogram"}

    assert len(named) > 20
    assert named - known == set()


def test_every_alert_is_on_the_page_and_on_no_page_without_a_runbook() -> None:
    assert set(re.findall(r"`(Slipway\w+)`", PAGE)) == {page.stem for page in (ROOT / "runbooks").glob("Slipway*.md")}
