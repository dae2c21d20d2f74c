"""Runner pools end to end: real dispatchers, runners and API workers, and what clients notice when some of them die."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pool_folders import write_obedient
from serve_process import Served, serving

from slipway_bundle import load_service, open_folder
from slipway_serve import local
from slipway_serve.engine import service_of

POOL = """
[runtime.models.obedient]
max_rows = 32
pool = { replicas = %d, hang_ms = 400 }
"""
ROW = {"tenure_days": 4.0, "mean_charge": 1.0, "action": 0.0}
PATIENT = {"x-slipway-timeout-ms": "20000"}


def children(served: Served, module: str) -> list[psutil.Process]:
    alive = [p for p in psutil.Process(served.process.pid).children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if f"slipway_serve.{module}" in p.cmdline()]


def eventually(claim: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Ask again and again until it is true."""
    ends = time.monotonic() + timeout_s
    waiter = threading.Event()
    while not claim():
        assert time.monotonic() < ends, "it never became true"
        waiter.wait(0.02)


class Traffic:
    """Clients that ask one after another until told to stop, and count what they got."""

    def __init__(self, served: Served, clients: int = 8, action: float = 0.0) -> None:
        self.statuses: Counter[int] = Counter()
        self.answers: Counter[float] = Counter()
        self._stop = threading.Event()
        self._body = {**ROW, "action": action}
        self._served = served
        self._pool = ThreadPoolExecutor(clients)
        self._running = [self._pool.submit(self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._served.url, timeout=30, headers=PATIENT) as client:
            while not self._stop.is_set():
                reply = client.post("/predict", json=self._body)
                self.statuses[reply.status_code] += 1
                if reply.status_code == 200:
                    self.answers[reply.json()["margin"]] += 1

    @property
    def total(self) -> int:
        return sum(self.statuses.values())

    def wait_for(self, more: int) -> None:
        """Until so many more requests have ended."""
        enough = self.total + more
        eventually(lambda: self.total > enough)

    def stop(self) -> Counter[int]:
        self._stop.set()
        for running in self._running:
            running.result(60)
        return self.statuses


def test_answers_are_the_same_in_process_and_in_a_pool(minimal: Path) -> None:
    folder = minimal
    service = service_of(load_service(open_folder(folder)))
    model = service.models["minimal"]
    rows = [model.row(tenure_days=float(days), mean_charge=charge) for days in (3, 900, 3000) for charge in (1.5, None)]

    with local(service, folder=folder) as here, local(service, folder=folder, lane="pool") as pool:
        found = [app.map(model, rows) for app in (here, pool)]
        single = [[app.call(model, row) for row in rows] for app in (here, pool)]

    assert found[0] == found[1] == single[0] == single[1]
    assert len({row.probability for row in found[0]}) > 2


def test_a_service_with_its_own_compute_answers_the_same_in_a_pool(full: Path) -> None:
    folder = full
    service = service_of(load_service(open_folder(folder)))
    predict: Any = service.endpoints["/predict"]
    account = predict.takes("c1", opened=0.0, now=86_400.0 * 900, charges=(10.0, 20.0))

    with local(service, folder=folder) as here, local(service, folder=folder, lane="pool") as pool:
        assert here.call(predict, account) == pool.call(predict, account)


def test_one_queue_serves_all_api_workers_and_all_replicas(tmp_path: Path) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 2)

    with serving(folder, store=tmp_path / "store", flags={"workers": 2}) as served:
        runners = {process.pid for process in children(served, "runner")}
        assert len(runners) == 2
        assert len(children(served, "worker")) == 2
        pids: Counter[int] = Counter()
        mates: Counter[int] = Counter()

        def ask(_: int) -> None:
            with served.client() as client:
                for _ in range(20):
                    reply = client.post("/predict", json={**ROW, "action": 4.0}).json()
                    pids[reply["pid"]] += 1
                    mates[reply["mates"]] += 1

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(16)))
        metrics = served.metrics()

    assert set(pids) == runners, "every replica works"
    assert max(mates) >= 4, "requests share batches"
    assert 'slipway_pool_replicas{pool="obedient/obedient",state="active"} 2.0' in metrics
    assert 'slipway_inferences_total{model="obedient",result="ok"}' in metrics


def test_a_killed_runner_loses_nothing(tmp_path: Path) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 2)

    with serving(folder, store=tmp_path / "store") as served:
        traffic = Traffic(served, action=4.0)
        for _ in range(3):
            traffic.wait_for(20)
            eventually(lambda: len(children(served, "runner")) == 2)
            os.kill(children(served, "runner")[0].pid, signal.SIGKILL)
        traffic.wait_for(40)
        statuses = traffic.stop()
        metrics = served.metrics()

    assert set(statuses) == {200}, statuses
    assert 'slipway_pool_replica_losses_total{pool="obedient/obedient",reason="died"} 3.0' in metrics


def test_a_killed_dispatcher_loses_nothing(tmp_path: Path) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 2)

    with serving(folder, store=tmp_path / "store", flags={"workers": 2}) as served:
        traffic = Traffic(served)
        eventually(lambda: traffic.total > 50)
        (dispatcher,) = children(served, "dispatch")
        os.kill(dispatcher.pid, signal.SIGKILL)
        traffic.wait_for(100)
        statuses = traffic.stop()

    assert set(statuses) == {200}, statuses


def test_a_killed_api_worker_loses_its_own_connections_only(tmp_path: Path) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 1)

    with serving(folder, store=tmp_path / "store", flags={"workers": 2}) as served:
        with served.client() as client:
            assert client.post("/predict", json=ROW).status_code == 200
        os.kill(children(served, "worker")[0].pid, signal.SIGKILL)
        eventually(lambda: len(children(served, "worker")) == 2)
        traffic = Traffic(served, clients=4)
        eventually(lambda: traffic.total > 50)
        statuses = traffic.stop()

    assert set(statuses) == {200}, statuses


def test_a_poison_payload_is_quarantined_and_its_mates_are_answered(tmp_path: Path) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 2)

    with serving(folder, store=tmp_path / "store") as served:
        traffic = Traffic(served, action=4.0)
        eventually(lambda: traffic.total > 20)
        poison = {**ROW, "action": 1.0}
        with served.client() as client:
            first = client.post("/predict", json=poison, headers=PATIENT)
            eventually(lambda: len(children(served, "runner")) == 2)
            runners = {process.pid for process in children(served, "runner")}
            again = client.post("/predict", json=poison, headers=PATIENT)
        statuses = traffic.stop()
        still = {process.pid for process in children(served, "runner")}

    assert first.status_code == again.status_code == 500
    assert first.json()["code"] == again.json()["code"] == "quarantined"
    assert runners == still, "its equal reached no runner"
    assert set(statuses) == {200}, statuses


def test_a_hung_runner_is_found_and_its_requests_are_answered_by_another(tmp_path: Path) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 2)

    with serving(folder, store=tmp_path / "store") as served:
        traffic = Traffic(served, action=4.0)
        eventually(lambda: traffic.total > 100)
        hung = children(served, "runner")[0]
        hung.suspend()
        eventually(lambda: not hung.is_running() or hung.status() == psutil.STATUS_ZOMBIE)
        traffic.wait_for(40)
        statuses = traffic.stop()
        metrics = served.metrics()

    assert set(statuses) == {200}, statuses
    assert 'slipway_pool_replica_losses_total{pool="obedient/obedient",reason="hung"} 1.0' in metrics


def test_an_error_of_the_model_fails_its_row_only(tmp_path: Path) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 1)

    with serving(folder, store=tmp_path / "store") as served:
        traffic = Traffic(served, action=4.0)
        eventually(lambda: traffic.total > 20)
        with served.client() as client:
            bad = client.post("/predict", json={**ROW, "action": 3.0}, headers=PATIENT)
        statuses = traffic.stop()

    assert (bad.status_code, bad.json()["code"]) == (500, "model_failed")
    assert set(statuses) == {200}, statuses


def test_a_replica_beyond_its_memory_ceiling_is_replaced(tmp_path: Path) -> None:
    runtime = "[runtime.models.obedient]\npool = { replicas = 1, memory_mb = 500 }\n"
    folder = write_obedient(tmp_path / "obedient", runtime)

    with serving(folder, store=tmp_path / "store") as served:
        (before,) = children(served, "runner")
        traffic = Traffic(served, clients=2)
        with served.client() as client:
            for _ in range(4):
                client.post("/predict", json={**ROW, "action": 5.0}, headers=PATIENT)
        eventually(lambda: before.pid not in {process.pid for process in children(served, "runner")})
        eventually(lambda: len(children(served, "runner")) == 1)
        statuses = traffic.stop()

    assert set(statuses) == {200}, statuses


def test_a_standby_takes_the_place_of_a_dead_replica_at_once(tmp_path: Path) -> None:
    runtime = "[runtime.models.obedient]\npool = { replicas = 1, standby = 1 }\n"
    folder = write_obedient(tmp_path / "obedient", runtime)

    with serving(folder, store=tmp_path / "store") as served, served.client() as client:
        eventually(lambda: 'state="standby"} 1.0' in served.metrics())
        active = client.post("/predict", json=ROW).json()["pid"]
        others = {process.pid for process in children(served, "runner")} - {active}
        os.kill(active, signal.SIGKILL)
        promoted = client.post("/predict", json=ROW, headers=PATIENT).json()["pid"]

    assert promoted in others


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_supervisor_leaves_nobody(tmp_path: Path, number: signal.Signals) -> None:
    folder = write_obedient(tmp_path / "obedient", POOL % 2)
    with serving(folder, store=tmp_path / "store", flags={"workers": 2}) as served:
        everybody = psutil.Process(served.process.pid).children(recursive=True)
        assert len(everybody) == 5

        served.process.send_signal(number)

        gone, alive = psutil.wait_procs(everybody, timeout=30)
    assert not alive
    assert len(gone) == 5


def test_a_swap_fails_no_request_and_answers_change_once(tmp_path: Path) -> None:
    old = write_obedient(tmp_path / "obedient", POOL % 1)
    new = write_obedient(tmp_path / "new" / "obedient", POOL % 2, version=1)

    with serving(old, store=tmp_path / "store", flags={"workers": 2}) as served:
        traffic = Traffic(served)
        eventually(lambda: traffic.total > 20)
        begun = httpx.post(
            f"{served.admin}/swap", json={"target": str(new)}, headers={"x-slipway-admin": "1"}, timeout=30
        )
        assert begun.status_code == 202, begun.text
        eventually(lambda: rollout(served)["outcome"] == "done", 60)
        before = traffic.answers[9.0]
        eventually(lambda: traffic.answers[9.0] > before + 20)
        statuses = traffic.stop()
        with served.client() as client:
            after = client.post("/predict", json=ROW).json()["margin"]

    assert set(statuses) == {200}, statuses
    assert traffic.answers[8.0] > 0
    assert after == 9.0


def test_a_swap_to_a_broken_service_is_undone(tmp_path: Path) -> None:
    old = write_obedient(tmp_path / "obedient", POOL % 1)
    new = write_obedient(tmp_path / "new" / "obedient", POOL % 1, version=1)
    (new / "src" / "obedient_service.py").write_text("raise RuntimeError('broken on purpose')\n")

    with serving(old, store=tmp_path / "store") as served:
        traffic = Traffic(served, clients=2)
        httpx.post(f"{served.admin}/swap", json={"target": str(new)}, headers={"x-slipway-admin": "1"}, timeout=30)
        eventually(lambda: rollout(served)["outcome"] == "failed", 60)
        message = str(rollout(served)["message"])
        traffic.wait_for(20)
        statuses = traffic.stop()

    assert "broken on purpose" in message
    assert set(statuses) == {200}, statuses
    assert set(traffic.answers) == {8.0}


def rollout(served: Served) -> dict[str, object]:
    page: dict[str, object] = json.loads(httpx.get(f"{served.admin}/debug/rollout", timeout=10).content)
    return page
