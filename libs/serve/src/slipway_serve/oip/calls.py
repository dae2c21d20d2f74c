"""The way of one gRPC call: hear its metadata, answer, follow it to its end. The counterpart of routes.py.

Messages arrive and leave as bytes: gRPC's own (de)serialisers would answer UNKNOWN for a message that is none, and
would not be measured. The invariant: every request that reaches us, of a stream each of its own, is counted, named,
traced and logged once, as over HTTP; every error leaves as a status of status.py, and a cancelled call cancels what it
waits for. Metadata are the headers of HTTP, under the same names.
"""

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message

from slipway_serve.following import Following, is_repeated
from slipway_serve.oip.status import CODES, code_of, message_of, trailers_of
from slipway_serve.problems import Problem, problem_of
from slipway_serve.routes import Headers, ServerState
from slipway_serve.stream_reply import IDLE_S, ClientStalledError
from slipway_signals.traces_context import join_repeated
from slipway_signals.traces_record import RequestTrace, current_trace

logger = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # bytes in, bytes out
Answer: TypeAlias = Callable[[bytes, Context], Awaitable[Message]]
Answers: TypeAlias = "asyncio.Queue[asyncio.Task[bytes] | None]"
Write: TypeAlias = Callable[[bytes], Awaitable[None]]
Metadata: TypeAlias = tuple[tuple[str, str], ...]

METHOD: Final = "POST"
"""gRPC is POST over HTTP/2; the metrics' label is a closed set."""
STREAM_DEPTH: Final = 8
"""Requests of one stream that are read and not answered yet."""


class Failure(NamedTuple):
    """An error on its way to the client."""

    problem: Problem
    instance: str | None
    """A reference that the log carries too; only for errors of ours."""


class Measured:
    """Follows the requests of one method, and makes their errors tellable.

    Args:
        template: `/inference.GRPCInferenceService/ModelInfer`.
        server: whose metrics and limits apply, and what names, traces and logs its requests.
        slow_s: as of `Following`.
    """

    def __init__(self, template: str, server: ServerState, slow_s: float | None = None) -> None:
        self.template: Final = template
        entrance = server.entrance
        self._following = (Following if entrance is None else entrance.following)(template, server, slow_s)
        self._let_in = None if entrance is None else entrance.call(template)
        self._server = server

    def hear(self, context: Context) -> Headers:
        """The metadata of a call as headers; takes 2 us. Of several `traceparent` gRPC hands out the last only."""
        pairs = [
            (name.encode(), value if isinstance(value, bytes) else value.encode(errors="replace"))
            for name, value in context.invocation_metadata() or ()
        ]
        headers = dict(pairs)
        if len(headers) < len(pairs):
            join_repeated(headers, pairs)
        if is_repeated(headers):
            self._server.metrics.repeated.inc()
        return headers

    def settle(self, headers: Headers) -> Metadata:
        """Name a call whose requests are many; what its client is told of it."""
        naming = self._following.naming
        return _metadata(None if naming is None else naming.settle(headers))

    def named(self) -> Metadata:
        """What the client is told of the request that this task has answered."""
        naming = self._following.naming
        return _metadata(None if naming is None else naming.header())

    async def run(
        self, work: Coroutine[Any, Any, bytes], context: Context, headers: Headers | None = None, number: int = 0
    ) -> bytes | Failure:
        """The answer, or why there is none; a cancellation passes through.

        Args:
            work: makes the answer.
            context: of the call.
            headers: its metadata; None: nothing is known of who asks.
            number: of the request in its call.
        """
        started = time.monotonic()
        status, code = 200, grpc.StatusCode.OK
        trace: RequestTrace | None = None
        self._server.metrics.active.add(1)
        try:
            if headers is not None and self._following.is_needed:
                trace = self._following.begin(METHOD, self.template, headers, started, number)
            if self._let_in is not None:
                await self._ask_who(work, context, headers or {})
            return await work
        except asyncio.CancelledError:
            left_s = context.time_remaining()
            status = 504 if left_s is not None and left_s <= 0 else 499
            code = CODES[status]
            raise
        except ClientStalledError:
            status, code = 499, grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001  # the top of the call's task: everything becomes an answer
            failure = self._failure(error)
            status, code = failure.problem.status, code_of(failure.problem)
            if trace is not None and status >= 500:
                trace.error_type = type(error).__name__
            return failure
        finally:
            self._server.metrics.active.add(-1)
            if trace is not None:
                trace.rpc_status = code.name
            self._following.end(METHOD, status, started, trace)

    async def _ask_who(self, work: Coroutine[Any, Any, bytes], context: Context, headers: Headers) -> None:
        """Ask who it is; work that is not let in is never begun."""
        if self._let_in is not None:
            try:
                await self._let_in(headers, context)
            except BaseException:
                work.close()
                raise

    def _failure(self, error: Exception) -> Failure:
        problem = problem_of(error)
        instance = uuid.uuid4().hex if problem.status == 500 else None
        if instance is not None:
            logger.error("request failed: %s, instance %s", self.template, instance, exc_info=error)
        return Failure(problem, instance)


class Unary:
    """One request, one answer."""

    def __init__(self, measured: Measured, answer: Answer) -> None:
        self._measured = measured
        self._answer = answer

    async def serve(self, raw: bytes, context: Context) -> bytes:
        """Answer, or end the call with a status."""
        headers = self._measured.hear(context)
        result = await self._measured.run(self._work(raw, context), context, headers)
        named = self._measured.named()
        if isinstance(result, Failure):
            problem = result.problem
            trailers = (*trailers_of(problem, instance=result.instance), *named)
            await context.abort(code_of(problem), message_of(problem), trailers)
        if named:
            context.set_trailing_metadata(named)
        return result

    async def _work(self, raw: bytes, context: Context) -> bytes:
        return encoded((await self._answer(raw, context)).SerializeToString())


class StreamRequest(Protocol):
    """One request of a stream, read. What it writes is bytes."""

    @property
    def is_streamed(self) -> bool:
        """It has any number of responses, in no order with those of others; if not: one, in its turn."""

    def run(self, write: Write) -> Coroutine[Any, Any, bytes]:
        """Work; `write` all responses but the last, and return that one."""

    def failure(self, failure: Failure) -> bytes:
        """The last response to a request that failed."""


class Stream:
    """Many requests and their responses; up to STREAM_DEPTH are worked on at once.

    Ordinary models answer in the order of their requests, stream models as their items come (Triton's rule for
    decoupled models). A client that takes nothing for `idle_s` while a stream model waits for it is let go.

    Args:
        measured: each request counts as one.
        read: makes a request of a message.
        leaving: set when the server drains: what was read is answered, then the stream ends.
        idle_s: seconds that a client may let a stream model's response wait.
    """

    def __init__(
        self,
        measured: Measured,
        read: Callable[[bytes, Context], StreamRequest],
        leaving: asyncio.Event,
        idle_s: float = IDLE_S,
    ) -> None:
        self._measured = measured
        self._request = read
        self._leaving = leaving
        self._idle_s = idle_s

    async def serve(self, requests: object, context: Context) -> None:  # noqa: ARG002  # read from the context
        """Answer until the client has asked everything, or the server leaves."""
        answers: Answers = asyncio.Queue()
        writer = _Writer(context, self._idle_s)
        headers = self._measured.hear(context)
        if named := self._measured.settle(headers):
            await writer.begin(named)
        is_stalled = False
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(context, headers, writer, answers, group))
                ending = group.create_task(self._end(reading, answers))
                while (answer := await answers.get()) is not None:
                    await writer.write(await answer)
                    writer.slots.release()
                ending.cancel()
        except* ClientStalledError:
            is_stalled = True
        if is_stalled:  # it is told when it reads on; gRPC has no way to hang up
            await context.abort(grpc.StatusCode.CANCELLED, f"the client did not read for {self._idle_s:g} s")
        if reading.cancelled():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining; open another stream")

    async def _read(
        self, context: Context, headers: Headers, writer: "_Writer", answers: "Answers", group: asyncio.TaskGroup
    ) -> None:
        """Read while there is room; it can be cancelled between requests only, so that none is read and forgotten."""
        for number in itertools.count():
            await writer.slots.acquire()
            raw = await context.read()
            if raw is grpc.aio.EOF:
                break
            request = self._request(raw, context)
            answer = partial(self._one, request, writer, context, headers, number)
            if request.is_streamed:
                group.create_task(_deliver(answer, writer))
            else:
                answers.put_nowait(group.create_task(answer()))
        answers.put_nowait(None)

    async def _end(self, reading: "asyncio.Task[None]", answers: "Answers") -> None:
        await self._leaving.wait()
        if reading.cancel():
            answers.put_nowait(None)

    async def _one(
        self, request: StreamRequest, writer: "_Writer", context: Context, headers: Headers, number: int
    ) -> bytes:
        result = await self._measured.run(request.run(writer.write_in_time), context, headers, number)
        return request.failure(result) if isinstance(result, Failure) else result


class _Writer:
    """The responses of one call, one after another: gRPC takes the next when the client has room for it."""

    def __init__(self, context: Context, idle_s: float) -> None:
        self.slots = asyncio.Semaphore(STREAM_DEPTH)
        """Requests that may be read."""
        self._context = context
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._serving = asyncio.current_task()

    async def begin(self, metadata: Metadata) -> None:
        """Send what goes before the first response. A client that left ends the call."""
        try:
            await self._context.send_initial_metadata(metadata)
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None

    async def write(self, response: bytes) -> None:
        """Hand a response to gRPC; waits as long as the client does not read. A client that left ends the call."""
        await self._turn.acquire()
        try:
            await self._context.write(response)
        except grpc.aio.InternalError:
            if self._serving is not None:
                self._serving.cancel()
            raise asyncio.CancelledError from None
        self._turn.release()  # never after a write that was cut off: gRPC is still at it, and refuses a second one

    async def write_in_time(self, response: bytes) -> None:
        """The same for at most `idle_s`; raises ClientStalledError then."""
        try:
            async with asyncio.timeout(self._idle_s):
                await self.write(response)
        except TimeoutError as error:
            raise ClientStalledError from error


def encoded(answer: bytes) -> bytes:
    """The answer of the request of this task, which is bytes now."""
    trace = current_trace.get()
    if trace is not None:
        trace.encoded = time.monotonic()
    return answer


async def _deliver(answer: Callable[[], Awaitable[bytes]], writer: _Writer) -> None:
    """The responses of a stream model, the last one included."""
    await writer.write_in_time(await answer())
    writer.slots.release()


def _metadata(header: tuple[bytes, bytes] | None) -> Metadata:
    return () if header is None else ((header[0].decode(), header[1].decode()),)
