"""What Locust brings along still works around our open loop: CSV, HTML, interface, workers; and who is killed."""

import contextlib
import csv
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from access_certificates import Authority
from load_processes import RUN_S, Answered, Server, command, inputs, plan_of, run, server, until

from slipway_loadtests.__main__ import LOCUSTFILE
from slipway_signals.gate.load_plan import LoadPlan, encode_plan
from slipway_signals.gate.records import Window, decode_window

pytestmark = pytest.mark.e2e


def sent(windows: list[Window]) -> int:
    return sum(window.arms["stable"].sent for window in windows)


def windows_of(path: Path) -> list[Window]:
    return [decode_window(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def locust(folder: Path, plan: LoadPlan, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Plain Locust with our file, as a person starts it."""
    path = folder / "plan.json"
    path.write_bytes(encode_plan(plan))
    line = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--plan", str(path), *options]
    with (folder / f"locust{len(list(folder.glob('locust*.log')))}.log").open("wb") as said:
        process = subprocess.Popen(line, stdout=said, stderr=said, cwd=folder)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_load_ends_by_itself_when_the_gate_is_killed(tmp_path: Path, workers: int) -> None:
    """kill -9: the gate can clean nothing up, and leaves nothing; stable is not asked for the rest of the plan."""
    (tmp_path / "temporary").mkdir()
    plan = tmp_path / "gate.toml"
    source = inputs(tmp_path)["path"]
    plan.write_text(
        f"identity = 'off'\n[load]\nrate = 50.0\nseconds = 600.0\nworkers = {workers}\n"
        f"[[load.scenarios]]\npayloads = {{source = 'file', path = '{source}'}}\n"
    )
    with server() as stable, server() as candidate:
        line = [sys.executable, "-m", "slipway_cli", "gate", "run", "--plan", str(plan), "--anyway"]
        line += ["--stable", stable.url, "--candidate", candidate.url]
        environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
        gate = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        try:
            until(lambda: len(stable.seen) > 30 or gate.poll() is not None, "30 requests", RUN_S)
            load = psutil.Process(gate.pid).children(recursive=True)
            assert len(load) == (1 if workers == 1 else 1 + workers), gate.communicate()
        finally:
            gate.send_signal(signal.SIGKILL)
            gate.communicate()
        try:
            until(lambda: not any(_lives(one) for one in load), "the end of the load", 5.0)
        finally:
            for one in filter(_lives, load):
                one.kill()
        seen = len(stable.seen)
        threading.Event().wait(0.3)

    assert len(stable.seen) == seen
    assert list((tmp_path / "temporary").iterdir()) == []


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_locusts_own_csv_and_html_have_every_request_of_the_windows(tmp_path: Path, workers: int) -> None:
    page = tmp_path / "run.html"
    with server(lambda number, _: Answered(status=500 if number % 20 == 0 else 200)) as stable:
        plan = plan_of(tmp_path, {"stable": stable.url}, caps={"stable_failed": 1.0}, workers=workers)
        done = run(plan, tmp_path, "run", "--", "--csv", str(tmp_path / "run"), "--html", str(page))

    with (tmp_path / "run_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    asked = sent(done.windows)
    assert done.status == 0, done.said
    assert asked == len(stable.seen) > 100
    assert (rows["/predict"]["Type"], int(rows["/predict"]["Request Count"])) == ("stable", asked)
    assert int(rows["/predict"]["Failure Count"]) == len(range(0, asked, 20))
    assert "http_500" in (tmp_path / "run_failures.csv").read_text()
    assert 0 < float(rows["/predict"]["95%"]) < 1_000
    assert re.search(rf'"num_requests": {asked}\b', page.read_text())


def test_locusts_interface_starts_a_run_and_shows_its_requests(tmp_path: Path) -> None:
    port, kept = free_port(), tmp_path / "windows.jsonl"
    url = f"http://127.0.0.1:{port}"
    with server() as stable, httpx.Client(base_url=url, trust_env=False, timeout=10) as browser:
        plan = plan_of(tmp_path, {"stable": stable.url}, seconds=3.0)
        web = ("--web-host", "127.0.0.1", "--web-port", str(port), "--windows", str(kept))
        with locust(tmp_path, plan, *web) as process:
            until(lambda: process.poll() is not None or _answers(url), "the interface", RUN_S)
            before = browser.get("/stats/requests").json()
            started = browser.post("/swarm", data={"user_count": 1, "spawn_rate": 1, "host": stable.url}).json()
            told: list[dict[str, Any]] = [before]

            def state() -> str:
                told.append(browser.get("/stats/requests").json())
                return str(told[-1]["state"])

            until(lambda: state() == "running" and bool(told[-1]["stats"][0]["num_requests"]), "a run", RUN_S)
            during = told[-1]
            until(lambda: state() == "stopped", "the end of the plan", RUN_S)
            after, windows = told[-1], windows_of(kept)
            again = browser.post("/swarm", data={"user_count": 1, "spawn_rate": 1, "host": stable.url}).json()
            asked = len(stable.seen)
            until(lambda: len(stable.seen) > asked + 20, "a second run")

    assert (before["state"], started["success"], again["success"]) == ("ready", True, True)
    assert 0 < _row(during)["num_requests"] <= asked
    assert _row(after)["num_requests"] == sent(windows) == asked
    assert _row(after)["method"] == "stable"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _row(stats: dict[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = stats["stats"]
    return next(row for row in rows if row["name"] == "/predict")


def test_a_recorded_trace_is_sent_when_it_was_recorded(tmp_path: Path) -> None:
    """Bursts, a gap, and twice the speed: what a Poisson process never does."""
    recorded = [100.0 + burst + place * 0.02 for burst in (0.0, 1.0, 3.0) for place in range(10)]
    (tmp_path / "trace.csv").write_text("# seconds, user\n" + "".join(f"{at},someone\n" for at in recorded))
    came: list[float] = []

    def note(_: int, __: bytes) -> Answered:
        came.append(time.monotonic())
        return Answered()

    with server(note) as stable:
        shape = {"type": "replay", "path": str(tmp_path / "trace.csv"), "speed": 2.0}
        done = run(plan_of(tmp_path, {"stable": stable.url}, seconds=3.0, shape=shape), tmp_path)

    wanted = [(at - recorded[0]) / 2.0 for at in recorded]
    late = sorted(at - came[0] - due for at, due in zip(sorted(came), wanted, strict=True))
    assert done.status == 0, done.said
    assert sent(done.windows) == len(came) == len(recorded)
    assert -0.05 < late[len(late) // 2] < 0.1
    assert [window.arms["stable"].sent for window in done.windows] == [10, 10, 0, 10]


def test_workers_that_were_started_by_hand_are_one_run(tmp_path: Path) -> None:
    port, kept = str(free_port()), tmp_path / "windows.jsonl"
    master = ["--master", "--headless", "--expect-workers", "2", "-u", "2", "-r", "100", "--windows", str(kept)]
    master += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", port]
    source = inputs(tmp_path, *({"x": number} for number in range(300)))
    with server() as stable:
        plan = plan_of(tmp_path, {"stable": stable.url}, scenarios=[{"payloads": source}], seconds=2.0)
        with locust(tmp_path, plan, *master) as leads, contextlib.ExitStack() as others:
            hands = [others.enter_context(locust(tmp_path, plan, *worker)) for _ in range(2)]
            status = leads.wait(RUN_S)
            ended = [one.wait(20) for one in hands]

    windows = windows_of(kept)
    bodies = [json.loads(body)["x"] for _, _, body in stable.seen]
    assert (status, ended) == (0, [0, 0]), (tmp_path / "locust0.log").read_text()
    assert [window.index for window in windows] == [0, 1, 2, 3]
    assert sent(windows) == len(bodies) > 100
    assert sorted(bodies) == list(range(len(bodies)))  # no input twice, none left out
    assert abs(windows[0].generator.clock_offset_s or 1.0) < 0.5


def test_a_server_with_tls_is_asked_and_a_strange_certificate_is_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key, _ = authority.issue("churn")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server(tls=context) as stable:
        plan = plan_of(tmp_path, {"stable": stable.url}, caps={"stable_failed": 1.0})
        line = command(plan, tmp_path, "run")
        trusting = _run(line, stable, SSL_CERT_FILE=str(authority.path))
        served = len(stable.seen)
        strange = _run(line, stable)

    counts = [window.arms["stable"] for window in trusting]
    assert stable.url.startswith("https://")
    assert sum(one.succeeded for one in counts) == sent(trusting) == served > 100
    assert [one.failed for one in counts] == [{}] * len(counts)
    failed = [window.arms["stable"].failed for window in strange]
    assert {reason for one in failed for reason in one} == {"connection"}
    assert len(stable.seen) == served


def _run(line: list[str], asked: Server, **environment: str) -> list[Window]:
    done = subprocess.run(line, capture_output=True, timeout=RUN_S, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return [decode_window(one) for one in done.stdout.splitlines()]
