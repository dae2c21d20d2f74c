import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slipway_runtime.listeners import (
    AddressError,
    PortForbiddenError,
    PortInUseError,
    SocketInUseError,
    listen_tcp,
    listen_unix,
)


def test_port_0_says_the_real_port() -> None:
    listener = listen_tcp("127.0.0.1", 0)

    with socket.create_connection(("127.0.0.1", listener.port or 0)):
        pass
    listener.close()

    assert listener.address.startswith("http://127.0.0.1:")
    assert not listener.address.endswith(":0")


def test_a_port_in_use_is_named_with_a_way_out() -> None:
    first = listen_tcp("127.0.0.1", 0)

    with pytest.raises(PortInUseError) as caught:
        listen_tcp("127.0.0.1", first.port or 0)
    port = first.port
    first.close()

    assert caught.value.code == "port_in_use"
    assert f"port {port} is in use" in str(caught.value)
    assert f"lsof -i :{port}" in str(caught.value.hint)


def test_a_port_that_was_just_left_can_be_taken_again() -> None:
    """Without SO_REUSEADDR a connection in TIME_WAIT would hold it for a minute."""
    first = listen_tcp("127.0.0.1", 0)
    port = first.port or 0
    with socket.create_connection(("127.0.0.1", port)), socket.socket(fileno=os.dup(first.fd)) as listening:
        listening.accept()[0].close()
    first.close()

    again = listen_tcp("127.0.0.1", port)

    assert again.port == port
    again.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not")
def test_a_privileged_port_is_refused_with_a_hint() -> None:
    text = """
import os
from slipway_runtime.listeners import PortForbiddenError, listen_tcp

listen_tcp("127.0.0.1", 0).close()  # loads what is loaded late, while the files may be read
os.setuid(65534)
try:
    listen_tcp("127.0.0.1", 80)
except PortForbiddenError as error:
    print(error)
"""
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if lowest.exists() and int(lowest.read_text()) <= 80:
        pytest.skip("this system lets everybody open port 80")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)

    assert "port 80 may not be opened" in done.stdout
    assert "--port 8000" in done.stdout
    assert PortForbiddenError.code == "port_forbidden"


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70_000), ("192.0.2.1", 0)])
def test_an_address_that_is_not_ours_is_refused(host: str, port: int) -> None:
    with pytest.raises(AddressError, match="cannot be listened on"):
        listen_tcp(host, port)


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    listener = listen_tcp("::1", 0)
    listener.close()

    assert listener.address.startswith("http://[::1]:")


def test_a_unix_socket_is_made_with_its_mode_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"

    listener = listen_unix(path, mode=0o600)
    mode = stat.S_IMODE(path.stat().st_mode)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()

    assert mode == 0o600
    assert listener.address == f"unix:{path}"
    assert listener.port is None
    assert not path.exists()


def test_a_socket_file_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    listener = listen_unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(str(path)) == 0
    listener.close()


def test_a_socket_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = listen_unix(path)

    with pytest.raises(SocketInUseError, match="another process listens"):
        listen_unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    first.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")

    with pytest.raises(SocketInUseError, match="no socket"):
        listen_unix(path)

    assert path.read_text() == "precious"


def test_close_does_not_remove_a_successors_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = listen_unix(path)
    path.rename(tmp_path / "moved")  # keeps the inode in use, so that the successor gets another
    second = listen_unix(path)

    first.close()

    assert path.exists()
    second.close()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="too long"):
        listen_unix(tmp_path / ("s" * 120))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="No such file"):
        listen_unix(tmp_path / "no" / "s")
