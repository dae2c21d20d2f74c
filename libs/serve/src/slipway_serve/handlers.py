"""How a service's own paths answer: rows of a model, an endpoint's coroutine, a stream.

Each class is a `Handler` for a `Route` (routes.py), which reads the body, fixes the deadline and measures. The
invariant: a request is decoded into its type before user code sees it, and user code runs under its deadline.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from slipway_bundle import RowError
from slipway_bundle.array_json import decode_array, encode_array
from slipway_runtime.steps import StepBook
from slipway_serve.bodies import BodyForms
from slipway_serve.call import CallEngine
from slipway_serve.declarations import Endpoint, Model, StreamEndpoint, StreamModel
from slipway_serve.lane import outputs_of
from slipway_serve.negotiation import best_of
from slipway_serve.problems import Problem
from slipway_serve.routes import Asked, Reply, Route, ServerState
from slipway_serve.service import Declared
from slipway_serve.stream_reply import IDLE_S, StreamReply, form_for
from slipway_signals.traces_record import RequestTrace

if TYPE_CHECKING:
    from slipway_runtime import Answer
    from slipway_serve.engine import Engine

JSON_TYPE: Final = b"application/json"


ServiceHandler: TypeAlias = "RowHandler | EndpointHandler | StreamHandler"


def service_routes(engine: "Engine", server: ServerState, prefix: str) -> list[Route]:
    """The paths that a service itself declares.

    Raises:
        ConfigError: a deadline class is unknown.
    """
    return [
        Route(
            f"{prefix}{declared.path}",
            handler := handler_for(engine, declared),
            server,
            engine.config.deadline_s(declared.slo),
            accepts=handler.accepts,
            slow_s=math.inf if isinstance(handler, StreamHandler) else None,  # its client sets the pace
            bundle=engine.view.digest or "",
        )
        for declared in engine.service.declared
    ]


def handler_for(engine: "Engine", declared: Declared) -> ServiceHandler:
    """How one declared path answers."""
    if isinstance(declared, Model):
        is_keyed = engine.lane(declared.name).inputs.is_keyed
        return (KeyedRowHandler if is_keyed else RowHandler)(engine, declared)
    if isinstance(declared, StreamModel):
        return StreamHandler(engine, declared)
    tuned = engine.config.endpoints.get(declared.path)
    book = StepBook({} if tuned is None else tuned.share)
    if isinstance(declared, StreamEndpoint):
        return StreamHandler(engine, declared, book)
    return EndpointHandler(engine, declared, book)


class RowHandler:
    """Rows of one model, straight into its queue. This is the hot path: no user code, no task, one future."""

    accepts: Final = (JSON_TYPE,)

    def __init__(self, engine: CallEngine, model: Model[Any, Any]) -> None:
        lane = engine.lane(model.name)
        self._lane = lane
        self.decode = msgspec.json.Decoder(model.row, dec_hook=decode_array).decode
        self.encode = msgspec.json.Encoder(enc_hook=encode_array).encode
        self._pack = lane.inputs.pack
        self._submit = lane.pool.submit_nowait
        self._count_invalid = lane.count_invalid

    async def __call__(self, asked: Asked) -> Reply:
        """Decode, queue, wait, encode."""
        try:
            row = self.decode(asked.body)
            payload = self._pack(row)
        except (msgspec.ValidationError, RowError):
            self._count_invalid(1)
            raise
        trace = asked.trace
        if trace is not None:
            trace.decoded = time.monotonic()
        submitted = self._submit(payload, 1, asked.deadline)
        if trace is None and self._lane.watch is None:
            answer = await submitted
            return Reply(self.encode(outputs_of(answer).row(answer.start)))
        queued = time.monotonic()
        landed: Answer | None = None
        try:  # as `Lane.answer`, without its coroutines: they would cost more than what they call
            landed = await submitted
            outputs = outputs_of(landed)
            result = outputs.row(landed.start)
            self._lane.seen(row, result, payload, b"", landed, outputs)
        except Exception as error:
            self._lane.missed(row, error)
            raise
        finally:
            self._lane.followed(trace, queued, landed)
        return self._written(result, trace)

    def _written(self, result: Struct, trace: RequestTrace | None) -> Reply:
        """The answer as bytes."""
        if trace is None:
            return Reply(self.encode(result))
        trace.encoding = time.monotonic()
        reply = Reply(self.encode(result))
        trace.encoded = time.monotonic()
        return reply


class KeyedRowHandler(RowHandler):
    """The same for a model whose rows come in several shapes: each row goes to the queue of its key."""

    def __init__(self, engine: CallEngine, model: Model[Any, Any]) -> None:
        super().__init__(engine, model)
        lane = self._lane
        self._pack_keyed = lane.inputs.pack_keyed
        self._submit_keyed = lane.submit

    async def __call__(self, asked: Asked) -> Reply:
        """Decode, queue, wait, encode."""
        try:
            row = self.decode(asked.body)
            key, payload = self._pack_keyed(row)
        except (msgspec.ValidationError, RowError):
            self._count_invalid(1)
            raise
        if asked.trace is not None:
            asked.trace.decoded = time.monotonic()
        submitted = self._submit_keyed(payload, 1, asked.deadline, key)
        return self._written(await self._lane.answer(row, payload, key, submitted), asked.trace)


class EndpointHandler:
    """One user coroutine: request in, response out, in this process.

    Args:
        engine: where its models live.
        endpoint: the declaration.
        book: divides the deadline among the models that it awaits; a fresh one learns from nothing.
    """

    def __init__(self, engine: CallEngine, endpoint: Endpoint[Any, Any], book: StepBook | None = None) -> None:
        self._engine = engine
        self._endpoint = endpoint
        self._book = book or StepBook()
        self._forms = BodyForms(endpoint.takes)
        self.accepts: Final = self._forms.accepts
        self._decode = msgspec.json.Decoder(endpoint.takes, dec_hook=decode_array).decode
        self._encode = msgspec.json.Encoder(enc_hook=encode_array).encode
        self._headers = {media: ((b"content-type", media.encode()),) for media in endpoint.produces}
        self._is_json = endpoint.produces == (JSON_TYPE.decode(),)

    async def __call__(self, asked: Asked) -> Reply:
        """Decode, run the handler under its deadline, encode.

        Raises:
            Problem: 504, when the handler is still running at the deadline; it is cancelled.
        """
        try:
            async with asyncio.timeout(max(0.0, asked.deadline - time.monotonic())):
                if len(self.accepts) == 1:
                    request = self._decode(asked.body)
                else:
                    content_type = asked.headers.get(b"content-type", b"")
                    request = await self._forms.read(asked.body, content_type, self._engine.offloader)
                call = self._engine.call(asked.deadline, list(asked.headers.items()))
                call.divide(self._book)
                call.produces = best_of(asked.headers.get(b"accept", b""), self._endpoint.produces)
                response = await self._endpoint(request)
        except TimeoutError as error:
            raise Problem(504, "deadline_exceeded", f"{self._endpoint.path} was not done by its deadline") from error
        call.end()
        return Reply(self._encode(response) if self._is_json else response, self._headers[call.produces])


class StreamHandler:
    """A stream model under its own path, or an endpoint that yields: request in, items out.

    Args:
        engine: where its models live.
        declared: the stream model or endpoint.
        book: shares of the deadline for the models that it awaits; a stream teaches nothing, its client sets the pace.
        idle_s: the longest wait for one item, and for the client.
    """

    def __init__(
        self,
        engine: CallEngine,
        declared: StreamModel[Any, Any] | StreamEndpoint[Any, Any],
        book: StepBook | None = None,
        *,
        idle_s: float = IDLE_S,
    ) -> None:
        self._engine = engine
        self._declared = declared
        self._book = book
        self._idle_s = idle_s
        self._forms = BodyForms(declared.row if isinstance(declared, StreamModel) else declared.takes)
        self.accepts: Final = self._forms.accepts
        self._encode = msgspec.json.Encoder(enc_hook=encode_array).encode

    async def __call__(self, asked: Asked) -> Reply:
        """Decode, begin the stream, and answer when its first item is there."""
        content_type = asked.headers.get(b"content-type", b"")
        request = await self._forms.read(asked.body, content_type, self._engine.offloader)
        call = self._engine.call(asked.deadline, list(asked.headers.items()))
        if self._book is not None:
            call.divide(self._book)
        items = self._declared(request)
        form = form_for(asked.headers.get(b"accept", b""))
        stream = StreamReply(items, _closer(items), form, self._encode, asked.deadline, self._idle_s)
        await stream.begin()
        return Reply(b"", form.headers, stream=stream)


def _closer(items: AsyncIterator[Any]) -> Callable[[], Awaitable[None]]:
    """Ends a generator; an iterator of another kind that a handler returned has nothing to end."""
    close: Callable[[], Awaitable[None]] | None = getattr(items, "aclose", None)
    return close or _nothing


async def _nothing() -> None:
    """Done."""
