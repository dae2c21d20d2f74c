"""A stream of items as the body of a response: server-sent events, or lines of JSON.

It produces no items (streams.py and user generators do) and chooses no status before the first byte (the route does).
`Paced`, what an item may take, holds for gRPC too (oip/stream_models.py).
The invariants: each wait, for an item and for the client, ends by the deadline, and by `idle_s`; whatever happens, the
source of the items is closed before the response ends; after the first byte an error goes in-band, as the problem that
it would have been. Sources: https://html.spec.whatwg.org/multipage/server-sent-events.html,
https://github.com/ndjson/ndjson-spec.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Self

from msgspec import Struct

from slipway_serve.negotiation import best_of
from slipway_serve.problems import Problem, body_of, problem_of

logger = logging.getLogger(__name__)

IDLE_S: Final = 15.0
"""Seconds that a stream may go without a next item, and a client without reading."""
FAIR: Final = 8
"""Items after which others get their turn, when neither generator nor client ever waits."""
CLOSE_S: Final = 2.0
"""Seconds that the `finally` of a handler's generator may take when its client has left."""
SSE_TYPE: Final = "text/event-stream"
NDJSON_TYPE: Final = "application/x-ndjson"

Send = Callable[[Any], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]


class Form(Struct, frozen=True):
    """How items, the end and an error are written."""

    media_type: str
    before: bytes
    """Before the JSON of an item."""
    after: bytes
    end: bytes
    before_error: bytes
    after_error: bytes

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Of the response: nothing on the way may keep or collect it."""
        return (
            (b"content-type", self.media_type.encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx collects responses otherwise
        )


SSE: Final = Form(SSE_TYPE, b"data: ", b"\n\n", b"event: end\ndata: {}\n\n", b"event: error\ndata: ", b"\n\n")
NDJSON: Final = Form(NDJSON_TYPE, b"", b"\n", b"", b'{"error":', b"}\n")


class ClientStalledError(Exception):
    """The client has not read for too long; nothing can be sent to it any more."""


def form_for(accept: bytes) -> Form:
    """The form that an `Accept` header asks for: lines of JSON when it ranks them before events, else events."""
    return NDJSON if best_of(accept, (SSE_TYPE, NDJSON_TYPE)) == NDJSON_TYPE else SSE


class Paced:
    """Items, each in time: by the deadline, and at most `idle_s` after it was asked for. Closes nothing.

    Args:
        items: an async generator, or a stream of a lane.
        deadline: of the whole stream, on `time.monotonic()`.
        idle_s: seconds between two items.
    """

    def __init__(self, items: AsyncIterator[Any], deadline: float, idle_s: float = IDLE_S) -> None:
        self._items = items
        self._deadline = deadline
        self._idle_s = idle_s

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> Any:  # what the service yields
        """The next item.

        Raises:
            Problem: 504; none came in time.
            Exception: whatever the source raised.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:  # a timeout of 0 would not end a generator that never waits
            raise _late()
        try:
            async with asyncio.timeout(min(left_s, self._idle_s)) as clock:
                return await anext(self._items)
        except TimeoutError as error:
            if not clock.expired():
                raise
            if left_s > self._idle_s:
                raise Problem(504, "stream_stalled", f"no item came for {self._idle_s:g} s") from error
            raise _late() from error


class StreamReply:
    """The items of one request on their way to its client. `begin`, then `deliver` or `close`.

    Args:
        items: an async generator, or a stream of a lane.
        close: ends their source; awaited once.
        form: how they are written.
        encode: one item as JSON.
        deadline: of the whole stream, on `time.monotonic()`.
        idle_s: between two items, and between two reads of the client.
    """

    def __init__(
        self,
        items: AsyncIterator[Any],
        close: Callable[[], Awaitable[None]],
        form: Form,
        encode: Callable[[Any], bytes],
        deadline: float,
        idle_s: float = IDLE_S,
    ) -> None:
        self._items = Paced(items, deadline, idle_s)
        self._close = close
        self._form = form
        self._encode = encode
        self._idle_s = idle_s
        self._next_chunk: bytes | None = None

    async def begin(self) -> None:
        """Wait for the first item; until then an error is an ordinary response.

        Raises:
            Problem: 504, there was none in time.
            Exception: whatever the source raised; it is closed.
        """
        try:
            self._next_chunk = await self._chunk()
        except BaseException:
            await self.close()
            raise

    async def deliver(self, send: Send, headers: HeaderList) -> int:
        """Send everything, from the start of the response to its end.

        Returns:
            The status to measure: 200, or that of the error that was sent in-band.

        Raises:
            ClientStalledError: the client does not read; the response is not complete.
        """
        status = 200
        try:
            await self._write(send, {"type": "http.response.start", "status": 200, "headers": headers})
            last = self._form.end
            try:
                await self._write_items(send)
            except ClientStalledError:
                raise
            except Exception as error:  # noqa: BLE001  # user code: everything becomes an event
                problem = problem_of(error)
                status = problem.status
                last = self._error(problem, error)
        finally:
            await self.close()
        await self._write(send, {"type": "http.response.body", "body": last, "more_body": False})
        return status

    async def close(self) -> None:
        """End the source of the items: its `finally` runs, or is told to. Errors of it are logged."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._close()
        except Exception:
            logger.exception("a stream failed while it was closed")

    async def _write_items(self, send: Send) -> None:
        count = 0
        while (chunk := self._next_chunk) is not None:
            await self._write(send, {"type": "http.response.body", "body": chunk, "more_body": True})
            count += 1
            if count % FAIR == 0:
                await asyncio.sleep(0)
            self._next_chunk = await self._chunk()

    async def _chunk(self) -> bytes | None:
        """The next item as bytes; None at the end."""
        try:
            item = await anext(self._items)
        except StopAsyncIteration:
            return None
        return b"".join((self._form.before, self._encode(item), self._form.after))

    async def _write(self, send: Send, message: dict[str, Any]) -> None:
        """Hand a message to the server, which waits while the client's buffers are full."""
        try:
            async with asyncio.timeout(self._idle_s):
                await send(message)
        except TimeoutError as error:
            raise ClientStalledError from error

    def _error(self, problem: Problem, error: Exception) -> bytes:
        instance = uuid.uuid4().hex if problem.status == 500 else None
        if instance is not None:
            logger.error("stream failed, instance %s", instance, exc_info=error)
        return self._form.before_error + body_of(problem, instance=instance) + self._form.after_error


def _late() -> Problem:
    return Problem(504, "deadline_exceeded", "the stream was not done by its deadline")
