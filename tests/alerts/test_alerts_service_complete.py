"""No alert is generated that no live test fires, here or in a lab. Part of `make test`: it reads files only."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_alert_is_named_by_a_live_test() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "observability" / "rules").glob("*.yaml"))
    alerts = set(re.findall(r"alert: (Slipway\w+)", rules))
    live = [*Path(__file__).parent.glob("test_alerts_*.py"), *(ROOT / "tests" / "lab").glob("test_lab_*_alerts.py")]
    claimed = {
        name
        for path in live
        if "pytest.mark.e2e" in path.read_text() and path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in re.findall(r"^(Slipway\w+)", node.value)
    }

    assert alerts
    assert alerts - claimed == set()
