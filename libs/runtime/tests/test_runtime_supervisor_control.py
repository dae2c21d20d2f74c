import asyncio
import os
import signal
import socket
import threading

import pytest

from slipway_bundle.errors import UsageError
from slipway_runtime.control import (
    CONTROL_FD,
    GENERATION,
    SLOT_FD,
    ControlError,
    ControlReader,
    Failed,
    Ready,
    Recycle,
    WorkerControl,
    generation_from_environment,
    slot_fd_from_environment,
)


def pair() -> tuple[socket.socket, WorkerControl]:
    ours, theirs = socket.socketpair()
    return ours, WorkerControl(theirs.detach())


def test_messages_arrive_whole_however_they_are_cut() -> None:
    ours, control = pair()
    control.ready()
    control.failed(UsageError("no entry", hint="name one"))
    control.recycle("2.1 GiB resident")
    control.close()
    with ours:
        data = ours.recv(65_536)
    reader = ControlReader()

    messages = [message for byte in data for message in reader.feed(bytes([byte]))]

    assert messages == [Ready(), Failed("no entry\nhint: name one", 2), Recycle("2.1 GiB resident")]


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"says":"sing"}\n', b"\xff\n", b"x" * 70_000])
def test_nonsense_is_refused(line: bytes) -> None:
    with pytest.raises(ControlError):
        ControlReader().feed(line)


def test_a_newer_worker_may_say_more() -> None:
    assert ControlReader().feed(b'{"says":"ready","since":3}\n') == [Ready()]


def test_without_a_supervisor_there_is_no_control() -> None:
    assert WorkerControl.from_environment({}) is None
    assert slot_fd_from_environment({}) is None


@pytest.mark.parametrize("text", ["x", "-1", "99999"])
def test_a_wrong_number_in_the_environment_is_named(text: str) -> None:
    with pytest.raises(ControlError, match=CONTROL_FD):
        WorkerControl.from_environment({CONTROL_FD: text})
    with pytest.raises(ControlError, match=SLOT_FD):
        slot_fd_from_environment({SLOT_FD: text})


def test_a_process_knows_its_generation() -> None:
    assert generation_from_environment({}) == 0
    assert generation_from_environment({GENERATION: "12"}) == 12


@pytest.mark.parametrize("text", ["", "-1", "x", "1.0", "²"])
def test_a_generation_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ControlError, match=GENERATION):
        generation_from_environment({GENERATION: text})


def test_the_longest_reason_is_one_message() -> None:
    ours, control = pair()
    control.recycle("\x00" * 100_000)
    control.close()
    reader = ControlReader()

    with ours, ours.makefile("rb") as said:
        [message] = reader.feed(said.read())

    assert isinstance(message, Recycle)
    assert len(message.reason) == 8192


def test_the_workers_own_children_do_not_inherit_the_socket() -> None:
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    fd = theirs.detach()

    control = WorkerControl.from_environment({CONTROL_FD: str(fd)})

    assert control is not None
    assert not os.get_inheritable(fd)
    control.close()
    ours.close()


def test_saying_something_to_a_dead_supervisor_is_no_error() -> None:
    ours, control = pair()
    ours.close()

    control.ready()

    assert control.is_parent_gone()
    control.close()


def test_a_thread_can_wait_for_the_end_of_the_supervisor() -> None:
    ours, control = pair()
    thread = threading.Thread(target=control.wait_parent_gone)

    thread.start()
    was_waiting = thread.is_alive()
    ours.close()
    thread.join(20)

    assert was_waiting
    assert not thread.is_alive()
    control.close()


def test_watch_calls_once_when_the_supervisor_is_gone_and_sets_the_last_alarm() -> None:
    ours, control = pair()
    calls = []

    async def main() -> None:
        gone = asyncio.Event()

        def on_parent_gone() -> None:
            calls.append(1)
            gone.set()

        control.watch(asyncio.get_running_loop(), on_parent_gone, grace_s=3600.0)
        ours.close()
        await gone.wait()
        await asyncio.sleep(0)

    before = signal.setitimer(signal.ITIMER_REAL, 0.0)
    asyncio.run(main())
    left, _ = signal.setitimer(signal.ITIMER_REAL, *before)

    assert calls == [1]
    assert 3500.0 < left <= 3600.0
    control.close()
