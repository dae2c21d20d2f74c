"""Memory of processes and use of devices on the page: read from the system when somebody scrapes."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import generate_latest

from slipway_signals.collector import make_registry
from slipway_signals.processes import DeviceCollector, ProcessCollector


class Reading(NamedTuple):
    name: str
    used_bytes: int
    total_bytes: int
    utilisation: float | None


def page(*collectors: ProcessCollector | DeviceCollector) -> dict[str, float]:
    lines = generate_latest(make_registry(*collectors)).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not tell")
def test_memory_of_a_living_process_is_shown_by_worker() -> None:
    shown = page(ProcessCollector(lambda: {"api-0": os.getpid()}))

    resident = shown['slipway_process_memory_bytes{kind="resident",worker="api-0"}']
    proportional = shown['slipway_process_memory_bytes{kind="proportional",worker="api-0"}']
    assert 0 < proportional <= resident
    assert resident == pytest.approx(int(Path("/proc/self/statm").read_text().split()[1]) * 4096, rel=0.2)


def test_a_process_that_is_gone_leaves_the_others_on_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "7"
    folder.mkdir(parents=True)
    (folder / "smaps_rollup").write_text("00400000-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  2048 kB\nPss:  512 kB\n")

    shown = page(ProcessCollector(lambda: {"api-0": 6, "api-1": 7}, root=tmp_path))

    assert shown == {
        'slipway_process_memory_bytes{kind="resident",worker="api-1"}': 2048 * 1024,
        'slipway_process_memory_bytes{kind="proportional",worker="api-1"}': 512 * 1024,
    }


def test_processor_time_does_not_fall_when_a_worker_is_started_again(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    pids = {"api-0": 7}
    collector = ProcessCollector(lambda: pids, root=tmp_path)
    series = 'slipway_process_cpu_seconds_total{worker="api-0"}'

    def runs(pid: int, user_s: int, system_s: int) -> float:
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stat").write_text(
            f"{pid} (a (strange) name) S 1 1 1 0 -1 4 0 0 0 0 {user_s * ticks} {system_s * ticks} 0"
        )
        return page(collector)[series]

    first = runs(7, 3, 1)
    (tmp_path / "proc" / "7" / "stat").unlink()
    pids["api-0"] = 8
    second = runs(8, 1, 0)
    reborn = runs(8, 0, 0), runs(8, 2, 0)  # another process by the same number

    assert first == 4
    assert second == 5
    assert reborn == (5, 7)


def test_time_in_which_no_processor_was_free_is_shown_and_does_not_fall(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "7"
    folder.mkdir(parents=True)
    (folder / "schedstat").write_text("8000000000 1500000000 42\n")
    pids = {"api-0": 7}
    collector = ProcessCollector(lambda: pids, root=tmp_path)
    series = 'slipway_process_cpu_wait_seconds_total{worker="api-0"}'

    first = page(collector)[series]
    folder.rename(tmp_path / "proc" / "8")
    (tmp_path / "proc" / "8" / "schedstat").write_text("1 500000000 1\n")
    pids["api-0"] = 8

    assert first == 1.5
    assert page(collector)[series] == 2.0


def test_devices_are_shown_with_what_they_tell() -> None:
    readings = [Reading("gpu:0", 3, 10, 0.25), Reading("MIG-1", 4, 5, None)]

    shown = page(DeviceCollector(lambda: readings))

    assert shown == {
        'slipway_device_utilisation_ratio{device="gpu:0"}': 0.25,
        'slipway_device_memory_bytes{device="gpu:0",state="used"}': 3,
        'slipway_device_memory_bytes{device="gpu:0",state="total"}': 10,
        'slipway_device_memory_bytes{device="MIG-1",state="used"}': 4,
        'slipway_device_memory_bytes{device="MIG-1",state="total"}': 5,
    }
