"""Our HTTP protocol: uvicorn's httptools one, with the limits it lacks and a way to notice that a client left.

uvicorn 0.54 bounds neither the size of headers nor the time in which headers and body must arrive, so a few thousand
slow clients hold a server (slowloris). The limits here cost nothing on the hot path: `sweep`, called once a second by
the server, looks for requests that take too long. Answers are problems, as everywhere.
"""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from slipway_serve.config import LimitsConfig
from slipway_serve.problems import Problem, body_of
from slipway_serve.routes import CONNECTION, problem_headers


class Connection(HttpToolsProtocol):
    """One client connection. `limits` is set on a subclass by `protocol_for`, because uvicorn constructs us."""

    limits: ClassVar[LimitsConfig] = LimitsConfig()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Start the clock of the first headers; refuse when too many clients are here."""
        self.task: asyncio.Task[Any] | None = None
        """The task that answers the current request; cancelled when the client leaves."""
        self.is_lost = False
        self._reads_headers = True
        self._header_bytes = 0
        self._since = self.loop.time()
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(
                Problem(
                    503, "too_many_connections", f"{self.limits.connections} clients are connected", retry_after_s=1
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop working for a client that is gone: its queued rows are freed."""
        self.is_lost = True
        super().connection_lost(exc)
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse, unless the headers are larger than allowed: in one large chunk, or over many small ones."""
        limit = self.limits.header_bytes
        if len(data) <= limit or self._header_size(data) <= limit:
            super().data_received(data)
            if not self._reads_headers:
                return
            self._header_bytes += len(data)
            if self._header_bytes <= limit:
                return
        if not self.transport.is_closing():
            self._refuse(Problem(431, "headers_too_large", f"the headers have more than {limit} bytes"))

    def on_message_begin(self) -> None:
        """A new request: its clock and its header count start."""
        super().on_message_begin()
        self._reads_headers = True
        self._since = self.loop.time()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]  # our own key

    def on_headers_complete(self) -> None:
        """Headers are in; uvicorn starts the request's task."""
        self._reads_headers = False
        self._header_bytes = 0
        super().on_headers_complete()

    @property
    def is_awaited(self) -> bool:
        """Whether the client's first request, or one that it has begun, is still on its way."""
        return self._reads_headers and not self.transport.is_closing()

    def sweep(self, now: float) -> None:
        """Answer 408 and close when headers or body take longer than allowed; called once a second."""
        if self.transport.is_closing():
            return
        waited_s = now - self._since
        if self._reads_headers:
            if waited_s > self.limits.headers_s:
                self._refuse(Problem(408, "headers_timeout", f"no complete headers within {self.limits.headers_s:g} s"))
        elif self.cycle.more_body and not self.cycle.response_started and waited_s > self.limits.body_s:
            self._refuse(Problem(408, "body_timeout", f"no complete body within {self.limits.body_s:g} s"))

    def send_400_response(self, msg: str) -> None:
        """Not HTTP: say so in the same shape as every other error."""
        self._refuse(Problem(400, "http_invalid", msg.rstrip(".").lower()))

    def _refuse(self, problem: Problem) -> None:
        """Answer without the application, and close."""
        content = body_of(problem)
        headers = [*problem_headers(problem), (b"content-length", b"%d" % len(content)), (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in dict(headers).items()]
        self.transport.write(b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", content]))
        self.transport.close()

    def _header_size(self, data: bytes) -> int:
        """Bytes of headers in a large chunk, which may hold body too."""
        if not self._reads_headers and self.cycle is not None and self.cycle.more_body:
            return 0
        end = data.find(b"\r\n\r\n")
        return len(data) if end < 0 else end


def protocol_for(limits: LimitsConfig) -> type[Connection]:
    """The protocol class with these limits."""
    return type("Connection", (Connection,), {"limits": limits})
