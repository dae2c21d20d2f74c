"""Processes die, hang, grow and are poisoned under load: what clients notice. Part of `make soak`."""

import os
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest
from chaos_load import ROW, SOAK_S, Load, Report, eventually, pause
from pool_folders import write_obedient
from serve_process import Served, serving

pytestmark = pytest.mark.soak

POOL = "[runtime.models.obedient]\nmax_rows = 32\npool = { replicas = 2, hang_ms = 500, memory_mb = 700 }\n"
EVERY_S = 5.0
SLOW, EAT, DIE = 4.0, 5.0, 1.0


def children(served: Served, module: str) -> list[psutil.Process]:
    alive = [p for p in psutil.Process(served.process.pid).children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if f"slipway_serve.{module}" in p.cmdline()]


def ended(name: str, load: Load) -> Report:
    report = load.stop()
    print(report.line(name))
    assert report.balances
    assert report.answered > 100
    return report


def test_runners_are_killed_every_few_seconds(tmp_path: Path) -> None:
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store", flags={"workers": 2}) as served:
        load = Load(served.url, action=SLOW)
        ends, killed = time.monotonic() + SOAK_S, 0
        while time.monotonic() < ends:
            pause(EVERY_S)
            os.kill(children(served, "runner")[killed % 2].pid, signal.SIGKILL)
            killed += 1
            eventually(lambda: len(children(served, "runner")) == 2)
        report = ended(f"kill -9 of {killed} runners", load)

    assert report.failed == 0


def test_the_dispatcher_is_killed_every_few_seconds(tmp_path: Path) -> None:
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store", flags={"workers": 2}) as served:
        load = Load(served.url, action=SLOW)
        ends, killed = time.monotonic() + SOAK_S, 0
        while time.monotonic() < ends:
            pause(EVERY_S)
            eventually(lambda: len(children(served, "dispatch")) == 1)
            os.kill(children(served, "dispatch")[0].pid, signal.SIGKILL)
            killed += 1
        report = ended(f"kill -9 of {killed} dispatchers", load)

    assert report.failed == 0


def test_api_workers_are_killed(tmp_path: Path) -> None:
    """A killed API worker takes its own sockets with it: at most one request of each client each time."""
    clients = 16
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store", flags={"workers": 2}) as served:
        load = Load(served.url, clients=clients, action=SLOW)
        ends, killed = time.monotonic() + SOAK_S, 0
        while time.monotonic() < ends:
            pause(EVERY_S)
            eventually(lambda: len(children(served, "worker")) == 2)
            os.kill(children(served, "worker")[0].pid, signal.SIGKILL)
            killed += 1
        report = ended(f"kill -9 of {killed} API workers", load)

    assert report.failed == report.statuses[0] <= clients * killed


@pytest.mark.parametrize("module", ["runner", "worker", "dispatch"])
def test_the_supervisor_is_killed_and_nobody_is_left(tmp_path: Path, module: str) -> None:
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store", flags={"workers": 2}) as served:
        load = Load(served.url, action=SLOW)
        pause(2.0)
        everybody = psutil.Process(served.process.pid).children(recursive=True)
        children(served, module)[0].kill()  # in the middle of a restart, too
        served.process.kill()
        _, alive = psutil.wait_procs(everybody, timeout=60)
        load.stop()

    assert not alive


def test_runners_hang(tmp_path: Path) -> None:
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store") as served:
        load = Load(served.url, action=SLOW)
        pause(EVERY_S)
        ends, hung = time.monotonic() + SOAK_S, 0
        while time.monotonic() < ends:
            victim = children(served, "runner")[0]
            victim.suspend()
            hung += 1
            eventually(lambda: victim.pid not in {process.pid for process in children(served, "runner")})  # noqa: B023
            eventually(lambda: len(children(served, "runner")) == 2)
            pause(EVERY_S)
        report = ended(f"kill -STOP of {hung} runners", load)

    assert report.failed == 0


def test_runners_outgrow_their_ceiling(tmp_path: Path) -> None:
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store") as served:
        first = {process.pid for process in children(served, "runner")}
        load = Load(served.url)
        with httpx.Client(base_url=served.url, timeout=60) as hungry:
            ends = time.monotonic() + SOAK_S
            while time.monotonic() < ends:
                hungry.post("/predict", json={**ROW, "action": EAT}, headers={"x-slipway-timeout-ms": "30000"})
                pause(0.5)
        eventually(lambda: len(children(served, "runner")) == 2)
        report = ended("memory of runners exhausted", load)
        last = {process.pid for process in children(served, "runner")}

    assert first.isdisjoint(last)
    assert report.failed == 0


def test_poison_comes_again_and_again(tmp_path: Path) -> None:
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store") as served:
        load = Load(served.url, action=SLOW)
        codes: list[str] = []
        with httpx.Client(base_url=served.url, timeout=60) as poisoner:
            ends = time.monotonic() + SOAK_S
            while time.monotonic() < ends:
                poison = {**ROW, "action": DIE, "tenure_days": float(len(codes) // 4)}
                reply = poisoner.post("/predict", json=poison, headers={"x-slipway-timeout-ms": "30000"})
                codes.append(reply.json()["code"])
                pause(0.5)
        report = ended(f"{len(codes)} poison payloads", load)

    assert set(codes) == {"quarantined"}
    assert report.failed == 0
