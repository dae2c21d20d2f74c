"""The generated test of drift passes, and would find a wrong rule."""

import re
from pathlib import Path

import pytest
from slo_files import AVAILABILITY, promtool, read

from slipway_signals.slo.compile import parts_of, render_part
from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.series import Known

pytestmark = [pytest.mark.needs("promtool"), pytest.mark.slow]

ALERTS = ("PredictionDrift", "FeatureDrift", "FeatureDefects", "ExpectedAccuracyLow", "AccuracyLow")
LIMITS = {">= 0.05 and": ">= 0.04 and", ">= 0.1 and": ">= 0.08 and", "> 0.01\n": "> 0.005\n", " - 0.05\n": " - 0.04\n"}
EVIDENCE = {">= 500": ">= 440", ">= 100": ">= 40"}
WAITS = {"for: 15m": "for: 1h", "for: 1h": "for: 2h", "for: 3h": "for: 2h"}


def files(folder: Path) -> tuple[Path, Path]:
    """The rules of churn's drift and their test, as they are generated."""
    (part,) = (part for part in parts_of(read(AVAILABILITY), Timing(), Known()) if part.name == "churn.drift")
    for name, text in render_part(part, with_tests=True).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "rules" / "churn.drift.yaml", folder / "tests" / "churn.drift.yaml"


@pytest.mark.parametrize("wrong", [LIMITS, EVIDENCE, WAITS], ids=["limits", "evidence", "waits"])
def test_a_wrong_rule_is_found_in_every_alert(wrong: dict[str, str], tmp_path: Path) -> None:
    """The generated tests themselves are run by `test_signals_slo_alerts`."""
    rules, test = files(tmp_path)
    text = re.sub("|".join(map(re.escape, wrong)), lambda found: wrong[found[0]], rules.read_text())
    rules.write_text(text)

    run = promtool("test", "rules", str(test))

    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert [alert for alert in ALERTS if f'alertname=\\"Slipway{alert}\\"' not in said] == []
