"""Opens the sockets that a supervisor owns: TCP and Unix, so that the death of a worker refuses no connection.

It accepts nothing. The invariant: a Unix socket file is removed only when nobody listens behind it or when this
process made it; two supervisors that start at once cannot both get it.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from slipway_bundle.errors import HostError, UsageError
from slipway_runtime.last_call import announce_last_call

__all__ = [
    "AddressError",
    "Listener",
    "PortForbiddenError",
    "PortInUseError",
    "SocketInUseError",
    "listen_tcp",
    "listen_unix",
]

BACKLOG = 2048
"""uvicorn's default; the kernel cuts it to `net.core.somaxconn`."""
PATH_BYTES = 103
"""The longest Unix socket path that Linux (107) and macOS (103) both take."""


class PortInUseError(HostError):
    """Another process listens on the port."""

    code = "port_in_use"


class PortForbiddenError(HostError):
    """The port is one of those (below 1024) that only the administrator may open."""

    code = "port_forbidden"


class SocketInUseError(HostError):
    """Another process listens on the Unix socket, or the path is something else."""

    code = "socket_in_use"


class AddressError(UsageError):
    """The address cannot be listened on: unknown host, not of this machine, path too long."""

    code = "address_unusable"


class Listener:
    """A listening socket that this process owns. `close` removes what it made."""

    def __init__(self, listening: socket.socket, address: str, path: Path | None = None) -> None:
        self._socket = listening
        self.address = address
        """For people: `http://127.0.0.1:8000` or `unix:/run/churn.sock`."""
        self._path = path
        self._inode = path.stat().st_ino if path is not None else None

    @property
    def fd(self) -> int:
        """The descriptor, to be passed to workers."""
        return self._socket.fileno()

    @property
    def port(self) -> int | None:
        """The TCP port it really has; None for a Unix socket."""
        return None if self._path is not None else int(self._socket.getsockname()[1])

    def announce_last_call(self) -> None:
        """Whoever leaves from now on leaves for good."""
        announce_last_call(self._socket)

    def close(self) -> None:
        """Stop listening and remove the socket file, unless somebody else has put his own there."""
        self._socket.close()
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError), _alone(self._path.parent):
                if self._path.lstat().st_ino == self._inode:
                    self._path.unlink()


def listen_tcp(host: str, port: int, *, backlog: int = BACKLOG) -> Listener:
    """Listen on `host:port`; port 0 takes a free one, `Listener.port` says which.

    Raises:
        PortInUseError: when another process listens there.
        PortForbiddenError: when the port needs the administrator's rights.
        AddressError: when the host is unknown or not of this machine.
    """
    if not 0 <= port <= 65_535:  # the C library would take it modulo 65536
        raise _address_error(host, port, "there is no such port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise _address_error(host, port, str(error)) from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise _tcp_error(host, port, error) from error
    shown = f"[{host}]" if ":" in host else host or "0.0.0.0"  # noqa: S104 - said, not chosen
    return Listener(listening, f"http://{shown}:{listening.getsockname()[1]}")


def listen_unix(path: Path, *, mode: int = 0o660, backlog: int = BACKLOG) -> Listener:
    """Listen on the Unix socket `path`; a file that a dead process left there is replaced.

    Args:
        path: Where the socket file is made.
        mode: Its permissions; they hold before the first connection is accepted.
        backlog: Connections that wait to be accepted.

    Raises:
        SocketInUseError: when somebody listens there, or the path is not a socket.
        AddressError: when the path is too long or its folder cannot be written.
    """
    if len(os.fsencode(path)) > PATH_BYTES:
        raise AddressError(
            f"the socket path is too long: {len(os.fsencode(path))} bytes, at most {PATH_BYTES}: `{path}`",
            hint="systems allow about 100 bytes; put the socket in a folder with a shorter name",
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone(path.parent):
            _clear(path)
            listening.bind(os.fspath(path))
            path.chmod(mode)
            listening.listen(backlog)
            return Listener(listening, f"unix:{path}", path)
    except OSError as error:
        listening.close()
        raise AddressError(f"the socket `{path}` cannot be made: {error.strerror or error}") from error
    except SocketInUseError:
        listening.close()
        raise


def _clear(path: Path) -> None:
    """Remove a socket file nobody listens behind; refuse everything else that is there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketInUseError(
            f"the socket `{path}` cannot be made: a file that is no socket is there",
            hint="nothing was removed; choose another path",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise SocketInUseError(f"the socket `{path}` is there and does not answer: {error}") from error
    raise SocketInUseError(
        f"the socket `{path}` is in use: another process listens on it",
        hint="stop that process, or choose another path",
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that looking at a socket file and replacing it is one step for all of us."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _tcp_error(host: str, port: int, error: OSError) -> HostError | AddressError:
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"port {port} is in use: another process listens on {host}:{port}",
            hint=f"stop it (`lsof -i :{port}` names it), or choose another with `--port`; 0 takes a free one",
            host=host,
            port=port,
        )
    if error.errno == errno.EACCES:
        return PortForbiddenError(
            f"port {port} may not be opened by this user: ports below 1024 need the administrator's rights",
            hint="choose a port from 1024 up, such as `--port 8000`",
            host=host,
            port=port,
        )
    return _address_error(host, port, error.strerror or str(error))


def _address_error(host: str, port: int, why: str) -> AddressError:
    return AddressError(
        f"the address {host}:{port} cannot be listened on: {why}",
        hint="`--host` is an address of this machine (127.0.0.1, 0.0.0.0, ::), `--port` is 0 to 65535",
        host=host,
        port=port,
    )
