"""Open Inference Protocol v2 over REST: the routes under `/v2`, and what each of them answers.

Published are models with a path of their own, and inner models that `[runtime] publish` names; endpoints are functions
and have no tensors. Each published model has routes of its own, so that its deadline class and its metrics are those of
the model. A model has one version, that of its bundle; `1` is accepted too, because clients tend to have it hard-coded.
Errors carry an `error` member (protocol.py).
"""

import importlib.metadata
import re
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from slipway_bundle import ConfigError, TensorSpec
from slipway_bundle.view import UNBUILT
from slipway_serve.engine import Engine
from slipway_serve.problems import Problem
from slipway_serve.protocol import (
    EXTENSIONS,
    HEADER_LENGTH,
    SERVER_NAME,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    RequestParameters,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
    protocol_body_of,
)
from slipway_serve.routes import TIMEOUT_HEADER, Asked, Handler, Reply, Route, ServerState
from slipway_serve.service import Model
from slipway_serve.tensor_model import TensorModel
from slipway_serve.tensors import given_tensors, shown, write_outputs

ANY_VERSION: Final = "1"
MODEL_PATH: Final = re.compile(r"/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?(/.*)?")
PROBE_DEADLINE_S: Final = 5.0
BODY_TYPES: Final = (b"application/json", b"application/octet-stream", b"")
"""tritonclient names no media type at all, its asyncio client names octet-stream."""
OCTETS: Final = (b"content-type", b"application/octet-stream")
DISTRIBUTION: Final = "slipway-serve"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(InferRequest).decode


class Fixed:
    """Answers the same Struct always."""

    def __init__(self, answer: Struct) -> None:
        self._content = _encode(answer)

    async def __call__(self, asked: Asked) -> Reply:  # noqa: ARG002  # Handler
        """The bytes made at start-up."""
        return Reply(self._content)


class Ready:
    """`GET /v2/health/ready`: 200 when every model has answered and none is draining, else 503."""

    def __init__(self, engines: Sequence[Engine], server: ServerState) -> None:
        self._engines = engines
        self._server = server

    async def __call__(self, asked: Asked) -> Reply:  # noqa: ARG002  # Handler
        """The readiness of the whole server."""
        ready = not self._server.is_draining and all(engine.is_ready for engine in self._engines)
        return Reply(_encode(ServerReady(ready)), status=200 if ready else 503)


class ReadyModel:
    """`GET /v2/models/{name}/ready`."""

    def __init__(self, engine: Engine, name: str, server: ServerState) -> None:
        self._engine = engine
        self._name = name
        self._server = server

    async def __call__(self, asked: Asked) -> Reply:  # noqa: ARG002  # Handler
        """The readiness of one model."""
        ready = self._engine.is_ready and not self._server.is_draining
        return Reply(_encode(ModelReady(name=self._name, ready=ready)), status=200 if ready else 503)


class Unpublished:
    """What to say about models and versions that are not there."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        published = published_models(engines)
        self._versions = {name: version_of(engine) for name, (engine, _) in published.items()}
        self._inner = {name for engine in engines for name in engine.service.models} - set(published)

    def problem(self, path: str) -> Problem | None:
        """A 404 about a path under `/v2/models` that no route serves; None when model and version are there.

        Litestar's raw handlers take no parameters, so the path is looked at here.
        """
        found = MODEL_PATH.fullmatch(path)
        return None if found is None else self.problem_with(found["name"], found["version"])

    def problem_with(self, name: str, version: str | None) -> Problem | None:
        """A 404 that names the models, or the version, that are there; None when both are what they should be.

        Args:
            name: of the model.
            version: None: whichever there is.
        """
        if name not in self._versions:
            expected = shown(self._versions) if self._versions else "none at all"
            hint = "an inner model is published by naming it in `[runtime] publish`" if name in self._inner else None
            detail = f"no model {name[:200]!r} is published, expected {expected}"
            return Problem(404, "model_unknown", detail, hint=hint)
        if version is None or version in {self._versions[name], ANY_VERSION}:
            return None
        detail = f"model {name!r} has no version {version[:200]!r}, expected {self._versions[name]!r}"
        return Problem(404, "version_unknown", detail)


class Infer:
    """`POST /v2/models/{name}/infer`: tensors in, tensors out, through the model's queue like every other row."""

    def __init__(self, model: TensorModel) -> None:
        self._model = model

    async def __call__(self, asked: Asked) -> Reply:
        """Decode, queue, wait, encode.

        Raises:
            Problem: 400, the request is not one of this model.
            RowError: a value breaks the schema; `path` says which.
        """
        model = self._model
        request, binary = _split(asked)
        parameters = request.parameters or RequestParameters()
        wanted = model.wanted(request.outputs, is_binary=parameters.binary_data_output)
        tensors = given_tensors(request.inputs, binary)
        deadline = model.deadline(parameters.timeout, asked.deadline, is_asked=TIMEOUT_HEADER in asked.headers)
        outputs, data = write_outputs(await model.infer(tensors, deadline), wanted)
        content = _encode(
            InferResponse(model_name=model.name, model_version=model.version, outputs=outputs, id=request.id)
        )
        reply = Reply(content)
        if data:
            reply = Reply(b"".join([content, *data]), (OCTETS, (HEADER_LENGTH, b"%d" % len(content))))
        if asked.trace is not None:
            asked.trace.encoded = time.monotonic()
        return reply


def inference_routes(engines: Sequence[Engine], server: ServerState) -> list[Route]:
    """The routes under `/v2`, for all published models of these engines.

    Raises:
        ConfigError: two services publish the same model.
    """
    metadata = ServerMetadata(name=SERVER_NAME, version=importlib.metadata.version(DISTRIBUTION), extensions=EXTENSIONS)

    def get(template: str, handler: Handler) -> Route:
        return Route(template, handler, server, PROBE_DEADLINE_S, "GET", problem_bytes=protocol_body_of)

    def post(template: str, handler: Handler, deadline_s: float, bundle: str) -> Route:
        return Route(
            template, handler, server, deadline_s, "POST", BODY_TYPES, problem_bytes=protocol_body_of, bundle=bundle
        )

    routes = [
        get("/v2", Fixed(metadata)),
        get("/v2/health/live", Fixed(ServerLive(live=True))),
        get("/v2/health/ready", Ready(engines, server)),
    ]
    for name, (engine, model) in published_models(engines).items():
        described, ready = Fixed(metadata_of(engine, model)), ReadyModel(engine, name, server)
        answering = TensorModel(engine, model, version_of(engine), server.limits)
        infer, deadline_s, bundle = Infer(answering), answering.deadline_s, engine.view.digest or ""
        versions = sorted({f"/versions/{version_of(engine)}", f"/versions/{ANY_VERSION}"})
        for base in (f"/v2/models/{name}{version}" for version in ("", *versions)):
            routes += [get(base, described), get(f"{base}/ready", ready)]
            routes.append(post(f"{base}/infer", infer, deadline_s, bundle))
    return routes


def published_models(engines: Sequence[Engine]) -> dict[str, tuple[Engine, Model[Any, Any]]]:
    """Name → engine and declaration of every model that the protocol serves.

    Raises:
        ConfigError: two services publish the same model.
    """
    published: dict[str, tuple[Engine, Model[Any, Any]]] = {}
    for engine in engines:
        for name, model in engine.service.models.items():
            if model.path is None and name not in engine.config.publish:
                continue
            if name in published:
                first = published[name][0].service.name
                raise ConfigError(
                    f"services {first!r} and {engine.service.name!r} both publish a model {name!r}, "
                    "expected different names in one server",
                    hint="rename one, or serve them in two processes",
                )
            published[name] = (engine, model)
    return published


def version_of(engine: Engine) -> str:
    """The one version that a service's models have: its bundle's, or `1` for a folder without one."""
    return ANY_VERSION if engine.view.version == UNBUILT else engine.view.version


def metadata_of(engine: Engine, model: Model[Any, Any]) -> ModelMetadata:
    """What a client must send to this model, and what it gets."""
    lane = engine.lane(model.name)
    return ModelMetadata(
        name=model.name,
        versions=(version_of(engine),),
        platform=f"{SERVER_NAME}_{engine.view.models[model.name].config.format}",
        inputs=tuple(map(_tensor, lane.input_specs)),
        outputs=tuple(map(_tensor, lane.output_specs)),
    )


def _tensor(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=spec.datatype, shape=(-1, *spec.shape))


def _split(asked: Asked) -> tuple[InferRequest, memoryview]:
    """The JSON of a request and the binary data behind it."""
    body, headers = asked.body, asked.headers
    if b"content-encoding" in headers:
        encoding = headers[b"content-encoding"].decode("latin-1")[:40]
        raise Problem(415, "content_encoding", f"content-encoding is {encoding!r}, expected an uncompressed body")
    given = headers.get(HEADER_LENGTH)
    if given is None:
        return _decode(body), memoryview(b"")
    length = int(given) if given.isdigit() and len(given) < 20 else -1
    if not 0 <= length <= len(body):
        got = given.decode("latin-1")[:40]
        detail = f"{HEADER_LENGTH.decode()} is {got!r}, expected 0 to {len(body)}, the length of the body"
        raise Problem(400, "header_length", detail)
    return _decode(body[:length]), memoryview(body)[length:]
