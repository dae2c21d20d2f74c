import os
import signal
import threading
from pathlib import Path

import msgspec
import pytest
from supervised_children import CRASHING, READY, SAY, SILENT, STUBBORN, Drive, child

from slipway_runtime.supervision import SupervisorEvent, SupervisorLimits
from slipway_runtime.supervisor import Supervisor

DRAINS = (
    SAY
    + """
def drain(number, frame):
    os.write(int(sys.argv[2]), b"told " + sys.argv[1].encode() + b"\\n")
    os.write(int(sys.argv[2]), b"gone " + sys.argv[1].encode() + b"\\n")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, drain)
say('{"says": "ready"}')
os.read(control, 1)
"""
)

FAILS_IF = (
    SAY
    + """
if os.path.exists(sys.argv[1]):
    say('{"says": "failed", "message": "no model", "exit_status": 2}')
    raise SystemExit(2)
say('{"says": "ready"}')
os.read(control, 1)
"""
)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_drains_one_stage_after_the_other() -> None:
    read, write = os.pipe()

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 3:
            send(signal.SIGTERM)

    names = [("runner-0", 1), ("api-0", 0), ("api-1", 0)]
    spec = [child(name, DRAINS, name, str(write), pass_fds=[write], stage=stage) for name, stage in names]
    drive = Drive(spec, react)
    os.close(write)
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()

    assert drive.status == 0
    assert set(lines[:4]) == {"told api-0", "gone api-0", "told api-1", "gone api-1"}
    assert lines[4:] == ["told runner-0", "gone runner-0"]
    assert drive.kinds()[-1] == "stopped"
    assert drive.supervisor.statistics().state == "stopped"
    assert drive.supervisor.statistics().counts()["dead"] == 3


def test_a_worker_that_does_not_finish_draining_is_killed_and_the_status_says_so() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            send(signal.SIGTERM)

    drive = Drive([child("api-0", STUBBORN)], react, limits=SupervisorLimits(drain_timeout_s=0.05))

    assert drive.kinds("api-0") == ["started", "ready", "draining", "stuck", "died"]
    assert drive.status == 1


def test_a_second_ctrl_c_hastens() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind in {"ready", "draining"}:
            send(signal.SIGINT)

    drive = Drive([child("api-0", STUBBORN)], react)

    assert drive.kinds() == ["started", "ready", "stopping", "draining", "hastened", "died", "stopped"]
    assert drive.status == 130


def test_sigterm_while_workers_start_ends_them() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "started" and drive.count("started") == 2:
            send(signal.SIGTERM)

    drive = Drive([child("api-0", SILENT), child("api-1", SILENT)], react)

    assert drive.count("died") == 2
    assert drive.status == 0


def test_stop_works_from_another_thread() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            thread = threading.Thread(target=drive.supervisor.stop)
            thread.start()
            thread.join()

    drive = Drive([child("api-0", READY)], react)

    assert drive.status == 0


def test_a_worker_that_cannot_start_ends_the_first_start_with_its_status() -> None:
    code = SAY + """say('{"says": "failed", "message": "no model `churn`", "exit_status": 2}')"""

    drive = Drive([child("api-0", code), child("api-1", SILENT)], lambda drive, event: None)

    assert drive.status == 2
    assert [one.message for one in drive.events if one.kind == "broken"] == ["no model `churn`"]
    assert [one.message for one in drive.events if one.kind == "stopping"] == ["no model `churn`"]


def test_a_runner_that_cannot_start_ends_the_first_start_although_others_are_ready() -> None:
    """The dispatcher and an API worker are up in a moment, a runner loads its model first."""
    read, write = os.pipe()
    waits = SAY + """os.read(int(sys.argv[1]), 1)\nsay('{"says": "failed", "message": "no room", "exit_status": 3}')"""

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            os.write(write, b"x")

    behind = [child("dispatcher", READY, stage=1), child("run-0", waits, str(read), pass_fds=[read], stage=1)]
    drive = Drive([child("api-0", READY), *behind], react)
    os.close(read)
    os.close(write)

    assert drive.status == 3
    assert [one.message for one in drive.events if one.kind == "stopping"] == ["no room"]


def test_a_runner_that_cannot_start_after_it_crashed_does_not_end_what_serves_already(tmp_path: Path) -> None:
    read, write = os.pipe()
    code = (
        SAY
        + """
try:
    open(sys.argv[1], "x").close()
except FileExistsError:
    os.read(int(sys.argv[2]), 1)
    say('{"says": "failed", "message": "no room", "exit_status": 3}')
sys.exit(3)
"""
    )

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            os.write(write, b"x")
        if event.kind == "backing_off" and drive.count("backing_off") == 2:
            drive.supervisor.stop()

    run = child("run-0", code, str(tmp_path / "crashed"), str(read), pass_fds=[read], stage=1)
    drive = Drive([child("api-0", READY), run], react)
    os.close(read)
    os.close(write)

    assert drive.count("broken") == 1
    assert drive.status == 0


def test_ready_means_that_an_api_worker_is() -> None:
    seen = {}

    read, write = os.pipe()
    late = SAY + """os.read(int(sys.argv[1]), 1)\nsay('{"says": "ready"}')\nos.read(control, 1)"""

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if (event.kind, event.worker) == ("ready", "dispatcher"):
            os.write(write, b"x")
        seen[event.kind, event.worker] = drive.supervisor.statistics().is_ready
        if (event.kind, event.worker) == ("ready", "api-0"):
            drive.supervisor.stop()

    api = child("api-0", late, str(read), pass_fds=[read])
    Drive([api, child("dispatcher", READY, stage=1)], react)
    os.close(read)
    os.close(write)

    assert seen["ready", "dispatcher"] is False
    assert seen["ready", "api-0"] is True


def test_a_program_that_does_not_exist_ends_the_first_start_with_status_3() -> None:
    missing = msgspec.structs.replace(child("api-0", READY), argv=("/nowhere/python",))

    drive = Drive([missing], lambda drive, event: None)

    assert drive.status == 3
    assert "/nowhere/python" in drive.events[0].message


def test_a_worker_that_cannot_start_later_backs_off_and_the_others_serve_on(tmp_path: Path) -> None:
    flag = tmp_path / "broken"

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            flag.touch()
            os.kill(drive.pids("api-1")[0], signal.SIGKILL)
        if event.kind == "crash_loop":
            assert drive.supervisor.statistics().is_ready
            drive.supervisor.stop()

    drive = Drive([child("api-0", READY), child("api-1", FAILS_IF, str(flag))], react)

    assert drive.count("broken", "api-1") == 2
    assert drive.kinds("api-0") == ["started", "ready", "draining", "died"]
    assert drive.status == 0


def test_signal_handlers_are_put_back() -> None:
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)]

    Drive([child("api-0", READY)], lambda drive, event: drive.supervisor.stop())

    after = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)]
    assert after == before


def test_statistics_are_one_json_object() -> None:
    seen = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            seen.append(drive.supervisor.statistics())
            drive.supervisor.stop()

    Drive([child("api-0", READY)], react)

    assert seen[0].is_ready
    shown = msgspec.json.decode(msgspec.json.encode(seen[0]))
    assert shown["state"] == "serving"
    assert shown["workers"][0]["name"] == "api-0"
    assert shown["workers"][0]["state"] == "ready"


def test_workers_need_unique_names() -> None:
    with pytest.raises(ValueError, match="unique names"):
        Supervisor([child("api-0", CRASHING), child("api-0", CRASHING)])
