"""The end of a shared listening socket: who is in is accepted, who knocks later is refused, nobody is reset."""

import errno
import select
import socket
import sys
import threading
from pathlib import Path

import pytest

from slipway_runtime.last_call import announce_last_call, shut_door, take_waiting

WAIT_S = 20.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")


def listening_on(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, 0), family=family, backlog=50)
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")


def connected(listening: socket.socket) -> socket.socket:
    return socket.create_connection(listening.getsockname()[:2], timeout=WAIT_S)


def knock(listening: socket.socket) -> socket.socket:
    """Begin to connect, and do not wait."""
    client = socket.socket(listening.family)
    client.setblocking(False)
    assert client.connect_ex(listening.getsockname()) != 0
    return client


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_is_in_is_answered_and_who_knocks_later_is_refused(host: str) -> None:
    supervisor = listening_on(host)
    worker = supervisor.dup()
    with connected(supervisor) as before:
        announce_last_call(supervisor)
        supervisor.close()
        with connected(worker) as after:
            shut_door(worker)
            late = knock(worker)
            waiting = list(take_waiting(worker))
            worker.close()

            for client, ours in zip((before, after), waiting, strict=True):
                client.sendall(b"ask")
                assert ours.recv(16) == b"ask"
                ours.sendall(b"answer")
                ours.close()
                assert client.recv(16) == b"answer"
    with late:
        _, writable, _ = select.select([], [late], [], WAIT_S)  # he knocks again after a second
        assert writable
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_who_is_replaced_leaves_the_door_open() -> None:
    with listening_on("127.0.0.1") as shared:
        leaver = shared.dup()
        shut_door(leaver)
        leaver.close()

        with connected(shared), shared.accept()[0] as ours:
            assert ours.fileno() > 0


def test_a_unix_socket_is_left_as_it_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        announce_last_call(listening)
        shut_door(listening)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            (ours,) = take_waiting(listening)
            client.sendall(b"ask")

            assert ours.recv(16) == b"ask"
            ours.close()


def test_taking_who_waits_does_not_wait() -> None:
    with listening_on("127.0.0.1") as listening:
        took: list[list[socket.socket]] = []
        taker = threading.Thread(target=lambda: took.append(list(take_waiting(listening))), daemon=True)
        taker.start()
        taker.join(WAIT_S)

        assert took == [[]]
