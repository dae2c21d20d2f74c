"""`make demo`: its numbers, its failures, and that nothing is left behind."""

import os
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
from demo_report import Batches, batches_of, failures, quantile, traffic_lines
from demo_traffic import EXPECTED, Outcome, Phase, burst_requests, hasty_requests, steady_requests

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
    variables |= {"SLIPWAY_HOME": str(home), **environment}
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


@pytest.mark.slow
def test_the_demo_ends_with_a_summary_in_any_locale_and_with_the_port_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        except OSError:
            pass  # then another process has it, which is as good

        with demo(tmp_path / "home", SLIPWAY_DEMO_EXIT="1", LC_ALL="C", TZ="Pacific/Chatham") as process:
            out, err = process.communicate(timeout=110)

    assert process.returncode == 0, err
    assert err == ""
    assert "port 8000 is taken: using a free one" in out
    assert "First prediction" in out
    assert "leaves with a probability of 87%" in out
    assert "failed       0" in out
    assert "\r" not in out + err
    assert "\x1b" not in out + err


@pytest.mark.slow
def test_neither_ctrl_c_nor_kill_9_leaves_a_server_behind(tmp_path: Path) -> None:
    with demo(tmp_path / "home") as first, demo(tmp_path / "home") as second:
        said = [read_until(process.stdout, "The server is up") for process in (first, second)]
        started = [psutil.Process(process.pid).children(recursive=True) for process in (first, second)]

        first.send_signal(signal.SIGINT)
        second.kill()

        _, alive = psutil.wait_procs([child for children in started for child in children], timeout=30)
        assert first.wait(30) == 0
    assert ["The server is up" in text for text in said] == [True, True], said
    assert all(len(children) >= 3 for children in started)  # guard, supervisor, worker
    assert alive == []


@pytest.mark.slow
def test_a_failing_step_is_one_message_with_the_command_to_see_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with demo(tmp_path / "file", SLIPWAY_DEMO_EXIT="1") as process:
        _, err = process.communicate(timeout=110)

    assert process.returncode == 1
    assert "demo: build failed with exit status" in err
    assert "bundle build services/churn`" in err
    assert "Traceback" not in err
