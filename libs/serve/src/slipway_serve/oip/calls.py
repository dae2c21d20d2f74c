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

logger = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # bytes in, bytes out
Answer: TypeAlias = Callable[[bytes, Context], Awaitable[Message]]
Answers: TypeAlias = "asyncio.Queue[asyncio.Task[bytes] | None]"

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


class StreamWords(Protocol):
    """What a stream of answers carries."""

    def answer(self, message: Message) -> bytes:
        """An answer."""

    def failure(self, raw: bytes, problem: Problem) -> bytes:
        """Why the request in these bytes has none."""


class Stream:
    """Many requests, an answer to each, in their order; up to STREAM_DEPTH wait at once.

    Args:
        measured: each request counts as one.
        answer: of one request.
        words: how answers and failures are written.
        leaving: set when the server drains: what was read is answered, then the stream ends.
    """

    def __init__(self, measured: Measured, answer: Answer, words: StreamWords, leaving: asyncio.Event) -> None:
        self._measured = measured
        self._answer = answer
        self._words = words
        self._leaving = leaving

    async def serve(self, requests: object, context: Context) -> None:  # noqa: ARG002  # read from the context
        """Answer until the client has asked everything, or the server leaves."""
        slots = asyncio.Semaphore(STREAM_DEPTH)
        answers: Answers = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(context, slots, answers, group))
            ending = group.create_task(self._end(reading, answers))
            while (answer := await answers.get()) is not None:
                await context.write(await answer)
                slots.release()
            ending.cancel()
        if reading.cancelled():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining; open another stream")

    async def _read(
        self, context: Context, slots: asyncio.Semaphore, answers: "Answers", group: asyncio.TaskGroup
    ) -> None:
        """Read while there is room; it can be cancelled between requests only, so that none is read and forgotten."""
        while True:
            await slots.acquire()
            raw = await context.read()
            if raw is grpc.aio.EOF:
                break
            answers.put_nowait(group.create_task(self._one(raw, context)))
        answers.put_nowait(None)

    async def _end(self, reading: "asyncio.Task[None]", answers: "Answers") -> None:
        await self._leaving.wait()
        if reading.cancel():
            answers.put_nowait(None)

    async def _one(self, raw: bytes, context: Context) -> bytes:
        result = await self._measured.run(self._work(raw, context), context)
        return self._words.failure(raw, result.problem) if isinstance(result, Failure) else result

    async def _work(self, raw: bytes, context: Context) -> bytes:
        return self._words.answer(await self._answer(raw, context))
