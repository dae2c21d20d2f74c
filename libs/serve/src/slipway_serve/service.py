"""What a model team writes: `Service`, which collects declarations. No I/O.

Importing a service module opens nothing and starts nothing: an engine (`engine.py`) later binds these declarations to
weights, lanes and connections. Runners import this module too, so it must not import the web framework.

    service = Service("churn")
    predict = service.model("churn", Customer, Risk, path="/predict", slo="realtime")
"""

import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import (
    Any,
    Final,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from msgspec import Struct

from slipway_bundle import EndpointDescription, ServiceDescription
from slipway_serve.call import Call, call_now
from slipway_serve.declarations import DeclarationError, Endpoint, Model, Resource, StreamEndpoint, StreamModel
from slipway_serve.schemas import schema_of

__all__ = [
    "DeclarationError",
    "Declared",
    "Endpoint",
    "EndpointDecorator",
    "Model",
    "Resource",
    "Service",
    "StreamEndpoint",
    "StreamModel",
    "offload",
    "types_of",
]

Row = TypeVar("Row", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)
Request = TypeVar("Request")
Response = TypeVar("Response")
Opened = TypeVar("Opened")
Params = ParamSpec("Params")
Result = TypeVar("Result")

Declared: TypeAlias = Model[Any, Any] | StreamModel[Any, Any] | Endpoint[Any, Any] | StreamEndpoint[Any, Any]
"""What can have a path."""

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
PATH: Final = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
RESERVED: Final = ("/v2/", "/static/")
TAKEN: Final = ("/", "/docs", "/openapi.json", "/livez", "/readyz", "/metrics", "/v2")
DEFAULT_SLO: Final = "interactive"
STREAM_SLO: Final = "chat"
JSON: Final = "application/json"
STREAMS: Final = (AsyncIterator, AsyncIterable, AsyncGenerator)


class EndpointDecorator(Protocol):
    """What `service.endpoint(...)` returns; keeps the handler's request and response types."""

    @overload
    def __call__(self, function: Callable[[Request], Awaitable[Response]], /) -> Endpoint[Request, Response]: ...
    @overload
    def __call__(self, function: Callable[[Request, Call], Awaitable[Response]], /) -> Endpoint[Request, Response]: ...
    @overload
    def __call__(
        self, function: Callable[[Request], AsyncIterator[Response]], /
    ) -> StreamEndpoint[Request, Response]: ...
    @overload
    def __call__(
        self, function: Callable[[Request, Call], AsyncIterator[Response]], /
    ) -> StreamEndpoint[Request, Response]: ...


class Service:
    """Collects the declarations of one service. Reading it has no effect; nothing here does I/O.

    Args:
        name: lower-case, `[a-z][a-z0-9_]*`; the bundle, the gateway path and the metrics use it.
    """

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise DeclarationError(f"service name {name!r} is not usable, expected lower-case letters, digits and `_`")
        self.name = name
        self._models: dict[str, Model[Any, Any]] = {}
        self._streams: dict[str, StreamModel[Any, Any]] = {}
        self._endpoints: dict[str, Endpoint[Any, Any] | StreamEndpoint[Any, Any]] = {}
        self._resources: dict[str, Resource[Any]] = {}

    @property
    def models(self) -> Mapping[str, Model[Any, Any]]:
        """Name → batched model, in declaration order."""
        return MappingProxyType(self._models)

    @property
    def streams(self) -> Mapping[str, StreamModel[Any, Any]]:
        """Name → stream model, in declaration order; no name is in `models` too."""
        return MappingProxyType(self._streams)

    @property
    def endpoints(self) -> Mapping[str, Endpoint[Any, Any] | StreamEndpoint[Any, Any]]:
        """Path → endpoint, in declaration order."""
        return MappingProxyType(self._endpoints)

    @property
    def resources(self) -> Mapping[str, Resource[Any]]:
        """Name → resource, in declaration order (also the order of opening)."""
        return MappingProxyType(self._resources)

    @property
    def declared(self) -> list[Declared]:
        """Everything that has a path: models, stream models, endpoints, each in declaration order."""
        models = [model for model in self._models.values() if model.path is not None]
        streams = [stream for stream in self._streams.values() if stream.path is not None]
        return [*models, *streams, *self._endpoints.values()]

    def model(
        self, name: str, row: type[Row], answer: type[Answer], *, path: str | None = None, slo: str = DEFAULT_SLO
    ) -> Model[Row, Answer]:
        """Declare a model.

        Args:
            name: its key in `slipway.toml`, its name in the Open Inference Protocol, its metric label.
            row: frozen Struct of one input row.
            answer: frozen Struct of one answer.
            path: serve the rows directly under this path.
            slo: deadline class of `path`; `[runtime.slo]` gives its length.

        Raises:
            DeclarationError: a name or path is taken or malformed, or a type is not a Struct.
        """
        self._check_model(name, row, answer, path)
        declared = self._models[name] = Model(name, row, answer, path, slo)
        return declared

    def stream(
        self, name: str, row: type[Row], answer: type[Answer], *, path: str | None = None, slo: str = STREAM_SLO
    ) -> StreamModel[Row, Answer]:
        """Declare a stream model; its `compute` is a generator function.

        Args:
            name: its key in `slipway.toml` and its metric label; gRPC streams it under this name.
            row: frozen Struct of one prompt; any fields, not only tensors.
            answer: frozen Struct of one item.
            path: serve prompts directly under this path, as server-sent events or as lines of JSON.
            slo: deadline class of the whole stream; `[runtime.slo]` gives its length.

        Raises:
            DeclarationError: a name or path is taken or malformed, or a type is not a Struct.
        """
        self._check_model(name, row, answer, path)
        declared = self._streams[name] = StreamModel(name, row, answer, path, slo)
        return declared

    def endpoint(
        self, path: str, *, slo: str = DEFAULT_SLO, produces: str | tuple[str, ...] = JSON
    ) -> "EndpointDecorator":
        """Decorator: serve `async def f(request) -> response` or `async def f(request, call: Call) -> response`.

        An async generator function (`-> AsyncIterator[Item]`, with `yield`) is served as a stream of items.

        Args:
            path: where, e.g. `/predict`; POST.
            slo: deadline class; `[runtime.slo]` gives its length.
            produces: media type of the answer; other than JSON, the function returns `bytes`. Of several, the request
                chooses one by its `Accept` header, and `call.produces` says which. Streams have their own.
        """
        media = (produces,) if isinstance(produces, str) else produces

        def declare(function: Callable[..., Any]) -> Endpoint[Any, Any] | StreamEndpoint[Any, Any]:
            self._claim(path)
            contract = _contract(function)
            if media != (JSON,) and (contract.gives is not bytes or contract.is_stream):
                raise DeclarationError(
                    f"endpoint {path!r} produces {produces!r} and returns {contract.gives!r}, "
                    "expected a function that returns bytes"
                )
            takes, gives, wants_call = contract.takes, contract.gives, contract.wants_call
            declared: Endpoint[Any, Any] | StreamEndpoint[Any, Any]
            if contract.is_stream:
                declared = StreamEndpoint(function, path, slo, takes, gives, wants_call=wants_call)
            else:
                declared = Endpoint(function, path, slo, media, takes, gives, wants_call=wants_call)
            self._endpoints[path] = declared
            return declared

        return cast("EndpointDecorator", declare)

    def resource(self, name: str, opener: Callable[..., AbstractAsyncContextManager[Opened]]) -> Resource[Opened]:
        """Declare what the service needs open: `opener(settings)` or `opener()`, an async context manager.

        `settings` is decoded from `[runtime.resources.NAME]` into the type of the opener's parameter.
        """
        if name in self._resources:
            raise DeclarationError(f"service {self.name!r} declares resource {name!r} twice")
        hints = get_type_hints(inspect.unwrap(opener))
        parameters = [p for p in inspect.signature(opener).parameters.values() if p.default is p.empty]
        if len(parameters) > 1:
            raise DeclarationError(f"opener of resource {name!r} takes {len(parameters)} arguments, expected 0 or 1")
        declared = Resource(name, opener, hints.get(parameters[0].name, dict) if parameters else None)
        self._resources[name] = declared
        return declared

    def describe(self) -> ServiceDescription:
        """The service as data: its name and what its own paths take and give; the bundle adds the models' tensors.

        The response of a stream is the schema of one item.
        """
        described = [(str(declared.path), *types_of(declared)) for declared in self.declared]
        return ServiceDescription(
            name=self.name,
            endpoints=tuple(
                EndpointDescription(path=path, request=schema_of(takes), response=schema_of(gives))
                for path, takes, gives in described
            ),
        )

    def _check_model(self, name: str, row: type[Any], answer: type[Any], path: str | None) -> None:
        if not NAME.fullmatch(name):
            raise DeclarationError(f"model name {name!r} is not usable, expected lower-case letters, digits and `_`")
        if name in self._models or name in self._streams:
            raise DeclarationError(f"service {self.name!r} declares model {name!r} twice")
        for role, struct in (("row", row), ("answer", answer)):
            if not (inspect.isclass(struct) and issubclass(struct, Struct)):
                raise DeclarationError(f"{role} of model {name!r} is {struct!r}, expected a msgspec Struct")
        if path is not None:
            self._claim(path)

    def _claim(self, path: str) -> None:
        if not PATH.fullmatch(path):
            raise DeclarationError(f"path {path!r} is not usable, expected a form like '/predict'")
        served = {declared.path for declared in self.declared}
        if path in served or path in TAKEN or path.startswith(RESERVED):
            raise DeclarationError(
                f"path {path!r} of service {self.name!r} is taken",
                hint=f"slipway itself serves {', '.join(TAKEN)} and everything under {' and '.join(RESERVED)}",
            )


def types_of(declared: Declared) -> tuple[type[Any], type[Any]]:
    """(what its path takes, what it gives); of a stream: one item."""
    if isinstance(declared, Model | StreamModel):
        return declared.row, declared.answer
    return declared.takes, declared.gives


class _Contract(NamedTuple):
    """What a handler's annotations say."""

    takes: type[Any]
    gives: type[Any]
    wants_call: bool
    is_stream: bool


def _contract(function: Callable[..., Any]) -> _Contract:
    """The contract of a handler, out of its annotations."""
    name = getattr(function, "__name__", repr(function))
    is_stream = inspect.isasyncgenfunction(function)
    if not is_stream and not inspect.iscoroutinefunction(function):
        raise DeclarationError(f"endpoint {name!r} is not async, expected `async def`")
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) not in {1, 2} or any(p not in hints for p in parameters) or "return" not in hints:
        raise DeclarationError(
            f"endpoint {name!r} takes {parameters}, expected (request: Type) or (request: Type, call: Call) -> Type",
        )
    if len(parameters) == 2 and hints[parameters[1]] is not Call:
        raise DeclarationError(f"second argument of endpoint {name!r} is {hints[parameters[1]]!r}, expected Call")
    gives = hints["return"]
    if is_stream:
        if get_origin(gives) not in STREAMS or not get_args(gives):
            raise DeclarationError(f"endpoint {name!r} yields and returns {gives!r}, expected `AsyncIterator[Item]`")
        gives = get_args(gives)[0]
    return _Contract(hints[parameters[0]], gives, len(parameters) == 2, is_stream)


async def offload(function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
    """Run a blocking function in the API worker's bounded thread pool, and await its result.

    Raises:
        Problem: 503, when all threads are busy and the backlog is full.
    """
    return await call_now().engine.offloader.run(function, *args, **kwargs)
