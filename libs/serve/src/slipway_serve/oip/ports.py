"""Keeps a TCP port for several gRPC servers that share it, one in each API worker.

It listens on nothing and imports no gRPC, because the supervisor calls it. gRPC opens its own sockets and cannot take
one that is open already, so the workers bind the port themselves with SO_REUSEPORT, and the kernel spreads connections
over those that listen. The invariant: from `reserve_port` to `close` nobody of another user gets the port, a restarted
worker finds it again, and a server that was there before is refused instead of being joined.
"""

import errno
import socket

from slipway_runtime.listeners import AddressError, PortForbiddenError, PortInUseError


class ReservedPort:
    """A bound socket that does not listen: no connection ever comes to it."""

    def __init__(self, bound: socket.socket, host: str) -> None:
        self._socket = bound
        self.host = host
        self.port = int(bound.getsockname()[1])
        """The port that it really has."""

    def close(self) -> None:
        """Let the port go; servers that listen on it keep it."""
        self._socket.close()


def reserve_port(host: str, port: int) -> ReservedPort:
    """Keep `host:port` for servers of this user; port 0 takes a free one.

    Raises:
        PortInUseError: when another process has the port.
        PortForbiddenError: when the port needs the administrator's rights.
        AddressError: when the host is unknown or not of this machine, or the system cannot share ports.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise AddressError("this system cannot share a port between workers", hint="serve REST only: `grpc = false`")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError, OverflowError) as error:
        raise AddressError(f"`{host}:{port}` cannot be used for gRPC: {error}") from error
    bound = socket.socket(family, kind, protocol)
    try:
        if port:  # one that shares the port would let us in, and then take half of our connections
            with socket.socket(family, kind, protocol) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _error(host, port, error) from error
    return ReservedPort(bound, host)


def _error(host: str, port: int, error: OSError) -> PortInUseError | PortForbiddenError | AddressError:
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"port {port} is in use: another process listens on {host}:{port}",
            hint=f"stop it (`lsof -i :{port}` names it), or choose another with `--grpc-port`; 0 takes a free one",
            host=host,
            port=port,
        )
    if error.errno == errno.EACCES:
        return PortForbiddenError(
            f"port {port} may not be opened by this user: ports below 1024 need the administrator's rights",
            hint="choose a port from 1024 up, such as `--grpc-port 8001`",
            host=host,
            port=port,
        )
    return AddressError(f"`{host}:{port}` cannot be used for gRPC: {error.strerror or error}")
