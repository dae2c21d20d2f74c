"""`make demo`: its numbers, its failures, and that nothing is left behind."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest
from cli_commands import ROOT
from demo_folders import remove_leftovers, scratch
from demo_release import production
from demo_report import Batches, batches_of, failures, quantile, traffic_lines
from demo_screen import Teller
from demo_signals import watching
from demo_traffic import EXPECTED, Outcome, Phase, burst_requests, hasty_requests, steady_requests
from monitoring import MonitoringError, eventually, find_programs

from slipway_bundle import Store
from slipway_bundle.referrers import referrers

METRICS = """\
# HELP slipway_inference_batch_size Rows a batch was computed with.
# TYPE slipway_inference_batch_size histogram
slipway_inference_batch_size_bucket{model="churn",le="1.0"} 2
slipway_inference_batch_size_bucket{model="churn",le="8.0"} 3
slipway_inference_batch_size_bucket{model="churn",le="16.0"} 3
slipway_inference_batch_size_bucket{model="churn",le="+Inf"} 3
slipway_inference_batch_size_sum{model="churn"} 9
slipway_inference_batch_size_count{model="churn"} 3
slipway_inferences_total{model="churn",result="ok"} 9
"""


def test_batch_sizes_are_read_from_the_metrics_page() -> None:
    found = batches_of(METRICS)

    assert found == Batches(count=3, rows=9, largest=8)
    assert found.mean == 3.0


def test_a_page_without_batches_has_none() -> None:
    assert batches_of("") == Batches(count=0, rows=0, largest=0)
    assert batches_of("").mean == 0.0


@pytest.mark.parametrize(("share", "value"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)])
def test_a_quantile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert quantile([float(x) for x in range(1, 101)], share) == value


def test_every_kind_of_request_knows_what_it_may_be_answered() -> None:
    steady = Phase("steady", 1, [Outcome("good", 200, 0.001, has_retry_after=False)], 1.0)
    wrong = Phase("bursts", 1, [Outcome(kind, 500, 0.001, has_retry_after=False) for kind in EXPECTED], 1.0)
    unanswered = Outcome("good", 0, 0.001, has_retry_after=False)

    assert failures([steady]) == []
    assert len(failures([steady, wrong])) == len(EXPECTED)
    assert not unanswered.is_expected
    assert traffic_lines([steady, wrong], batches_of(METRICS))[-1].split() == ["failed", "3"]


def test_the_traffic_is_the_same_in_every_run_and_a_few_hundred_requests() -> None:
    once = [request for make in (steady_requests, burst_requests, hasty_requests) for request in make()]
    again = [request for make in (steady_requests, burst_requests, hasty_requests) for request in make()]

    assert once == again
    assert 300 <= len(once) < 1_000
    assert {request.kind for request in once} == set(EXPECTED)


@contextmanager
def demo(home: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A running demo, which is killed at the end if it is still there."""
    command = [sys.executable, str(ROOT / "scripts" / "demo.py")]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("SLIPWAY_")}
    variables |= {"SLIPWAY_HOME": str(home), "SLIPWAY_DEMO_GATE": "no", **environment}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, cwd=home.parent
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(stream: IO[str] | None, word: str) -> str:
    """Lines up to the one that holds `word`; all of them when none does."""
    lines = []
    for line in stream or ():
        lines.append(line)
        if word in line:
            break
    return "".join(lines)


def has_monitoring() -> bool:
    """Whether the demo can show an alert here."""
    try:
        return bool(find_programs())
    except MonitoringError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_ends_with_a_summary_in_any_locale_and_with_the_port_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        except OSError:
            pass  # then another process has it, which is as good

        with demo(tmp_path / "home", SLIPWAY_DEMO_EXIT="1", LC_ALL="C", TZ="Pacific/Chatham") as process:
            out, err = process.communicate(timeout=280)

    assert process.returncode == 0, err
    assert err == ""
    assert "port 8000 is taken: using a free one" in out
    assert "First prediction" in out
    assert "leaves with a probability of 87%" in out
    assert "failed       0" in out
    assert re.search(r"signed, pushed to (127\.0\.0\.1:\d+/churn|oci:/\S+), pulled where policy\.toml asks", out)
    assert "\r" not in out + err
    assert "\x1b" not in out + err
    if has_monitoring():
        assert_told(out)
        store = Store.open(tmp_path / "home" / "store")
        assert len(store.refs()) == 1  # the bad release is gone
        assert referrers(store, store.refs()[0].digest)  # it is signed
    else:
        assert "no alert is shown: prometheus" in out


@pytest.mark.slow
def test_without_a_registry_a_layout_takes_its_place(
    built_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(shutil.copytree(built_home, tmp_path / "home")))
    monkeypatch.setattr("demo_release.find_program", lambda *_: None)
    digest = Store.open(tmp_path / "home" / "store").resolve("churn")
    said = io.StringIO()

    with production(Teller(said)) as shipped:
        delivered = shipped.deliver("churn", digest)
        there = Store.open(shipped.folder / "production" / "store")

        assert there.resolve(delivered) == digest
        assert shipped.registry.startswith("oci:")
    assert "a layout on disk takes its place" in said.getvalue()
    assert not shipped.folder.exists()


def assert_told(out: str) -> None:
    """An error, the page, the console, the rollback and the end, in this order, with the times of a clock."""
    lines = re.findall(r"^ +(\d+\.\d) s  (.+)$", out.partition("What on-call saw")[2], re.MULTILINE)
    at = [float(seconds) for seconds, _ in lines]
    said = [what for _, what in lines]
    assert said[0] == "a customer gets an error"
    assert said[1].startswith("page to team-churn: SlipwaySLOFastBurn, churn answers")
    assert re.fullmatch(r"the console names churn-availability and the release, [0-9a-f]{12}", said[2])
    assert said[3].startswith("rolled back: slipway swap churn@sha256:")
    assert said[4:] == ["resolved, says Alertmanager", "resolved, says the console"]
    assert at == sorted(at)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.e2e
def test_neither_ctrl_c_nor_kill_9_leaves_a_process_behind(tmp_path: Path) -> None:
    """The second is killed while its bad release is on its way, with Prometheus, Alertmanager and console running."""
    soon = "a bad release is on its way" if has_monitoring() else "The server is up"
    with demo(tmp_path / "home") as first, demo(tmp_path / "home") as second:
        said = [read_until(second.stdout, soon)]
        started = psutil.Process(second.pid).children(recursive=True)
        second.kill()
        said.append(read_until(first.stdout, "The server is up"))
        started += psutil.Process(first.pid).children(recursive=True)

        first.send_signal(signal.SIGINT)

        _, alive = psutil.wait_procs(started, timeout=40)
        assert first.wait(40) == 0
    assert [soon in said[0], "The server is up" in said[1]] == [True, True], said
    assert len(started) >= (18 if has_monitoring() else 6)  # guards, and what they guard: server, worker, three more
    assert alive == []


@pytest.mark.timeout(60)
def test_what_is_guarded_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = f"""
import signal, sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
from pathlib import Path
from monitoring import Running
running = Running(["sleep", "600"], Path({str(tmp_path / "log")!r}), is_guarded=True)
print(running.process.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        guard = psutil.Process(int(process.stdout.readline()))
        assert eventually(lambda: bool(guard.children()), 20)
        family = [guard, *guard.children()]

        process.kill()

        _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_the_next_demo_removes_what_a_killed_one_left_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    starter = f"""
import signal, sys, tempfile
sys.path.insert(0, {str(ROOT / "scripts")!r})
from demo_folders import scratch
tempfile.tempdir = {str(tmp_path)!r}
with scratch() as folder:
    (folder / "serve.log").write_text("x")
    print(folder, flush=True)
    signal.pause()
"""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "slipway-demo-link").symlink_to(tmp_path / "elsewhere")
    with (
        scratch() as mine,
        subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        other = Path(process.stdout.readline().strip())
        process.kill()
        process.wait()
        fresh = remove_leftovers()
        for folder in (mine, other):
            os.utime(folder, (0, 0))

        removed = remove_leftovers()

        assert (fresh, removed) == ([], [other])
        assert mine.is_dir()
    assert not other.exists()
    assert (tmp_path / "elsewhere").is_dir()
    assert not mine.exists()


def test_without_prometheus_the_demo_says_so_in_one_line_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("monitoring.UNPACKED", tmp_path)
    out = io.StringIO()

    with watching(Teller(out)) as watch:
        assert watch is None

    (line,) = out.getvalue().splitlines()
    assert line.strip() == "no alert is shown: prometheus and alertmanager not found on PATH"


@pytest.mark.parametrize("name", ["prometheus-alertmanager", "alertmanager"])
def test_alertmanager_is_found_under_either_name(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("monitoring.UNPACKED", tmp_path)
    for program in ("prometheus", name):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)

    assert find_programs() == (str(tmp_path / "prometheus"), str(tmp_path / name))


def test_a_prometheus_that_does_not_start_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ("prometheus", "alertmanager"):
        (tmp_path / program).write_text("#!/bin/sh\necho this machine is too old\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr("monitoring.ALERTMANAGERS", ("alertmanager",))
    out = io.StringIO()

    with watching(Teller(out)) as watch:
        assert watch is None

    assert [line.strip() for line in out.getvalue().splitlines() if "alert" in line] == [
        "no alert is shown: alertmanager did not start: this machine is too old"
    ]


@pytest.mark.slow
def test_a_failing_step_is_one_message_with_the_command_to_see_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with demo(tmp_path / "file", SLIPWAY_DEMO_EXIT="1") as process:
        _, err = process.communicate(timeout=110)

    assert process.returncode == 1
    assert "demo: build failed with exit status" in err
    assert "bundle build services/churn`" in err
    assert "Traceback" not in err
