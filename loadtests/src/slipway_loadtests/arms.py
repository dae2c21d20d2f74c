"""Asks one arm over HTTP: one request, one answer, a deadline, and nothing tried twice.

It decides nothing and counts nothing. geventhttpclient parses the answers and keeps the connections (it is what
locust's FastHttpUser stands on); the request is written here, as bytes that were made once, because merging headers
for each request costs as much as the rest of it. The invariant: `ask` returns within the time it was given, and never
raises because of what a server does.
"""

import socket
import ssl
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import gevent  # type: ignore[import-untyped]  # it ships no types
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from slipway_loadtests.payloads import Payload
from slipway_signals.gate.load_plan import Target

__all__ = ["Asks", "HttpArm", "Reply", "host_and_port"]

BUNDLE_HEADER: Final = "x-slipway-bundle"
"""Which bundle answered; servers say it to load tests that they believe (docs/load.md)."""
BLOCK_BYTES: Final = 65_536
CONNECTION_ERRORS: Final = (OSError, HTTPConnectionClosed, HTTPParseError, ssl.SSLError)


class Reply(NamedTuple):
    """What came back."""

    status: int
    """HTTP's; 200 of gRPC's OK; 0: nothing came."""
    body: bytes = b""
    digest: str = ""
    """Of the bundle that answered; empty: it did not say."""
    failed: str | None = None
    """Why there is no usable answer: `timeout`, `connection`, `http_500`, …"""


class Asks(Protocol):
    """One arm, as the open loop sees it."""

    def ask(self, payload: Payload, timeout_s: float) -> Reply:
        """Send the payload and wait for its answer, `timeout_s` at most."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


class HttpArm:
    """An arm that answers JSON over HTTP/1.1.

    Args:
        target: whom to ask.
        connections: kept open at most.
        timeout_s: the longest that one answer is waited for.
        key: API key or token, or None.
    """

    def __init__(self, target: Target, connections: int, timeout_s: float, key: str | None) -> None:
        host, port, is_tls = host_and_port(target.url)
        kind = _TlsConnections if is_tls else _Connections
        self._pool = kind(
            host, port, host, port, size=connections, connection_timeout=timeout_s, network_timeout=timeout_s
        )
        proof = f"Authorization: Bearer {key}\r\n" if key else ""
        self._head = (
            f"Host: {urlsplit(target.url).netloc}\r\nUser-Agent: slipway-loadtests\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\n"
            f"X-Slipway-Synthetic: 1\r\n{proof}Content-Length: "
        ).encode("latin-1")

    def ask(self, payload: Payload, timeout_s: float) -> Reply:
        """Post it. A status of 400 and above is no failure where the payload is meant to be refused."""
        if timeout_s <= 0:
            return Reply(0, failed="timeout")
        length = b"%d\r\n\r\n" % len(payload.body)
        request = b"".join((b"POST ", payload.path.encode(), b" HTTP/1.1\r\n", self._head, length, payload.body))
        alarm = gevent.Timeout.start_new(timeout_s)
        try:
            response = self._exchange(request)
            body = bytes(response.read())
        except gevent.Timeout as rang:
            if rang is not alarm:
                raise
            return Reply(0, failed="timeout")
        except TimeoutError:
            return Reply(0, failed="timeout")
        except CONNECTION_ERRORS:
            return Reply(0, failed="connection")
        finally:
            alarm.close()
        status = response.get_code()
        digest = response.get(BUNDLE_HEADER)
        return Reply(
            status, body, digest if isinstance(digest, str) else "", None if status < 400 else f"http_{status}"
        )

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _exchange(self, request: bytes) -> HTTPSocketPoolResponse:
        sock = self._pool.get_socket()
        try:
            sock.sendall(request)
        except BaseException:
            self._pool.release_socket(sock)
            raise
        return HTTPSocketPoolResponse(sock, self._pool, block_size=BLOCK_BYTES, method="POST")


class _Connections(ConnectionPool):
    def after_connect(self, sock: socket.socket) -> None:
        """A request is one packet; waiting for more would add 40 ms."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _TlsConnections(SSLConnectionPool):
    """The same over TLS; the server must show a certificate that the system trusts, or `SSL_CERT_FILE`."""


def host_and_port(url: str) -> tuple[str, int, bool]:
    """Host, port and whether it is TLS, of a plan's URL."""
    parts = urlsplit(url)
    is_tls = parts.scheme.endswith("s")
    return parts.hostname or "", parts.port or (443 if is_tls else 80), is_tls
