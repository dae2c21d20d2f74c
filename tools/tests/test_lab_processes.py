"""Processes of a lab: waited for with a deadline, found again, never mistaken for another."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from slipway_lab import cgroups, processes, state
from slipway_lab.errors import NotRunningError, StartError
from slipway_lab.processes import Process, Recipe
from slipway_lab.state import Place


@pytest.fixture
def place(lab_home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A lab whose control group is a file that takes process ids, so that nobody must be root."""
    monkeypatch.setattr(cgroups, "members_file", lambda name: lab_home / f"{name}.procs")
    return state.place_of(lab_home, "t")


def test_a_process_that_ends_early_says_its_last_lines(place: Place) -> None:
    process = processes.start(place, _shell("broken", "seq 30; echo out of paper >&2; exit 3"))

    with pytest.raises(StartError, match="broken ended while it started") as failed:
        processes.await_ready(place, process, lambda: False, 20)

    told = failed.value.message.splitlines()
    assert told[-1] == "out of paper"
    assert len(told) == 1 + processes.TAIL_LINES


def test_a_process_that_is_never_ready_is_not_waited_for_without_end(place: Place) -> None:
    process = processes.start(place, _shell("slow", "echo thinking; exec sleep 60"))

    try:
        with pytest.raises(StartError, match="slow was not ready after 0 s"):
            processes.await_ready(place, process, _refused, 0.2)
    finally:
        processes.stop(place, "slow", kill=True)


def test_a_process_is_a_member_of_the_group_before_its_program_runs(place: Place) -> None:
    group = cgroups.members_file(place.cgroup)
    process = processes.start(place, _shell("member", f"cat {group}"))

    with pytest.raises(StartError):
        processes.await_ready(place, process, lambda: False, 20)

    assert processes.tail(place, "member") == str(process.pid)


def test_a_process_leads_a_session_of_its_own_and_stops_when_told(place: Place) -> None:
    process = processes.start(place, _shell("server", "exec sleep 60"))

    assert os.getsid(process.pid) == process.pid
    assert processes.find(place, "server") == process
    processes.stop(place, "server")
    assert not processes.is_alive(process)
    processes.stop(place, "server")  # what has ended stays so


def test_another_process_under_the_same_id_is_not_mistaken_for_it(place: Place) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        ours = Process(recipe=_shell("old", "true"), pid=other.pid, born=17)
        (place.folder / "processes").mkdir(parents=True)
        (place.folder / "processes" / "old.json").write_bytes(msgspec.json.encode(ours))

        processes.stop(place, "old", kill=True)

        assert not processes.is_alive(ours)
        assert other.poll() is None
        other.kill()


def test_a_child_that_ended_is_buried_and_not_alive(place: Place) -> None:
    process = processes.start(place, _shell("child", "exec sleep 60"))

    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried

    assert not processes.is_alive(process)
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_corpse_that_its_parent_does_not_bury_is_not_alive() -> None:
    """After `up` ended, nobody's children are ours."""
    script = "import os, sys; pid = os.fork() or os._exit(0); print(pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        try:
            pid = int((parent.stdout or io.BytesIO()).readline())
            fields = _stat(pid)
            while fields[0] != "Z":
                fields = _stat(pid)

            found = processes.is_alive(Process(recipe=_shell("corpse", "true"), pid=pid, born=int(fields[19])))

            assert not found
        finally:
            parent.kill()


def test_one_that_still_listens_after_its_first_thread_ended_is_alive(place: Place) -> None:
    """What was killed ends thread by thread; who takes its place before the last is told that its address is in use."""
    script = (
        "import ctypes, socket, threading; s = socket.create_server(('127.0.0.1', 0));"
        "threading.Thread(target=threading.Event().wait).start(); ctypes.CDLL(None).pthread_exit(None)"
    )
    process = processes.start(place, Recipe(name="listener", command=(sys.executable, "-c", script)))
    while _stat(process.pid)[0] != "Z":
        pass

    is_alive = processes.is_alive(process)
    processes.stop(place, "listener", kill=True)

    assert is_alive
    assert not processes.is_alive(process)


def test_a_program_that_was_never_started_is_an_error_that_names_the_others(place: Place) -> None:
    processes.start(place, _shell("etcd", "true"))

    with pytest.raises(NotRunningError, match="no program 'ectd', expected one of: etcd"):
        processes.find(place, "ectd")


def test_what_needs_the_nodes_mounts_is_refused_when_they_are_gone(place: Place) -> None:
    processes.start(place, _shell(processes.HOLDER, "exec sleep 60"))
    processes.stop(place, processes.HOLDER, kill=True)

    with pytest.raises(NotRunningError, match="the node's mounts are gone"):
        processes.start(place, Recipe(name="kubelet", command=("true",), within="node"))


def test_a_log_without_end_is_read_from_its_end(place: Place) -> None:
    place.logs.mkdir(parents=True)
    (place.logs / "talker.log").write_text("x\n" * 1_000_000 + "last\n")

    assert processes.tail(place, "talker", 2) == "x\nlast"


def _stat(pid: int) -> list[str]:
    """Of proc(5), from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _shell(name: str, script: str) -> Recipe:
    return Recipe(name=name, command=("sh", "-c", script))


def _refused() -> bool:
    raise ConnectionRefusedError
