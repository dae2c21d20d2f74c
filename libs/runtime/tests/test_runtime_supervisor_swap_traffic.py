import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised_children import SAY, STUBBORN, Drive, child, read_to_end, write_module
from supervised_service import Client, api, runner

from slipway_runtime.supervision import SupervisorEvent, SupervisorLimits

KINDS = {"swapped", "swap_failed"}


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        yield listening


def runs(answers: list[str]) -> list[str]:
    return [answer for answer, _ in itertools.groupby(answers)]


def test_no_request_fails_while_swaps_succeed_and_fail(tmp_path: Path, listening: socket.socket) -> None:
    """Three swaps under load: a good one, one whose runner fails, one whose second API worker fails."""
    client = Client(listening.getsockname()[1])
    front = [api(name, tmp_path, listening) for name in ("api-0", "api-1")]
    swaps = [
        [*front, runner("run-0", tmp_path)],
        [*front, runner("run-0", tmp_path, "2")],
        [front[0], api("api-1", tmp_path, listening, "3"), runner("run-0", tmp_path)],
    ]
    marks = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        is_up = event.kind == "ready" and drive.count("ready") == 3
        if is_up:
            client.start()
        if event.kind in KINDS:
            marks.append(len(client.answers))
        if (is_up or event.kind in KINDS) and swaps:
            drive.supervisor.swap(swaps.pop(0))
        elif event.kind in KINDS:
            client.close()
            drive.supervisor.stop()

    drive = Drive([*front, runner("run-0", tmp_path)], react)

    assert client.errors == []
    assert [one.kind for one in drive.events if one.kind in KINDS] == ["swapped", "swap_failed", "swap_failed"]
    assert client.answers[0] == "0"
    assert set(client.answers[marks[0] + 1 : marks[1]]) == {"1"}
    assert set(client.answers[marks[1] + 1 : marks[2]]) <= {"1", "3"}
    assert client.answers[-1] == "1"
    assert "0" not in runs(client.answers)[-1]
    assert drive.status == 0


PHASES = ["preparing", "replacing", "retiring", "undoing"]
LINGERS = (
    SAY
    + """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
pipe, moment, generation = int(sys.argv[1]), sys.argv[2], os.environ["SLIPWAY_GENERATION"]
def hang():
    os.write(pipe, b"at " + moment.encode() + b"\\n")
    os.read(control, 1)
    raise SystemExit(0)
if moment == "start" and generation == "1":
    hang()
if moment == "fail" and generation == "1":
    raise SystemExit(9)
if moment == "drain" and generation == "0" or moment == "undo" and generation == "1":
    signal.signal(signal.SIGTERM, lambda number, frame: hang())
say('{"says": "ready"}')
while True:
    os.read(control, 1) or sys.exit(0)
"""
)
"""Stays in one moment of a swap until somebody ends it, or fails in generation 1."""

MOMENTS = {
    "preparing": ("none", "start"),
    "replacing": ("start", "none"),
    "retiring": ("none", "drain"),
    "undoing": ("fail", "undo"),
}
"""For each phase, what the API worker and the runner have to do so that the swap stays in it."""


@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_in_each_phase_stops_everything(phase: str) -> None:
    read, write = os.pipe()
    of_api, of_runner = MOMENTS[phase]
    specs = [
        child("api-0", LINGERS, str(write), of_api, pass_fds=[write]),
        child("run-0", LINGERS, str(write), of_runner, pass_fds=[write], stage=1),
    ]
    stops = {
        "preparing": ("started", "run-0", 1),
        "replacing": ("started", "api-0", 1),
        "retiring": ("draining", "run-0", 0),
        "undoing": ("draining", "run-0", 1),
    }

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            drive.supervisor.swap(specs)
        if (event.kind, event.worker, event.generation) == stops[phase] and drive.count("swapping"):
            os.kill(os.getpid(), signal.SIGTERM)

    drive = Drive(specs, react, limits=SupervisorLimits(drain_timeout_s=0.3))
    os.close(write)

    statistics = drive.supervisor.statistics()
    assert read_to_end(read).decode() in {"", f"at {of_api}\n", f"at {of_runner}\n"}  # its end: nobody is left
    assert statistics.rollout is not None
    assert statistics.rollout.outcome == "stopped"
    assert drive.count("started") == drive.count("died")
    assert statistics.state == "stopped"


def test_stop_during_a_swap_drains_api_workers_before_the_runners_of_both_generations() -> None:
    specs = [child("api-0", LINGERS, "2", "start"), child("run-0", LINGERS, "2", "none", stage=1)]

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            drive.supervisor.swap(specs)
        if event.kind == "started" and (event.worker, event.generation) == ("api-0", 1):
            drive.supervisor.stop()

    drive = Drive(specs, react)

    ends = drive.steps("draining", "died")
    assert {(worker, generation) for _, worker, generation in ends[:4]} == {("api-0", 0), ("api-0", 1)}
    assert {(worker, generation) for _, worker, generation in ends[4:]} == {("run-0", 0), ("run-0", 1)}


SUPERVISOR = """
import sys
from supervised_children import child
from test_runtime_supervisor_swap_traffic import LINGERS, MOMENTS
from slipway_runtime.supervisor import Supervisor

pipe, (of_api, of_runner) = sys.argv[1], MOMENTS[sys.argv[2]]
specs = [
    child("api-0", LINGERS, pipe, of_api, pass_fds=[int(pipe)]),
    child("run-0", LINGERS, pipe, of_runner, pass_fds=[int(pipe)], stage=1),
]
readies = []
def hear(event):
    if event.kind == "ready":
        readies.append(event.worker)
        if len(readies) == 2:
            supervisor.swap(specs)

supervisor = Supervisor(specs, on_event=hear)
supervisor.run()
"""


@pytest.mark.parametrize("phase", PHASES)
def test_nobody_outlives_a_supervisor_that_is_killed_in_the_middle_of_a_swap(phase: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    script = write_module(tmp_path, "supervise.py", SUPERVISOR)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen([sys.executable, str(script), str(write), phase], pass_fds=[write], env=env) as supervisor:
        os.close(write)
        hanging = next(moment for moment in MOMENTS[phase] if moment not in {"none", "fail"})
        said = b""
        while not said.endswith(b"\n") and (byte := os.read(read, 1)):
            said += byte

        supervisor.send_signal(signal.SIGKILL)

        assert said.decode() == f"at {hanging}\n"
        assert read_to_end(read) == b""  # returns when all four processes are gone


def test_a_stuck_rollout_is_ended_by_a_second_signal() -> None:
    specs = [child("api-0", LINGERS, "2", "start"), child("run-0", STUBBORN, stage=1)]

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            drive.supervisor.swap(specs)
        if (event.kind == "started" and event.generation == 1 and event.worker == "api-0") or (
            event.kind == "draining" and event.worker == "run-0"
        ):
            os.kill(os.getpid(), signal.SIGINT)

    drive = Drive(specs, react)

    assert drive.count("hastened") >= 1
    assert drive.count("started") == drive.count("died") == 4
    assert drive.status == 130
