import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from supervised_children import STUBBORN, child, read_to_end, write_module

from slipway_runtime.supervision import SupervisorEvent
from slipway_runtime.supervisor import Supervisor

WORKER = """
import asyncio, os, sys
from slipway_runtime.control import WorkerControl

pipe, drain_hangs = int(sys.argv[1]), sys.argv[2] == "hangs"

async def main() -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    control = WorkerControl.from_environment(os.environ)
    control.watch(loop, (lambda: None) if drain_hangs else done.set, grace_s=0.05)
    control.ready()
    await done.wait()
    os.write(pipe, b"drained ")

asyncio.run(main())
"""
SUPERVISOR = """
import os, sys
from slipway_runtime.supervision import WorkerSpec
from slipway_runtime.supervisor import Supervisor

pipe = int(sys.argv[1])
def hear(event):
    if event.kind == "ready" and supervisor.statistics().counts()["ready"] == 2:
        print("ready", flush=True)

spec = [
    WorkerSpec(name=f"api-{n}", argv=(sys.executable, sys.argv[2], str(pipe), sys.argv[3 + n]), env=os.environ.copy(),
               pass_fds=(pipe,))
    for n in range(2)
]
supervisor = Supervisor(spec, on_event=hear)
raise SystemExit(supervisor.run())
"""


def start(folder: Path, *drains: str) -> tuple[subprocess.Popen[str], int]:
    read, write = os.pipe()
    worker = write_module(folder, "worker.py", WORKER)
    script = write_module(folder, "supervise.py", SUPERVISOR)
    argv = [sys.executable, str(script), str(write), str(worker), *drains]
    supervisor = subprocess.Popen(argv, pass_fds=[write], stdout=subprocess.PIPE, text=True)
    os.close(write)
    return supervisor, read


def test_workers_of_a_killed_supervisor_drain_and_exit(tmp_path: Path) -> None:
    supervisor, pipe = start(tmp_path, "drains", "drains")
    with supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "ready\n"

        supervisor.send_signal(signal.SIGKILL)

        assert read_to_end(pipe) == b"drained drained "  # returns when both are gone


def test_a_worker_whose_drain_hangs_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    supervisor, pipe = start(tmp_path, "hangs", "drains")
    with supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "ready\n"

        supervisor.send_signal(signal.SIGKILL)

        assert read_to_end(pipe) == b"drained "


def test_an_error_in_the_supervisor_leaves_no_worker() -> None:
    read, write = os.pipe()
    is_broken = False

    def clock() -> float:
        if is_broken:
            raise ZeroDivisionError
        return time.monotonic()

    def react(event: SupervisorEvent) -> None:
        nonlocal is_broken
        is_broken = event.kind == "ready"

    supervisor = Supervisor([child("api-0", STUBBORN, pass_fds=[write])], clock=clock, on_event=react)

    with pytest.raises(ZeroDivisionError):
        supervisor.run()
    os.close(write)

    assert read_to_end(read) == b""


AS_PID_1 = """
import os, signal
from pathlib import Path
from supervised_children import SAY, Drive, child

FORKS = SAY + "if os.fork() == 0: time.sleep(3600)\\nsay('{\\"says\\": \\"ready\\"}')\\nos.read(control, 1)"

def react(drive, event):
    if event.kind == "ready" and drive.count("ready") < 4:
        os.kill(event.pid, signal.SIGKILL)
    elif event.kind == "ready":
        drive.supervisor.stop()

assert os.getpid() == 1
Drive([child("api-0", FORKS)], react)
while True:  # the last of the adopted may still be dying
    try:
        os.waitpid(-1, 0)
        print("late")
    except ChildProcessError:
        break
print("done")
"""


def can_unshare() -> bool:
    program = shutil.which("unshare")
    argv = [str(program), "--pid", "--fork", "--kill-child", "true"]
    return program is not None and subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs the right to make a PID namespace (unshare --pid)")
def test_as_the_first_process_of_a_container_it_leaves_no_zombies(tmp_path: Path) -> None:
    script = write_module(tmp_path, "first.py", AS_PID_1)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, str(script)]

    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "done"
    assert done.stdout.count("late") <= 1
