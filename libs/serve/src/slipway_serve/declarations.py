"""What a service hands back for what it declares: `Model`, `StreamModel`, `Endpoint`, `StreamEndpoint`, `Resource`.

`Service` (service.py) makes them; nothing here does I/O or imports the web framework. The invariant: a declaration
holds types and functions only, and finds everything that runs through the call that is being answered.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import Struct

from slipway_bundle import Arrays, UsageError, Weights
from slipway_bundle.array_json import decode_array, encode_array
from slipway_serve.call import call_now

Row = TypeVar("Row", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)
Request = TypeVar("Request")
Response = TypeVar("Response")
Opened = TypeVar("Opened")

Compute = Callable[[Weights, Arrays], Arrays]


class DeclarationError(UsageError):
    """A service declares something that cannot be served."""

    code = "service_invalid"


class Model(Generic[Row, Answer]):
    """A named, batched function from row Struct to row Struct, placed by configuration.

    `await model(row)` answers one row; `await model.map(rows)` answers many, in order. Both wait in the model's queue
    until the deadline of this step at most (docs/service-api.md), and both may only be used while a request is being
    answered.
    """

    def __init__(self, name: str, row: type[Row], answer: type[Answer], path: str | None, slo: str) -> None:
        self.name = name
        self.row = row
        self.answer = answer
        self.path = path
        """Where the model's rows are served as they are; None when only endpoints use it."""
        self.slo = slo
        self.function: Compute | None = None
        """What `compute` was given; None means: call the weights and rename their outputs."""

    def compute(self, function: Compute) -> Compute:
        """Decorator: `function(weights, batch) -> arrays` runs for each batch, sync, beside the weights.

        Args of the function: `weights`, a callable from arrays to arrays; `batch`, name → array `[rows, …]`.
        """
        if self.function is not None:
            raise DeclarationError(f"model {self.name!r} has two `compute` functions, expected one")
        if inspect.iscoroutinefunction(function):
            raise DeclarationError(
                f"`compute` of model {self.name!r} is async, expected a plain function",
                hint="a batch is computed beside the weights; await things in an endpoint",
            )
        self.function = function
        return function

    async def __call__(self, row: Row) -> Answer:
        """The answer to one row.

        Raises:
            RowError: the row breaks a constraint.
            AnswerError: the model's answer does.
            Refused: the queue is full, or the deadline cannot be met.
            DeadlineExceeded: the deadline passed while the row waited.
        """
        call = call_now()
        step = call.begin(self.name)
        answer = await call.engine.lane(self.name).one(row, step.deadline)
        call.answered(step)
        return cast("Answer", answer)

    async def map(self, rows: Sequence[Row]) -> list[Answer]:
        """The answers to many rows, in their order; the first row that fails fails the call."""
        call = call_now()
        step = call.begin(self.name)
        answers = await call.engine.lane(self.name).many(rows, step.deadline)
        call.answered(step)
        return cast("list[Answer]", answers)


class StreamModel(Generic[Row, Answer]):
    """A named step that yields: one prompt in, answers one after another; placed by configuration.

    `async for answer in model(prompt)` reads them while a request is being answered. When the loop is left, or the
    client leaves, the generator is closed.
    """

    def __init__(self, name: str, row: type[Row], answer: type[Answer], path: str | None, slo: str) -> None:
        self.name = name
        self.row = row
        """The Struct of a prompt; it need not be a row of tensors."""
        self.answer = answer
        """The Struct of one item."""
        self.path = path
        """Where prompts are answered by streams as they are; None when only endpoints use it."""
        self.slo = slo
        self.function: Callable[[Weights, Row], Iterator[Answer]] | None = None
        """What `compute` was given; a service without it cannot be served."""

    def compute(
        self, function: Callable[[Weights, Row], Iterator[Answer]]
    ) -> Callable[[Weights, Row], Iterator[Answer]]:
        """Decorator: `function(weights, prompt)`, a sync generator that runs beside the weights, in a thread.

        It is closed where it yields, never inside an item; its `finally` runs however the stream ends.
        """
        if self.function is not None:
            raise DeclarationError(f"stream model {self.name!r} has two `compute` functions, expected one")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise DeclarationError(
                f"`compute` of stream model {self.name!r} is async, expected a plain generator function",
                hint="items are computed beside the weights; await things in an endpoint",
            )
        self.function = function
        return function

    async def __call__(self, prompt: Row) -> AsyncIterator[Answer]:
        """The answers to one prompt, as they come.

        Raises:
            msgspec.ValidationError: the prompt breaks a constraint of its type.
            AnswerError: an item does.
            Refused: all places of the model are taken, or the deadline has passed.
            DeadlineExceeded: the deadline passed while the stream was open.
            ModelFailed: the generator raised.
        """
        call = call_now()
        step = call.begin(self.name)
        items = call.engine.stream_lane(self.name).open(_checked(prompt, self.row), step.deadline)
        try:
            async for item in items:
                yield cast("Answer", item)
            call.answered(step)
        finally:
            items.close()


class Endpoint(Generic[Request, Response]):
    """A plain async function, request to response, that runs in the API worker.

    Awaiting an endpoint from another one calls its function within the same request.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[Response]],
        path: str,
        slo: str,
        produces: tuple[str, ...],
        takes: type[Request],
        gives: type[Response],
        *,
        wants_call: bool,
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.path = path
        self.slo = slo
        self.produces = produces
        """Media types of the answer; the request's `Accept` header chooses, the first where it does not."""
        self.takes = takes
        self.gives = gives
        self.wants_call = wants_call
        self.__doc__ = function.__doc__

    async def __call__(self, request: Request) -> Response:
        """Run the function; a handler that wants the `Call` gets the one being answered."""
        if self.wants_call:
            return await self.function(request, call_now())
        return await self.function(request)


class StreamEndpoint(Generic[Request, Response]):
    """An async generator function, request to a stream of responses, that runs in the API worker.

    `async for item in endpoint(request)` in another handler runs it within the same request.
    """

    def __init__(
        self,
        function: Callable[..., AsyncIterator[Response]],
        path: str,
        slo: str,
        takes: type[Request],
        gives: type[Response],
        *,
        wants_call: bool,
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.path = path
        self.slo = slo
        self.takes = takes
        self.gives = gives
        """The type of one item."""
        self.wants_call = wants_call
        self.__doc__ = function.__doc__

    def __call__(self, request: Request) -> AsyncIterator[Response]:
        """Call the function; a handler that wants the `Call` gets the one being answered."""
        if self.wants_call:
            return self.function(request, call_now())
        return self.function(request)


class Resource(Generic[Opened]):
    """Something opened at start-up and closed at the end, such as a client. Calling it gives what was opened."""

    def __init__(self, name: str, opener: Callable[..., AbstractAsyncContextManager[Opened]], settings: type | None):
        self.name = name
        self.opener = opener
        self.settings = settings

    def __call__(self) -> Opened:
        """What the opener yielded; only while a request is being answered."""
        return cast("Opened", call_now().engine.resource(self.name))


def _checked(value: Any, kind: type[Row]) -> Row:
    """A constructed Struct, validated: constructing one checks nothing."""
    if not isinstance(value, kind):
        raise msgspec.ValidationError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=encode_array), type=kind, dec_hook=decode_array)
