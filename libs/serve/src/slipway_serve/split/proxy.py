"""The way of one request through the split: read, choose, ask, give back what is answered, count.

It decides nothing itself (routing.py) and copies nothing itself (tee.py). The invariants: an answer is handed on as it
comes, never collected; nothing that has begun to be answered is asked again; a request is asked twice only when it may
be, or when nothing of it had reached an arm; every request ends in exactly one count of the arm that had it.
"""

import asyncio
import logging
import time
import uuid
from email.utils import formatdate
from typing import Any, Final, Protocol

from slipway_serve.problems import Problem, body_of, problem_of
from slipway_serve.routes import CLOSE, CONNECTION, problem_headers
from slipway_serve.split.answered import Answered
from slipway_serve.split.arm_client import Answer, ArmFailed
from slipway_serve.split.assignment import STABLE
from slipway_serve.split.counting import SplitMetrics
from slipway_serve.split.request import ARM_HEADER, Request, answer_headers, request_headers
from slipway_serve.split.routing import Routing
from slipway_serve.stream_reply import ClientStalledError
from slipway_signals.metrics_split import Chosen

__all__ = ["Judge", "SplitApp"]

logger = logging.getLogger(__name__)

CLIENT_LEFT: Final = "client_left"


class Judge(Protocol):
    """Who counts what arms answer; satisfied by `Recorder`."""

    def answered(self, request: Request, arm: str, answered: Answered, *, is_judged: bool) -> None:
        """A request to an arm has ended; `is_judged`: it counts. HOT; must not wait or raise."""


class SplitApp:
    """The ASGI callable that uvicorn runs.

    Args:
        routing: in force; another one may be put in its place at any time.
        metrics: counts.
    """

    def __init__(self, routing: Routing, metrics: SplitMetrics) -> None:
        self.routing = routing
        self.judge: Judge | None = None
        """Hears of every answer under this routing; None: nobody."""
        self.is_draining = False
        """From SIGTERM on: answers carry `Connection: close`."""
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # ASGI's own untyped triple
        """Answer one request."""
        if scope["type"] != "http":
            return
        connection = scope.get(CONNECTION)
        if connection is not None:
            connection.task = asyncio.current_task()
        outgoing = _Outgoing(send, connection, self.routing.config.timeout_s)
        try:
            await self._answer(scope, receive, outgoing)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if connection is None or not connection.is_lost or task is None:
                raise
            task.uncancel()  # its own client left: the cancellation ends here, at its top
        except ClientStalledError:
            outgoing.cut()
        except Exception as error:  # noqa: BLE001  # the top of the request's task: everything becomes an answer
            await self._refuse(outgoing, error)
        finally:
            if connection is not None:
                connection.task = None

    async def _answer(self, scope: Any, receive: Any, outgoing: "_Outgoing") -> None:
        limit = self.routing.config.limits.body_bytes
        request = await _read(scope, receive, limit)
        routing, judge = self.routing, self.judge  # for this request, whatever is put in their place meanwhile
        started = time.monotonic()
        arm, chosen = routing.choose(request)
        may_repeat = request.may_repeat(is_repeatable=routing.repeatable.has(request.path))
        while True:
            try:
                await self._ask(routing, judge, request, arm, chosen, started, outgoing, may_repeat=may_repeat)
            except ArmFailed as failure:
                if outgoing.has_begun:
                    outgoing.cut()
                    return
                is_away = failure.is_unsent or (failure.reason == "connection" and may_repeat)
                if is_away and arm != STABLE and chosen != "override":
                    arm, chosen = STABLE, "fallback"
                    continue
                raise _problem(arm, failure) from failure
            return

    async def _ask(
        self,
        routing: Routing,
        judge: Judge | None,
        request: Request,
        arm: str,
        chosen: Chosen,
        started: float,
        outgoing: "_Outgoing",
        *,
        may_repeat: bool,
    ) -> None:
        """Ask one arm, hand its answer on, and count how it ended, whichever way."""
        self._metrics.asked(arm, chosen)
        config = routing.config
        headers = request_headers(request, dropped=routing.dropped)
        answered = Answered()
        answered.reason = "protocol"
        try:
            async with routing.clients[arm].ask(
                request.method, request.target, headers, request.body, config.timeout_s, may_repeat=may_repeat
            ) as answer:
                answered.status, answered.headers = answer.status, answer.headers
                extra = [(ARM_HEADER, arm.encode())] if config.tells_arm else []
                await self._hand_on(answer, answered, extra, outgoing)
            answered.reason = None
        except ArmFailed as failure:
            answered.reason = failure.reason
            raise
        except (asyncio.CancelledError, ClientStalledError):
            answered.reason = CLIENT_LEFT
            raise
        finally:
            answered.latency_us = int((time.monotonic() - started) * 1e6)
            self._metrics.answered(arm, answered)
            if judge is not None:
                judge.answered(request, arm, answered, is_judged=routing.is_judged(request, chosen))

    async def _hand_on(
        self, answer: Answer, answered: Answered, extra: list[tuple[bytes, bytes]], outgoing: "_Outgoing"
    ) -> None:
        """The answer, piece by piece; one piece that is all of it goes out with its length."""
        status = answer.status
        headers = answer_headers(answer.headers, status) + extra
        if self.is_draining:
            headers.append(CLOSE)
        chunk = await answer.chunk()
        answered.keep(chunk)
        await outgoing.begin(status, headers)
        while chunk and not answer.is_whole:
            await outgoing.send(chunk, more=True)
            chunk = await answer.chunk()
            answered.keep(chunk)
        answered.end()
        await outgoing.send(chunk, more=False)

    async def _refuse(self, outgoing: "_Outgoing", error: Exception) -> None:
        """Answer with a problem of our own, or hang up where an answer has begun."""
        problem = problem_of(error)
        self._metrics.refused(problem.stable_code)
        if outgoing.has_begun:
            logger.error("an answer was cut off", exc_info=error)
            outgoing.cut()
            return
        if problem.status == 499:
            return
        instance = uuid.uuid4().hex if problem.status == 500 else None
        if instance is not None:
            logger.error("request failed: instance %s", instance, exc_info=error)
        content = body_of(problem, instance=instance)
        date = (b"date", formatdate(usegmt=True).encode())
        headers = [*problem_headers(problem), (b"content-length", b"%d" % len(content)), date]
        await outgoing.begin(problem.status, [*headers, CLOSE] if self.is_draining else headers)
        await outgoing.send(content, more=False)


class _Outgoing:
    """The answer to the client, who must read it: each piece within `stall_s`."""

    def __init__(self, send: Any, connection: Any, stall_s: float) -> None:
        self._send = send
        self._connection = connection
        self._stall_s = stall_s
        self.has_begun = False

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, chunk: bytes, *, more: bool) -> None:
        message = {"type": "http.response.body", "body": chunk, "more_body": more}
        if not more:
            await self._send(message)
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await self._send(message)
        except TimeoutError as error:
            raise ClientStalledError from error

    def cut(self) -> None:
        """Break the connection: the client must not take a part for the whole."""
        if self._connection is not None:
            self._connection.transport.abort()


async def _read(scope: Any, receive: Any, limit: int) -> Request:
    """The whole request.

    Raises:
        Problem: 413, its body is larger than allowed; 499, the client left before all of it came.
    """
    size = 0
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(499, "client_closed", "the client left before its request was complete")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise Problem(413, "body_too_large", f"the body has {size} bytes or more, expected at most {limit}")
        if chunk:
            chunks.append(chunk)
        if not message.get("more_body"):
            break
    query = scope["query_string"]
    target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
    client = scope.get("client")
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return Request(
        method=scope["method"],
        path=scope["path"],
        target=target,
        headers=scope["headers"],
        body=body,
        client=client[0] if client else "",
        is_https=scope.get("scheme") == "https",
    )


def _problem(arm: str, failure: ArmFailed) -> Problem:
    """The client is told which arm, and not where it is."""
    logger.warning("arm_failed", extra={"arm": arm, "reason": failure.reason, "words": str(failure)})
    match failure.reason:
        case "timeout":
            return Problem(504, "arm_timeout", f"arm {arm!r} did not answer in time")
        case "busy":
            return Problem(503, "arm_busy", f"too many requests to arm {arm!r} are in flight", retry_after_s=1.0)
        case _:
            return Problem(502, "arm_failed", f"arm {arm!r} gave no usable answer")
