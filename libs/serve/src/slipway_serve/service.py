"""What a model team writes: `Service`, `Model`, `Endpoint`, `Resource`. Declarations only, no I/O.

Importing a service module opens nothing and starts nothing: an engine (`engine.py`) later binds these declarations to
weights, lanes and connections. Runners import this module too, so it must not import the web framework.

    service = Service("churn")
    predict = service.model("churn", Customer, Risk, path="/predict", slo="realtime")
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, get_type_hints, overload

from msgspec import Struct

from slipway_bundle import Arrays, EndpointDescription, ServiceDescription, UsageError, Weights
from slipway_serve.call import Call, call_now
from slipway_serve.schemas import schema_of

Row = TypeVar("Row", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)
Request = TypeVar("Request")
Response = TypeVar("Response")
Settings = TypeVar("Settings")
Opened = TypeVar("Opened")
Params = ParamSpec("Params")
Result = TypeVar("Result")

Compute = Callable[[Weights, Arrays], Arrays]
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
PATH: Final = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
RESERVED: Final = ("/v2/", "/static/")
TAKEN: Final = ("/", "/docs", "/openapi.json", "/livez", "/readyz", "/metrics", "/v2")
DEFAULT_SLO: Final = "interactive"


class DeclarationError(UsageError):
    """A service declares something that cannot be served."""

    code = "service_invalid"


class Model(Generic[Row, Answer]):
    """A named, batched function from row Struct to row Struct, placed by configuration.

    `await model(row)` answers one row; `await model.map(rows)` answers many, in order. Both wait in the model's queue
    until the request's deadline at most, and both may only be used while a request is being answered.
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
        return cast("Answer", await call.engine.lane(self.name).one(row, call.deadline))

    async def map(self, rows: Sequence[Row]) -> list[Answer]:
        """The answers to many rows, in their order; the first row that fails fails the call."""
        call = call_now()
        return cast("list[Answer]", await call.engine.lane(self.name).many(rows, call.deadline))


class Endpoint(Generic[Request, Response]):
    """A plain async function, request to response, that runs in the API worker.

    Awaiting an endpoint from another one calls its function within the same request.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[Response]],
        path: str,
        slo: str,
        produces: str,
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
        self.takes = takes
        self.gives = gives
        self.wants_call = wants_call
        self.__doc__ = function.__doc__

    async def __call__(self, request: Request) -> Response:
        """Run the function; a handler that wants the `Call` gets the one being answered."""
        if self.wants_call:
            return await self.function(request, call_now())
        return await self.function(request)


class EndpointDecorator(Protocol):
    """What `service.endpoint(...)` returns; keeps the handler's request and response types."""

    @overload
    def __call__(self, function: Callable[[Request], Awaitable[Response]], /) -> Endpoint[Request, Response]: ...
    @overload
    def __call__(self, function: Callable[[Request, Call], Awaitable[Response]], /) -> Endpoint[Request, Response]: ...


class Resource(Generic[Opened]):
    """Something opened at start-up and closed at the end, such as a client. Calling it gives what was opened."""

    def __init__(self, name: str, opener: Callable[..., AbstractAsyncContextManager[Opened]], settings: type | None):
        self.name = name
        self.opener = opener
        self.settings = settings

    def __call__(self) -> Opened:
        """What the opener yielded; only while a request is being answered."""
        return cast("Opened", call_now().engine.resource(self.name))


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
        self._endpoints: dict[str, Endpoint[Any, Any]] = {}
        self._resources: dict[str, Resource[Any]] = {}

    @property
    def models(self) -> Mapping[str, Model[Any, Any]]:
        """Name → model, in declaration order."""
        return MappingProxyType(self._models)

    @property
    def endpoints(self) -> Mapping[str, Endpoint[Any, Any]]:
        """Path → endpoint, in declaration order."""
        return MappingProxyType(self._endpoints)

    @property
    def resources(self) -> Mapping[str, Resource[Any]]:
        """Name → resource, in declaration order (also the order of opening)."""
        return MappingProxyType(self._resources)

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
        if not NAME.fullmatch(name):
            raise DeclarationError(f"model name {name!r} is not usable, expected lower-case letters, digits and `_`")
        if name in self._models:
            raise DeclarationError(f"service {self.name!r} declares model {name!r} twice")
        for role, struct in (("row", row), ("answer", answer)):
            if not (inspect.isclass(struct) and issubclass(struct, Struct)):
                raise DeclarationError(f"{role} of model {name!r} is {struct!r}, expected a msgspec Struct")
        if path is not None:
            self._claim(path)
        declared = Model(name, row, answer, path, slo)
        self._models[name] = declared
        return declared

    def endpoint(self, path: str, *, slo: str = DEFAULT_SLO, produces: str = "application/json") -> "EndpointDecorator":
        """Decorator: serve `async def f(request) -> response` or `async def f(request, call: Call) -> response`.

        Args:
            path: where, e.g. `/predict`; POST.
            slo: deadline class; `[runtime.slo]` gives its length.
            produces: media type of the answer; other than JSON, the function returns `bytes`.
        """

        def declare(function: Callable[..., Awaitable[Response]]) -> Endpoint[Any, Response]:
            self._claim(path)
            takes, gives, wants_call = _contract(function)
            if produces != "application/json" and gives is not bytes:
                raise DeclarationError(
                    f"endpoint {path!r} produces {produces!r} and returns {gives!r}, "
                    "expected a function that returns bytes"
                )
            declared: Endpoint[Any, Response] = Endpoint(
                function, path, slo, produces, takes, gives, wants_call=wants_call
            )
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
        """The service as data: its name and what its own paths take and give; the bundle adds the models' tensors."""
        paths = [(model.path, model.row, model.answer) for model in self._models.values() if model.path is not None]
        paths += [(endpoint.path, endpoint.takes, endpoint.gives) for endpoint in self._endpoints.values()]
        return ServiceDescription(
            name=self.name,
            endpoints=tuple(
                EndpointDescription(path=path, request=schema_of(takes), response=schema_of(gives))
                for path, takes, gives in paths
            ),
        )

    def stream(self, *_: object, **__: object) -> "Model[Any, Any]":
        """Reserved: streaming models arrive with runner pools."""
        raise DeclarationError("streaming models are not served yet, got `service.stream(...)`")

    def _claim(self, path: str) -> None:
        served = {model.path for model in self._models.values()} | set(self._endpoints)
        if not PATH.fullmatch(path):
            raise DeclarationError(f"path {path!r} is not usable, expected a form like '/predict'")
        if path in served or path in TAKEN or path.startswith(RESERVED):
            raise DeclarationError(
                f"path {path!r} of service {self.name!r} is taken",
                hint=f"slipway itself serves {', '.join(TAKEN)} and everything under {' and '.join(RESERVED)}",
            )


def _contract(function: Callable[..., Awaitable[Any]]) -> tuple[type[Any], type[Any], bool]:
    """(request type, response type, wants the Call) of a handler, out of its annotations."""
    name = getattr(function, "__name__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise DeclarationError(f"endpoint {name!r} is not async, expected `async def`")
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) not in {1, 2} or any(p not in hints for p in parameters) or "return" not in hints:
        raise DeclarationError(
            f"endpoint {name!r} takes {parameters}, expected (request: Type) or (request: Type, call: Call) -> Type",
        )
    if len(parameters) == 2 and hints[parameters[1]] is not Call:
        raise DeclarationError(f"second argument of endpoint {name!r} is {hints[parameters[1]]!r}, expected Call")
    return hints[parameters[0]], hints["return"], len(parameters) == 2


async def offload(function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
    """Run a blocking function in the API worker's bounded thread pool, and await its result.

    Raises:
        Problem: 503, when all threads are busy and the backlog is full.
    """
    return await call_now().engine.offloader.run(function, *args, **kwargs)
