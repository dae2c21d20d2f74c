"""The way of one gRPC call: fix the deadline, answer, measure. The counterpart of routes.py.

Messages arrive and leave as bytes: gRPC's own (de)serialisers would answer UNKNOWN for a message that is none, and
would not be measured. The invariant: every call that reaches us is counted once, every error leaves as a status of
status.py, and a cancelled call cancels what it waits for.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message

from slipway_serve.oip.status import code_of, message_of, trailers_of
from slipway_serve.problems import Problem, problem_of
from slipway_serve.routes import ServerState
from slipway_serve.stream_reply import IDLE_S, ClientStalledError

logger = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # bytes in, bytes out
Answer: TypeAlias = Callable[[bytes, Context], Awaitable[Message]]
Answers: TypeAlias = "asyncio.Queue[asyncio.Task[bytes] | None]"
Write: TypeAlias = Callable[[bytes], Awaitable[None]]

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
    """Counts calls of one method, and makes their errors tellable.

    Args:
        template: `/inference.GRPCInferenceService/ModelInfer`.
        server: whose metrics and limits apply.
    """

    def __init__(self, template: str, server: ServerState) -> None:
        self.template: Final = template
        self._server = server

    async def run(self, work: Awaitable[bytes], context: Context) -> bytes | Failure:
        """The answer, or why there is none; a cancellation passes through."""
        started = time.monotonic()
        status = 200
        self._server.metrics.active.add(1)
        try:
            return await work
        except asyncio.CancelledError:
            left_s = context.time_remaining()
            status = 504 if left_s is not None and left_s <= 0 else 499
            raise
        except ClientStalledError:
            status = 499
            raise
        except Exception as error:  # noqa: BLE001  # the top of the call's task: everything becomes an answer
            failure = self._failure(error)
            status = failure.problem.status
            return failure
        finally:
            self._server.metrics.active.add(-1)
            self._server.metrics.request(self.template, METHOD, status, time.monotonic() - started)

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
        result = await self._measured.run(self._work(raw, context), context)
        if isinstance(result, Failure):
            problem = result.problem
            await context.abort(code_of(problem), message_of(problem), trailers_of(problem, instance=result.instance))
        return result

    async def _work(self, raw: bytes, context: Context) -> bytes:
        return (await self._answer(raw, context)).SerializeToString()


class StreamRequest(Protocol):
    """One request of a stream, read. What it writes is bytes."""

    @property
    def is_streamed(self) -> bool:
        """It has any number of responses, in no order with those of others; if not: one, in its turn."""

    async def run(self, write: Write) -> bytes:
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
        is_stalled = False
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(context, writer, answers, group))
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

    async def _read(self, context: Context, writer: "_Writer", answers: "Answers", group: asyncio.TaskGroup) -> None:
        """Read while there is room; it can be cancelled between requests only, so that none is read and forgotten."""
        while True:
            await writer.slots.acquire()
            raw = await context.read()
            if raw is grpc.aio.EOF:
                break
            request = self._request(raw, context)
            if request.is_streamed:
                group.create_task(self._deliver(request, writer, context))
            else:
                answers.put_nowait(group.create_task(self._one(request, writer, context)))
        answers.put_nowait(None)

    async def _end(self, reading: "asyncio.Task[None]", answers: "Answers") -> None:
        await self._leaving.wait()
        if reading.cancel():
            answers.put_nowait(None)

    async def _deliver(self, request: StreamRequest, writer: "_Writer", context: Context) -> None:
        await writer.write_in_time(await self._one(request, writer, context))
        writer.slots.release()

    async def _one(self, request: StreamRequest, writer: "_Writer", context: Context) -> bytes:
        result = await self._measured.run(request.run(writer.write_in_time), context)
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
