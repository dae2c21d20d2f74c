"""The demo where nothing can watch: no Prometheus, no Alertmanager. It says so in one line and shows all the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
UNWATCHED = """
import runpy, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import monitoring
monitoring.UNPACKED = Path("/nowhere")
runpy.run_path(sys.argv[1] + "/demo.py", run_name="__main__")
"""
"""The demo also looks where `scripts/system-packages.sh` unpacks."""


def test_without_prometheus_a_demo_serves_and_shows_all_the_rest(tmp_path: Path) -> None:
    python = Path(sys.executable)
    variables = {key: value for key, value in os.environ.items() if not key.startswith("SLIPWAY_")}
    variables |= {
        "PATH": str(python.parent),
        "SLIPWAY_HOME": str(tmp_path / "home"),
        "SLIPWAY_DEMO_EXIT": "1",
        "SLIPWAY_DEMO_GATE": "no",
    }

    done = subprocess.run(
        [python, "-c", UNWATCHED, str(ROOT / "scripts")],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    out = done.stdout
    assert (done.returncode, done.stderr) == (0, ""), out
    assert "no alert is shown: prometheus and alertmanager not found on PATH" in out
    assert "leaves with a probability of 87%" in out
    assert "failed       0" in out
    assert "whether users are hurt" not in out
    assert "What on-call saw" not in out
