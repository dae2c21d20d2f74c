"""The Open Inference Protocol over gRPC: one server in each API worker, over the same engines as HTTP.

It decides nothing about batching and judges no tensor: tensor_model.py does, as for REST. The invariants: a message is
at most `limits.body_bytes` large, also unpacked, because compressed ones are refused; at most `limits.connections`
calls run at once; a deadline is the client's, at most `limits.deadline_ms`, or the model's deadline class.

    server = await start_grpc(engines, state, host="127.0.0.1", port=8001, limits=limits)
    ...
    await server.drain(grace_s=30)

Sources: KServe `open_inference_grpc.proto`; Triton's `grpc_service.proto` for the stream.
"""

import asyncio
import importlib.metadata
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast

import grpc
from google.protobuf.message import Message

from slipway_bundle import SchemaError
from slipway_runtime.listeners import PortInUseError
from slipway_serve.config import LimitsConfig
from slipway_serve.engine import Engine
from slipway_serve.inference import DISTRIBUTION, metadata_of, published_models, version_of
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.calls import Answer, Context, Failure, Measured, Stream, Unary, Write, encoded
from slipway_serve.oip.health import Health
from slipway_serve.oip.messages import (
    infer_request,
    metadata_message,
    outputs_of,
    parsed,
    response_of,
    stream_response,
    tensors_of,
    timeout_of,
)
from slipway_serve.oip.status import message_of, trailers_of
from slipway_serve.oip.stream_models import StreamTensors, UnpublishedHere, published_streams
from slipway_serve.problems import Problem
from slipway_serve.protocol import EXTENSIONS, SERVER_NAME
from slipway_serve.routes import ServerState
from slipway_serve.stream_reply import IDLE_S
from slipway_serve.tensor_model import TensorModel
from slipway_serve.watching import BUNDLE_HEADER, is_synthetic

SERVICE: Final = "inference.GRPCInferenceService"
UNARY: Final = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
STREAM: Final = "ModelStreamInfer"
TEMPLATES: Final = tuple(f"/{SERVICE}/{method}" for method in (*UNARY, STREAM))
"""Every method: what gRPC adds to the closed set of the metrics' route label."""
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
NO_COMPRESSION: Final = 1
"""Bit set of the compression algorithms that are taken: identity."""


class GrpcServer:
    """A running server; made by `start_grpc`."""

    def __init__(self, server: grpc.aio.Server, port: int, leaving: asyncio.Event) -> None:
        self._server = server
        self._leaving = leaving
        self.port: Final = port

    def leave(self) -> None:
        """Say NOT_SERVING and end the streams, but go on answering calls. Idempotent."""
        self._leaving.set()

    async def drain(self, grace_s: float) -> None:
        """Take no more calls, finish those that run, stop; blocks up to `grace_s`, then cancels the rest."""
        self.leave()
        await self._server.stop(grace_s)


async def start_grpc(
    engines: Sequence[Engine],
    state: ServerState,
    *,
    host: str,
    port: int,
    limits: LimitsConfig,
    idle_s: float = IDLE_S,
    credentials: grpc.ServerCredentials | None = None,
) -> GrpcServer:
    """Serve these engines on `host:port`, beside other processes of this user that do (`reserve_port`).

    Args:
        engines: started ones.
        state: whose drain state and metrics apply.
        host: address to listen on.
        port: 0 takes a free one.
        limits: of messages, calls and deadlines.
        idle_s: seconds that a stream model may go without a next item, and its client without reading.
        credentials: of TLS; None: there is none.

    Raises:
        PortInUseError: when the port cannot be had.
        ConfigError: two services publish the same model.
    """
    leaving = asyncio.Event()
    service = InferenceService(engines, state, limits, idle_s)
    server = grpc.aio.server(options=_options(limits), maximum_concurrent_rpcs=limits.connections)
    health = Health((SERVICE,), service.is_ready, leaving)
    server.add_generic_rpc_handlers((service.handler(leaving), health.handler()))
    try:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        secured = None if credentials is None else server.add_secure_port(address, credentials)
        taken = server.add_insecure_port(address) if secured is None else secured
    except RuntimeError as error:
        raise PortInUseError(f"gRPC cannot listen on {host}:{port}: {error}", host=host, port=port) from error
    await server.start()
    return GrpcServer(server, taken, leaving)


class InferenceService:
    """The methods of `inference.GRPCInferenceService`: bytes in, a message out.

    Args:
        engines: whose published models are served.
        state: drain state and metrics.
        limits: rows and deadlines.
        idle_s: seconds of a stream model's items, and of its clients.
    """

    def __init__(
        self, engines: Sequence[Engine], state: ServerState, limits: LimitsConfig, idle_s: float = IDLE_S
    ) -> None:
        self._engines = tuple(engines)
        self._state = state
        self._limits = limits
        self._idle_s = idle_s
        streams = published_streams(engines)
        self._unpublished = UnpublishedHere(engines, streams)
        self._refused: dict[str, Problem] = {}
        self._models: dict[str, TensorModel] = {}
        self._described: dict[str, Message] = {}
        self._engine_of: dict[str, Engine] = {}
        for name, (engine, model) in published_models(engines).items():
            self._models[name] = TensorModel(engine, model, version_of(engine), limits)
            self._described[name] = metadata_message(metadata_of(engine, model))
            self._engine_of[name] = engine
        for name, (engine, stream) in streams.items():
            self._engine_of[name] = engine
            try:
                tensors = self._models[name] = StreamTensors(engine, stream, limits, idle_s)
            except SchemaError as error:
                self._refused[name] = _without_tensors(name, error)
            else:
                self._described[name] = metadata_message(tensors.metadata)
        self._server_described = pb.ServerMetadataResponse(
            name=SERVER_NAME, version=importlib.metadata.version(DISTRIBUTION), extensions=EXTENSIONS
        )

    def handler(self, leaving: asyncio.Event) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        answers: dict[str, Answer] = dict(
            zip(
                UNARY,
                (self.live, self.ready, self.metadata, self.model_ready, self.model_metadata, self.infer),
                strict=True,
            )
        )
        handlers: dict[str, Handler] = {
            method: grpc.unary_unary_rpc_method_handler(
                Unary(Measured(f"/{SERVICE}/{method}", self._state), answer).serve
            )
            for method, answer in answers.items()
        }
        template = f"/{SERVICE}/{STREAM}"
        measured = Measured(template, self._state, math.inf)  # its clients set the pace
        stream = Stream(measured, self.read, leaving, self._idle_s)
        handlers[STREAM] = grpc.stream_stream_rpc_method_handler(stream.serve)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def is_ready(self) -> bool:
        """Every model has answered, and the server is not draining."""
        return not self._state.is_draining and all(engine.is_ready for engine in self._engines)

    async def live(self, raw: bytes, context: Context) -> Message:  # noqa: ARG002  # Answer
        """The event loop runs."""
        parsed(pb.ServerLiveRequest, raw)
        return pb.ServerLiveResponse(live=True)

    async def ready(self, raw: bytes, context: Context) -> Message:  # noqa: ARG002  # Answer
        """The readiness of the whole server."""
        parsed(pb.ServerReadyRequest, raw)
        return pb.ServerReadyResponse(ready=self.is_ready())

    async def metadata(self, raw: bytes, context: Context) -> Message:  # noqa: ARG002  # Answer
        """Who this is."""
        parsed(pb.ServerMetadataRequest, raw)
        return self._server_described

    async def model_ready(self, raw: bytes, context: Context) -> Message:  # noqa: ARG002  # Answer
        """The readiness of one model."""
        request = parsed(pb.ModelReadyRequest, raw)
        name = self._model(request.name, request.version).name
        ready = self._engine_of[name].is_ready and not self._state.is_draining
        return pb.ModelReadyResponse(ready=ready)

    async def model_metadata(self, raw: bytes, context: Context) -> Message:  # noqa: ARG002  # Answer
        """What a client must send to a model, and what it gets."""
        request = parsed(pb.ModelMetadataRequest, raw)
        return self._described[self._model(request.name, request.version).name]

    async def infer(self, raw: bytes, context: Context) -> Message:
        """Tensors in, tensors out, through the model's queue like every other row.

        Raises:
            Problem: the request is not one of a model that is served.
            RowError: a value breaks the schema; `path` says which.
        """
        return await self.answer(infer_request(raw), context)

    async def answer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """The answer of an ordinary model; raises as `infer`."""
        model = self._model(request.model_name, request.model_version)
        wanted = model.wanted(outputs_of(request), is_binary=True)
        tensors = tensors_of(request)
        answer = await model.infer(tensors, self._deadline(model, request, context))
        response = response_of(request, answer, wanted, name=model.name, version=model.version)
        if is_synthetic():  # a load test, which wants to know who answered
            response.parameters[BUNDLE_HEADER.decode()].string_param = self._engine_of[model.name].view.digest or ""
        return response

    def read(self, raw: bytes, context: Context) -> "StreamedRequest":
        """One request of `ModelStreamInfer`; what is wrong with it is said when it runs."""
        return StreamedRequest(self, raw, context)

    def streams(self, name: str) -> bool:
        """Whether this is a stream model."""
        return isinstance(self._models.get(name), StreamTensors)

    async def items(self, request: pb.ModelInferRequest, context: Context) -> AsyncIterator[pb.ModelInferResponse]:
        """The items of a stream model, a response each; raises as `StreamTensors.items`, and as `infer`."""
        model = cast("StreamTensors", self._model(request.model_name, request.model_version))
        wanted = model.wanted(outputs_of(request), is_binary=True)
        opened: Any = model.items(tensors_of(request), self._deadline(model, request, context))
        async with aclosing(opened) as items:
            async for item in items:
                yield response_of(request, item, wanted, name=model.name, version=model.version)

    def _model(self, name: str, version: str) -> TensorModel:
        problem = self._unpublished.problem_with(name, version or None) or self._refused.get(name)
        if problem is not None:
            raise problem
        return self._models[name]

    def _deadline(self, model: TensorModel, request: pb.ModelInferRequest, context: Context) -> float:
        left_s = context.time_remaining()
        allowed_s = model.deadline_s if left_s is None else min(left_s, self._limits.deadline_ms / 1_000)
        deadline = time.monotonic() + allowed_s
        return model.deadline(timeout_of(request.parameters), deadline, is_asked=left_s is not None)


class StreamedRequest:
    """One request of `ModelStreamInfer`, and the responses to it: each repeats its `id`, the last one says that it is.

    Args:
        service: who answers.
        raw: the message.
        context: of the call.
    """

    def __init__(self, service: InferenceService, raw: bytes, context: Context) -> None:
        self._service = service
        self._context = context
        self._problem: Problem | None = None
        self._request = pb.ModelInferRequest()
        try:
            self._request = infer_request(raw)
        except Problem as problem:
            self._problem = problem
        self.is_streamed: Final = service.streams(self._request.model_name)

    async def run(self, write: Write) -> bytes:
        """Answer; raises as `InferenceService.infer` and `.items`."""
        if self._problem is not None:
            raise self._problem
        if not self.is_streamed:
            return encoded(stream_response(await self._service.answer(self._request, self._context), is_final=True))
        opened: Any = self._service.items(self._request, self._context)
        async with aclosing(opened) as responses:
            async for response in responses:
                await write(stream_response(response, is_final=False))
        return stream_response(self._empty(), is_final=True)

    def failure(self, failure: Failure) -> bytes:
        """A sentence, and as parameters what a status would have as trailing metadata; other requests go on."""
        problem = failure.problem
        response = self._empty()
        for name, value in trailers_of(problem, instance=failure.instance):
            text = value.decode() if isinstance(value, bytes) else value
            response.parameters[name.removesuffix("-bin")].string_param = text
        later = f"; retry after {problem.retry_after_s:.3f} s" if problem.retry_after_s else ""
        return stream_response(response, is_final=True, error=message_of(problem) + later)

    def _empty(self) -> pb.ModelInferResponse:
        request = self._request
        return pb.ModelInferResponse(id=request.id, model_name=request.model_name, model_version=request.model_version)


def _without_tensors(name: str, error: SchemaError) -> Problem:
    """The refusal of a stream model that HTTP serves and this protocol cannot."""
    return Problem(400, error.code, f"stream model {name!r} has no tensors: {error.message}", hint=error.hint)


def _options(limits: LimitsConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.header_bytes),
        ("grpc.absolute_max_metadata_size", limits.header_bytes),
        ("grpc.compression_enabled_algorithms_bitset", NO_COMPRESSION),
        ("grpc.server_handshake_timeout_ms", int(limits.headers_s * 1_000)),
        ("grpc.max_connection_idle_ms", int(limits.idle_s * 1_000)),
    ]
