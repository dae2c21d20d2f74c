"""One arm over HTTP/1.1: connections that are kept, one exchange at a time on each. Event loop only.

It chooses nothing, and repeats only what a connection from before has swallowed. The invariants: every wait has a
deadline; a connection is used again only after an answer that was read to its end; what an arm says is never held in
memory beyond `HIGH_BYTES` and one read.
llhttp parses (httptools, as in uvicorn); httpx in the same place costs several times as much: docs/adr/0029.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import httptools

from slipway_bundle import ConfigError

__all__ = ["Answer", "ArmClient", "ArmFailed", "Reason"]

IDLE_S: Final = 4.0
"""Idle connections are closed before the other side does it, which is after 5 s in uvicorn."""
HIGH_BYTES: Final = 256 * 1024
"""Of an answer that wait to be sent on, before nothing more is read."""
HEADER_BYTES: Final = 256 * 1024
BODYLESS: Final = frozenset({204, 304})

Reason = Literal["connection", "timeout", "protocol", "busy"]
Pairs = list[tuple[bytes, bytes]]


class ArmFailed(Exception):
    """An arm gave no answer, or stopped in the middle of one.

    Args:
        reason: what kind of failure.
        words: what happened.
        is_unsent: nothing of the request has reached the arm.
        is_stale: a connection from before broke without a byte of an answer.
    """

    def __init__(self, reason: Reason, words: str, *, is_unsent: bool = False, is_stale: bool = False) -> None:
        super().__init__(words)
        self.reason = reason
        self.is_unsent = is_unsent
        self.is_stale = is_stale


class _Wire(asyncio.Protocol):
    """One connection, and the answer that it brings now."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.is_lost = False
        self.used = 0
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: Pairs = []
        self.has_head = self.is_done = self.keeps_alive = False
        self.is_touched = False
        self._is_bodyless = False
        self._ends_with_connection = False
        self._is_paused = False
        self._chunks: deque[bytes] = deque()
        self._size = self._head_bytes = 0
        self._error: ArmFailed | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)  # what asyncio gives for TCP and TLS

    def connection_lost(self, exc: Exception | None) -> None:
        """It is not any more; an answer without a length ends so."""
        self.is_lost = True
        if self.has_head and not self.is_done and self._ends_with_connection and exc is None:
            self.is_done = True
        elif not self.is_done and self._error is None:
            words = f"the connection broke: {exc}" if exc is not None else "it closed the connection"
            self._error = ArmFailed("connection", words, is_stale=self.used > 1 and not self.is_touched)
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Parse; the callbacks below hear what it is."""
        self.is_touched = True
        if self.is_done:  # nobody asked for more
            self.close()
            return
        if not self.has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail("protocol", f"its answer is not HTTP/1.1: {error}")
        if not self.has_head and self._head_bytes > HEADER_BYTES:
            self._fail("protocol", f"the headers of its answer have more than {HEADER_BYTES} bytes")

    def on_message_begin(self) -> None:
        """An answer, or an informational one before it."""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Status and headers are here."""
        status = self._parser.get_status_code()
        if status < 200:  # 100, 103: more comes
            return
        if status >= 600:
            self._fail("protocol", f"it answered with the status {status}")
            return
        self.status, self.has_head = status, True
        if self._is_bodyless:
            self.is_done = True  # the parser does not know that HEAD was asked: the connection is not used again
        elif status not in BODYLESS:
            names = {name for name, _ in self.headers}
            self._ends_with_connection = not names & {b"content-length", b"transfer-encoding"}
        self._wake()

    def on_body(self, body: bytes) -> None:
        """A piece; when too many wait, nothing more is read."""
        if self._is_bodyless:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > HIGH_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """All of it is here."""
        if not self.has_head:
            return
        self.keeps_alive = not self._is_bodyless and self._parser.should_keep_alive()
        self.is_done = True
        self._wake()

    def send(self, head: bytes, body: bytes, *, is_head: bool) -> None:
        """Write a request; the answer is read into this object."""
        self._begin()
        self.used += 1
        self._is_bodyless = is_head
        if self._transport is None or self._transport.is_closing():
            self.connection_lost(None)
            return
        if body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)

    async def head(self, timeout_s: float) -> None:
        """Wait for status and headers. Raises ArmFailed."""
        while not self.has_head:
            if self._error is not None:
                raise self._error
            await self._wait(timeout_s, "it did not begin to answer")

    async def chunk(self, timeout_s: float) -> bytes:
        """What has come of the body, waiting if nothing has; b"" at its end. Raises ArmFailed."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.is_done:
                return b""
            await self._wait(timeout_s, "nothing more of its answer came")
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return body

    @property
    def has_more(self) -> bool:
        """Whether something waits for `chunk`."""
        return bool(self._chunks)

    def close(self) -> None:
        """Close the connection, whatever it is at."""
        self.is_lost = True
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, timeout_s: float, words: str) -> None:
        waiter = self._waiter = self._loop.create_future()
        late = self._loop.call_later(timeout_s, self._fail, "timeout", f"{words} within {timeout_s:g} s")
        try:
            await waiter
        finally:
            late.cancel()
            self._waiter = None

    def _fail(self, reason: Reason, words: str) -> None:
        if self._error is None:
            self._error = ArmFailed(reason, words)
        self.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Answer:
    """An answer that has begun. Valid inside the `ask` that gave it."""

    def __init__(self, wire: _Wire, timeout_s: float) -> None:
        self._wire = wire
        self._timeout_s = timeout_s
        self.status: Final = wire.status
        self.headers: Final = wire.headers
        """Names in lower case."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it has been given out."""
        return self._wire.is_done and not self._wire.has_more

    async def chunk(self) -> bytes:
        """The next piece of the body; b"" at its end. Raises ArmFailed."""
        return await self._wire.chunk(self._timeout_s)


class ArmClient:
    """The connections to one arm.

    Args:
        url: `http://HOST:PORT` or `https://…`.
        connect_s: in which a connection must come about.
        connections: requests in flight at most.
        ca: PEM file for https; None: the system's.

    Raises:
        ConfigError: the CA cannot be read.
    """

    def __init__(self, url: str, *, connect_s: float, connections: int, ca: str | None = None) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.authority: Final = parts.netloc.encode("ascii")
        """What is sent as `Host`."""
        self._tls = _context(ca) if parts.scheme == "https" else None
        self._connect_s = connect_s
        self._limit = connections
        self._idle: list[_Wire] = []
        self.active = 0
        """Requests under way."""
        self._is_closed = False

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        timeout_s: float,
        *,
        may_repeat: bool = False,
    ) -> AsyncIterator[Answer]:
        """Send one request; inside the block its answer can be read. Leaving early closes the connection.

        Args:
            method: as received.
            target: path and query, as bytes on the wire.
            headers: all but `Host` and `Content-Length`, without line breaks.
            body: whole.
            timeout_s: until the answer begins, and between its pieces.
            may_repeat: when a connection from before breaks without a word, as one does that the arm was closing, send
                the request once more on a new one.

        Raises:
            ArmFailed: no answer.
        """
        if self.active >= self._limit:
            raise ArmFailed("busy", f"{self._limit} requests to it are in flight", is_unsent=True)
        self.active += 1
        wire: _Wire | None = None
        try:
            head = self._head(method, target, headers, body)
            wire = self._take() or await self._connect()
            wire.send(head, body, is_head=method == "HEAD")
            try:
                await wire.head(timeout_s)
            except ArmFailed as failure:
                if not (failure.is_stale and may_repeat):
                    raise
                wire = await self._connect()
                wire.send(head, body, is_head=method == "HEAD")
                await wire.head(timeout_s)
            yield Answer(wire, timeout_s)
        finally:
            self.active -= 1
            if wire is not None:
                self._give_back(wire)

    def sweep(self, now: float) -> None:
        """Close what was idle too long; called about once a second. `now` is the loop's time."""
        while self._idle and (self._idle[0].is_lost or now - self._idle[0].idle_since > IDLE_S):
            self._idle.pop(0).close()

    def close(self) -> None:
        """Close idle connections now, and those in use when their answers are over."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Wire | None:
        """The connection that was used last, if it still is one."""
        while self._idle:
            wire = self._idle.pop()
            if not wire.is_lost:
                return wire
        return None

    def _give_back(self, wire: _Wire) -> None:
        if wire.is_done and wire.keeps_alive and not wire.is_lost and not self._is_closed:
            wire.idle_since = asyncio.get_running_loop().time()
            self._idle.append(wire)
        else:
            wire.close()

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, wire = await loop.create_connection(
                    lambda: _Wire(loop), self._host, self._port, ssl=self._tls, server_hostname=None
                )
        except TimeoutError as error:
            raise ArmFailed("connection", f"no connection within {self._connect_s:g} s", is_unsent=True) from error
        except OSError as error:
            raise ArmFailed("connection", f"no connection: {error.strerror or error}", is_unsent=True) from error
        return wire

    def _head(self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
        parts = [method.encode("ascii"), b" ", target, b" HTTP/1.1\r\nhost: ", self.authority, b"\r\n"]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if body or method not in {"GET", "HEAD", "OPTIONS", "DELETE"}:
            parts.append(b"content-length: %d\r\n" % len(body))
        parts.append(b"\r\n")
        return b"".join(parts)


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # SSLError is one
        raise ConfigError(f"the CA file `{ca}` cannot be used: {error.strerror or error}") from error
