"""What a server tells of itself beside its requests: log lines that each kind of process lost, a clock that is doubted;
and, after a swap, what the new service says it costs, and where its labels are.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec
import psutil
from capture_fakes import DAY_S, Capturing
from serve_folders import write_minimal
from serve_process import Served, serving
from test_serve_pools import eventually, rollout
from test_serve_watching import ROW, counted, shown

from slipway_serve.options import CompactorOptions
from slipway_signals.capture import CaptureConfig
from slipway_signals.capture.compact import compact
from slipway_signals.collector import MergedCollector

LOST = "slipway_telemetry_dropped_total"
SILENT = """
[runtime.logging]
lines_per_s = 0.001

[runtime.models.silent]
pool = {{ replicas = 1 }}

[runtime.capture]
enabled = true
folder = "{folder}"
compact_s = 0.2
"""
"""Not one line may be written: each that would have been is lost."""
TALKING = '''
import logging

from slipway_serve import Arrays, Weights


@predict.compute
def talk(weights: Weights, batch: Arrays) -> Arrays:
    """Says something for each batch."""
    logging.getLogger("silent").warning("a batch")
    return weights(batch)
'''
SWAPPED = """
[runtime.cost]
usd_per_hour = {usd}

[runtime.capture]
enabled = {is_captured}
folder = "{folder}"
"""
LABELS = """# TYPE slipway_prediction_realized_total counter
slipway_prediction_realized_total{{model="priced",outcome="tp"}} {n}
"""


def lost(served: Served, process: str) -> float:
    """Lines that processes of this kind did not write; -1 when nothing is known of them."""
    return shown(served, LOST).get(frozenset({("signal", "logs"), ("process", process)}), -1.0)


def test_lines_that_any_process_did_not_write_are_counted_by_its_kind(tmp_path: Path) -> None:
    folder = write_minimal(tmp_path / "silent", "silent", SILENT.format(folder=tmp_path / "captured"))
    source = folder / "src" / "silent_service.py"
    source.write_text(source.read_text() + TALKING)
    with serving(folder, store=tmp_path / "store") as served:
        before = {kind: lost(served, kind) for kind in ("api", "runner", "dispatcher")}
        with served.client() as client:
            assert client.post("/predict", json=ROW).status_code == 200
        eventually(lambda: lost(served, "runner") > 0)
        eventually(lambda: lost(served, "compactor") > 0)
        for child in psutil.Process(served.process.pid).children():
            if "slipway_serve.runner" in child.cmdline():
                child.send_signal(signal.SIGKILL)
        eventually(lambda: lost(served, "dispatcher") > 0)
        said = served.said()

    assert before["api"] == before["dispatcher"] == 0.0, "they are there before the first is lost"
    assert before["runner"] >= 0.0
    assert "a batch" not in said


def priced(folder: Path, captured: Path, usd: float, *, is_captured: bool) -> Path:
    """A service with a price, and with labels of what it captured."""
    captured.mkdir(mode=0o700)
    (captured / "labels.prom").write_text(LABELS.format(n=usd))
    settings = SWAPPED.format(usd=usd, folder=captured, is_captured=json.dumps(is_captured))
    return write_minimal(folder, "priced", settings)


def test_after_a_swap_cost_and_labels_are_those_of_what_serves(tmp_path: Path) -> None:
    first = priced(tmp_path / "1" / "priced", tmp_path / "captured-1", 1.5, is_captured=True)
    second = priced(tmp_path / "2" / "priced", tmp_path / "captured-2", 2.5, is_captured=True)
    third = priced(tmp_path / "3" / "priced", tmp_path / "captured-3", 0.0, is_captured=False)

    with serving(first, store=tmp_path / "store") as served:
        assert counted(served, "slipway_cost_usd_per_hour", 1.5) == 1.5
        assert counted(served, "slipway_prediction_realized_total", 1.5, outcome="tp") == 1.5
        swapped(served, second)
        assert counted(served, "slipway_cost_usd_per_hour", 2.5) == 2.5
        assert counted(served, "slipway_prediction_realized_total", 2.5, outcome="tp") == 2.5
        swapped(served, third)
        assert counted(served, "slipway_cost_usd_per_hour", 0.0) == 0.0
        assert shown(served, "slipway_prediction_realized_total") == {}


def swapped(served: Served, folder: Path) -> None:
    """Swap to another folder, and wait until it serves."""
    asked = httpx.post(
        f"{served.admin}/swap", json={"target": str(folder)}, headers={"x-slipway-admin": "1"}, timeout=30
    )
    assert asked.status_code == 202, asked.text
    generation = asked.json()["generation"]
    eventually(lambda: rollout(served)["generation"] == generation and rollout(served)["outcome"] == "done", 60.0)


def test_a_compactor_that_doubts_its_clock_says_so_and_counts(tmp_path: Path) -> None:
    """A real one: its folder was compacted last two months ago, and what is in it would be too old."""
    then = time.time() - 60 * DAY_S
    capturing = Capturing(tmp_path / "captured")
    capturing.offer("r1", now=then)
    capturing.close()
    compact(capturing.folder, capturing.config, then)
    told = CompactorOptions(capture=CaptureConfig(enabled=True, folder=str(capturing.folder), compact_s=0.05))
    collector = MergedCollector()
    fd = collector.open("compactor")

    command = [sys.executable, "-m", "slipway_serve.compactor", msgspec.json.encode(told).decode()]
    environment = os.environ | {"SLIPWAY_SLOT_FD": str(fd)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, pass_fds=(fd,)) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "kept" in line)
        process.terminate()
    os.close(fd)

    assert json.loads(line)["level"] == "error"
    page = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    assert page["slipway_capture_clock_doubted_total"] >= 1
    assert len(list((capturing.folder / "data").rglob("*.parquet"))) == 1
