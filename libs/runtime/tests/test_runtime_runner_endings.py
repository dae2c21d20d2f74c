"""How a runner process ends, and what it survives."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from runtime_runner_child import RunnerProcess, group
from runtime_wire_fakes import Peer, listening

from slipway_runtime.runner import RunnerLimits
from slipway_runtime.wire.frames import Dismissed, Done, Leaving, Place, Work
from slipway_runtime.wire.slab import SlabView


@contextmanager
def joined(**options: object) -> Iterator[tuple[RunnerProcess, Peer, SlabView]]:
    with listening() as (path, listener):
        child = RunnerProcess(path, listener, **options)  # type: ignore[arg-type]  # of a test
        try:
            peer, _, slab = child.accept()
            yield child, peer, slab
            peer.close()
        finally:
            child.close()


def work(number: int, *rows: bytes) -> Work:
    return Work(number, "churn", b"", [group(*rows)])


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_supervised", [True, False])
def test_a_signal_makes_it_say_so_finish_and_go_when_dismissed(sign: signal.Signals, *, is_supervised: bool) -> None:
    with joined(is_supervised=is_supervised) as (child, peer, _):
        peer.say(work(1, b"wait"))
        child.hear_from_model()
        peer.say(work(2, b"wait"))
        child.process.send_signal(sign)
        child.let_go()

        assert peer.hear(Done).number == 1
        peer.hear(Leaving)  # before the batch it has, which may be long
        child.let_go()
        assert peer.hear(Done).number == 2
        peer.say(work(3, b"b"))
        assert peer.hear(Done).number == 3, "it works until it is dismissed"
        peer.say(Dismissed())
        assert child.status() == 0


def test_a_signal_while_it_is_idle_is_heard_at_once() -> None:
    with joined() as (child, peer, _):
        child.process.send_signal(signal.SIGTERM)

        peer.hear(Leaving)
        peer.say(Dismissed())
        assert child.status() == 0


def test_a_runner_that_is_dismissed_goes_also_if_it_did_not_ask() -> None:
    with joined() as (child, peer, _):
        peer.say(Dismissed())

        assert child.status() == 0


def test_a_leaving_runner_does_not_look_for_another_dispatcher() -> None:
    with joined() as (child, peer, _):
        child.process.send_signal(signal.SIGTERM)
        peer.hear(Leaving)

        peer.close()

        assert child.status() == 0


def test_a_signal_while_nobody_listens_ends_it() -> None:
    with listening() as (path, listener):
        listener.close()
        child = RunnerProcess(path, listener)
        try:
            assert child.process.poll() is None
            while b"SIGTERM" not in _handled(child.process.pid):
                assert child.process.poll() is None
            child.process.send_signal(signal.SIGTERM)
            assert child.status() == 0
        finally:
            child.close()


def _handled(pid: int) -> bytes:
    """Which of the signals we care about a process handles, from `/proc`; on other systems: assumed."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - one line
            caught = next(int(line.split()[1], 16) for line in file if line.startswith(b"SigCgt"))
    except OSError:
        return b"SIGTERM"
    return b"SIGTERM" if caught & (1 << (signal.SIGTERM - 1)) else b""


def test_it_outlives_its_dispatcher_and_answers_only_whom_it_works_for() -> None:
    with joined() as (child, peer, _):
        peer.say(work(1, b"wait", b"old"))
        child.hear_from_model()
        peer.close()
        child.let_go()

        second, join, _ = child.accept()

        assert join.pid == child.process.pid
        second.say(work(1, b"new"))
        done = second.hear(Done)
        assert [part.result for part in done.parts] == [b"=new"]
        second.close()


def test_what_a_worker_still_reads_of_an_old_dispatchers_result_is_never_overwritten() -> None:
    with joined() as (child, peer, slab):
        peer.say(work(1, b"large30000"))
        (part,) = peer.hear(Done).parts
        assert isinstance(part.result, Place)
        memory = slab.read(part.result)
        peer.close()

        second, _, new_slab = child.accept()
        second.say(work(1, b"large30001"))
        (again,) = second.hear(Done).parts

        assert isinstance(again.result, Place)
        assert again.result.offset == part.result.offset
        assert bytes(memory) == b"=" + b"x" * 30_000
        assert bytes(new_slab.read(again.result)) == b"=" + b"x" * 30_001
        second.close()


@pytest.mark.parametrize("row", [b"exit", b"interrupt"])
def test_a_model_that_ends_the_process_does_end_it_and_says_why(row: bytes) -> None:
    with listening() as (path, listener):
        child = RunnerProcess(path, listener)
        peer, _, _ = child.accept()
        peer.say(work(1, b"good", row))

        assert child.status() == 70
        peer.hear_the_end()
        assert "SystemExit" in (log := child.close()) or "KeyboardInterrupt" in log
        peer.close()


def test_without_a_supervisor_it_works_as_long_as_its_dispatcher_and_goes_with_it() -> None:
    with joined() as (child, peer, _):
        child.supervisor.close()
        peer.say(work(1, b"a"))
        assert peer.hear(Done).number == 1

        peer.close()

        assert child.status() == 0


def test_a_supervisor_that_goes_while_a_batch_runs_is_noticed() -> None:
    with joined() as (child, peer, _):
        peer.say(work(1, b"wait"))
        child.hear_from_model()
        peer.close()
        child.supervisor.close()

        child.let_go()

        assert child.status() == 0


def test_a_hanging_model_does_not_keep_an_orphan_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_TEST_GRACE_S", "0.05")
    with joined() as (child, peer, _):
        peer.say(work(1, b"wait"))
        child.hear_from_model()

        child.supervisor.close()

        assert child.status() == 70


@pytest.mark.parametrize(
    ("limits", "says"),
    [(RunnerLimits(age_s=0.01), "s old"), (RunnerLimits(memory_bytes=100 * 1024 * 1024), "bytes of memory")],
)
def test_beyond_its_limits_it_asks_for_a_successor_once_and_goes_on(limits: RunnerLimits, says: str) -> None:
    with joined(limits=limits) as (child, peer, _):
        asked = b""
        for number in range(8):
            peer.say(work(number, b"keep" if limits.memory_bytes else b"a"))
            assert peer.hear(Done).number == number
        while b"recycle" not in asked:
            asked += child.supervisor.recv(1000)

        peer.say(work(9, b"a"))
        assert peer.hear(Done).number == 9
        child.process.send_signal(signal.SIGTERM)
        peer.hear(Leaving)
        peer.say(Dismissed())
        assert child.status() == 0
        while chunk := child.supervisor.recv(1000):
            asked += chunk
        assert asked.count(b"recycle") == 1
        assert says in asked.decode()


def test_a_runner_that_is_killed_frees_its_slab_when_the_last_reader_lets_go() -> None:
    with joined() as (child, peer, slab):
        peer.say(work(1, b"large30000"))
        (part,) = peer.hear(Done).parts
        os.kill(child.process.pid, signal.SIGKILL)
        child.status()

        assert isinstance(part.result, Place)
        assert bytes(slab.read(part.result)) == b"=" + b"x" * 30_000
        peer.hear_the_end()
