"""The way of one request: read the body, fix the deadline, answer, measure. Nothing is decided here about batching.

`Route` is a raw ASGI handler: one per served path, built once. What differs between a model's rows, an endpoint, the
inference protocol and a page is only the `Handler` inside (handlers of what a service declares: handlers.py). Every
exit is measured once, a stream at its end, and every error leaves as a problem (problems.py).
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from slipway_serve.config import LimitsConfig
from slipway_serve.following import ATTEMPT_HEADER, ENVOY_HEADER, Following, is_repeated
from slipway_serve.problems import MEDIA_TYPE, Problem, body_of, problem_of
from slipway_serve.stream_reply import ClientStalledError, StreamReply
from slipway_serve.watching import BUNDLE_HEADER, Naming, is_synthetic
from slipway_signals.logs import RequestLog
from slipway_signals.traces_context import join_repeated
from slipway_signals.traces_record import RequestTrace
from slipway_signals.tracing import Tracer

if TYPE_CHECKING:
    from slipway_serve.access.entrance import Entrance

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = dict[bytes, bytes]

TIMEOUT_HEADER: Final = b"x-slipway-timeout-ms"
JSON: Final = (b"content-type", b"application/json")
CLOSE: Final = (b"connection", b"close")
NO_PARAMS: Final[Mapping[str, str]] = {}
HANG_UP_S: Final = 1.0
CONNECTION: Final = "slipway.connection"
"""Scope key under which our HTTP protocol puts itself (connections.py)."""


class Gauge(Protocol):
    """A number that goes up and down."""

    def add(self, amount: float) -> None:
        """Change it."""


class Count(Protocol):
    """A number that only grows."""

    def inc(self, amount: float = 1.0) -> None:
        """Add to it."""


class RequestMetrics(Protocol):
    """What a route reports; satisfied by `slipway_signals.ServiceMetrics`."""

    @property
    def active(self) -> Gauge:
        """Requests being answered now."""

    @property
    def synthetic(self) -> Count:
        """Requests of tests and probes, which `request` is not told of."""

    @property
    def repeated(self) -> Count:
        """Requests whose caller says that it asks again."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered."""

    def exemplify(self, route: str, method: str, status: int, seconds: float, trace_id: int, span_id: int) -> None:
        """A request that was counted has a trace that is kept."""


class Asked(NamedTuple):
    """One request, read to its end."""

    body: bytes
    headers: Headers
    deadline: float
    """Point in time on `time.monotonic()`."""
    params: Mapping[str, str]
    """Path parameters of the route's template."""
    trace: RequestTrace | None = None
    """Where its times are written down; None: traces are off."""


class Reply(NamedTuple):
    """What a handler gives back."""

    content: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,)
    status: int = 200
    stream: StreamReply | None = None
    """Instead of the content: items that have begun to come."""


class Handler(Protocol):
    """How a request becomes an answer."""

    async def __call__(self, asked: Asked) -> Reply:
        """Answer one request, or raise."""


class ServerState:
    """What all routes of one server share.

    Args:
        limits: of requests.
        metrics: hears of each.
        tracer: remembers those that failed, were slow, or were drawn; None: traces are off.
        log: writes a line about some of them; None: nobody reads it.
        naming: how requests are told apart, if somebody wants to know; None: nobody does.
        slow_s: above how many seconds an answer of a route breaks its latency objective; None: it has none.
        entrance: who may call; None: everybody.
    """

    __slots__ = ("entrance", "is_draining", "limits", "log", "metrics", "naming", "slow_s", "tracer")

    def __init__(
        self,
        limits: LimitsConfig,
        metrics: RequestMetrics,
        naming: Naming | None = None,
        *,
        tracer: Tracer | None = None,
        log: RequestLog | None = None,
        slow_s: Callable[[str], float | None] = lambda _: None,
        entrance: "Entrance | None" = None,
    ) -> None:
        self.entrance = entrance
        self.limits = limits
        self.metrics = metrics
        self.naming = naming
        self.tracer = tracer
        self.log = log
        self.slow_s = slow_s
        self.is_draining = False
        """True from SIGTERM on: answers carry `Connection: close`, `/readyz` says 503."""


class ProblemBytes(Protocol):
    """How a problem becomes the body of its response; `problems.body_of` or the protocol's form of it."""

    def __call__(self, problem: Problem, *, instance: str | None = None) -> bytes:
        """The problem as JSON bytes."""


class Route:
    """One method of one path as a raw ASGI handler.

    Args:
        template: the path as Litestar, metrics and logs name it.
        handler: turns the request into an answer.
        server: whose drain state, limits and metrics apply.
        deadline_s: length of the deadline when the client names none.
        method: `POST`, or `GET` (which answers `HEAD` too).
        accepts: media types of the body, without parameters; empty = any. `b""` stands for a request that names none,
            `image/*` for every image.
        problem_bytes: how an error is written; the inference protocol adds a member.
        slow_s: when an answer is slow, for traces, where no objective says it; None: learned.
        bundle: index digest of what answers here; a believed load test is told it. Empty: served from a folder.
    """

    def __init__(
        self,
        template: str,
        handler: Handler,
        server: ServerState,
        deadline_s: float,
        method: Literal["GET", "POST"] = "POST",
        accepts: tuple[bytes, ...] = (b"application/json",),
        problem_bytes: ProblemBytes = body_of,
        slow_s: float | None = None,
        bundle: str = "",
    ) -> None:
        self.template = template
        self._handler = handler
        self._server = server
        self._deadline_s = deadline_s
        self._methods = ("POST",) if method == "POST" else ("GET", "HEAD")
        self._accepts = frozenset(accepts) if method == "POST" else frozenset()
        self._limits: LimitsConfig = server.limits
        self._count = server.metrics.active.add
        self._count_repeated = server.metrics.repeated.inc
        self._problem_bytes = problem_bytes
        entrance = server.entrance
        self._body = self._read if entrance is None else entrance.body(template, self._read)
        self._headers = self._sent if entrance is None else entrance.headers(self._sent)
        following = (Following if entrance is None else entrance.following)(template, server, slow_s)
        self._is_followed = following.is_needed
        self._begin = following.begin
        self._end = following.end
        self._naming = server.naming
        self._bundle = (BUNDLE_HEADER, bundle.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; returns when the answer is with the transport."""
        started = time.monotonic()
        status = 200
        trace: RequestTrace | None = None
        self._count(1)
        connection = scope.get(CONNECTION)
        if connection is not None:
            connection.task = asyncio.current_task()
        try:
            self._check_method(scope["method"])
            headers: Headers = dict(scope["headers"])
            if (ATTEMPT_HEADER in headers or ENVOY_HEADER in headers) and is_repeated(headers):
                self._count_repeated()
            if self._is_followed:
                if len(headers) < len(scope["headers"]):
                    join_repeated(headers, scope["headers"])
                trace = self._begin(scope["method"], scope["path"], headers, started)
            body = await self._body(scope, receive, headers)
            if trace is not None:
                trace.received = time.monotonic()
            deadline = started + (self._asked_s(headers) if TIMEOUT_HEADER in headers else self._deadline_s)
            reply = await self._handler(Asked(body, headers, deadline, scope.get("path_params", NO_PARAMS), trace))
            status = reply.status
            if reply.stream is None:
                await self._send(send, status, reply.content, reply.headers)
            else:
                status = await reply.stream.deliver(send, self._headers(reply.headers))
        except ClientStalledError:
            status = 499
            await _hang_up(connection)
        except asyncio.CancelledError:
            status = 499
            if not _is_left(connection):
                raise
        except Exception as error:  # noqa: BLE001  # the top of the request's task: everything becomes an answer
            problem = problem_of(error)
            status = problem.status
            if trace is not None and status >= 500:
                trace.error_type = type(error).__name__
            await self._send_problem(send, problem, error)
        finally:
            if connection is not None:
                connection.task = None
            self._count(-1)
            self._end(scope["method"], status, started, trace)

    async def _read(self, scope: Scope, receive: Receive, headers: Headers) -> bytes:  # noqa: ARG002  # who asks
        limit = self._limits.body_bytes
        if (length := headers.get(b"content-length")) is not None and len(length) < 20 and int(length) > limit:
            raise _too_large(int(length), limit)
        media_type = headers.get(b"content-type", b"")
        if self._accepts and media_type not in self._accepts:
            self._check_media_type(media_type)
        message = await receive()
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(len(body), limit)
        if message.get("more_body"):
            chunks = [body]
            size = len(body)
            while message.get("more_body"):
                message = await receive()
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit:
                    raise _too_large(size, limit)
            body = b"".join(chunks)
        if message["type"] == "http.disconnect":
            raise Problem(499, "client_closed", "the client left before its request was complete")
        return body

    def _check_media_type(self, media_type: bytes) -> None:
        essence = media_type.split(b";", 1)[0].strip().lower()
        if essence not in self._accepts and essence.split(b"/", 1)[0] + b"/*" not in self._accepts:
            expected = " or ".join(sorted(kind.decode() for kind in self._accepts if kind))
            raise Problem(415, "media_type", f"content-type is {essence.decode('latin-1')!r}, expected {expected}")

    def _asked_s(self, headers: Headers) -> float:
        asked = headers[TIMEOUT_HEADER]
        try:
            asked_ms = float(asked)
        except ValueError:
            asked_ms = math.nan
        if not 0 < asked_ms < math.inf:
            name = TIMEOUT_HEADER.decode()
            raise Problem(400, "timeout_invalid", f"{name} is {asked.decode('latin-1')!r}, expected milliseconds > 0")
        return min(asked_ms, self._limits.deadline_ms) / 1_000

    async def _send(self, send: Send, status: int, content: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        sent = self._headers(headers)
        sent.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": content})

    def _sent(self, headers: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
        sent = [*headers, CLOSE] if self._server.is_draining else [*headers]
        if self._naming is not None and (name := self._naming.header()) is not None:
            sent.append(name)
        if self._naming is not None and is_synthetic():
            sent.append(self._bundle)
        return sent

    async def _send_problem(self, send: Send, problem: Problem, error: Exception) -> None:
        if problem.status == 499:
            return
        instance = uuid.uuid4().hex if problem.status == 500 else None
        if instance is not None:
            logger.error("request failed: %s, instance %s", self.template, instance, exc_info=error)
        content = self._problem_bytes(problem, instance=instance)
        await self._send(send, problem.status, content, problem_headers(problem))

    def _check_method(self, method: str) -> None:
        if method not in self._methods:
            allowed = ", ".join(self._methods)
            detail = f"method of {self.template} is {method!r}, expected {allowed}"
            raise Problem(405, "method_not_allowed", detail, headers=((b"allow", allowed.encode()),))


def problem_headers(problem: Problem) -> tuple[tuple[bytes, bytes], ...]:
    """Headers of a problem's response, without its length."""
    headers = [(b"content-type", MEDIA_TYPE), *problem.headers]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(problem.retry_after_s))))
    if problem.status in {408, 413}:
        headers.append(CLOSE)
    return tuple(headers)


def _is_left(connection: Any) -> bool:  # our own HTTP protocol (connections.py), which imports this module
    """Whether this task was cancelled because its own client left; if so the cancellation ends here, at its top."""
    task = asyncio.current_task()
    if connection is None or not connection.is_lost or task is None:
        return False
    task.uncancel()
    return True


async def _hang_up(connection: Any) -> None:
    """Let go of a client that does not read: an orderly close would wait until it has taken what is buffered."""
    if connection is None:
        return
    connection.transport.abort()
    try:
        await asyncio.sleep(HANG_UP_S)  # ended by the loss of the connection, which cancels this task
    except asyncio.CancelledError:
        if not _is_left(connection):
            raise


def _too_large(size: int, limit: int) -> Problem:
    return Problem(413, "body_too_large", f"the body has {size} bytes or more, expected at most {limit}")
