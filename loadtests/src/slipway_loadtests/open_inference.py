"""Inputs in the Open Inference Protocol: a row of a model as the tensors of one request, over REST (v2) and gRPC.

It makes no rows (payloads.py does) and judges no answer. gRPC answers are handed on in the JSON form of REST, so that
one reader reads both. The invariant: a channel's calls run beside each other like other greenlets (grpc's own gevent
mode), are sent once, and end by their timeout. Sources: KServe `predict-v2` and `open_inference_grpc.proto`.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import grpc
import msgspec
from grpc.experimental import gevent as grpc_gevent

from slipway_bundle.errors import ConfigError
from slipway_loadtests.arms import Reply
from slipway_loadtests.fetching import UnreachableError, fetch
from slipway_loadtests.payloads import Payload
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.messages import FIELDS
from slipway_serve.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from slipway_signals.gate.answers import Leaves
from slipway_signals.gate.load_plan import LoadPlan, Target

__all__ = ["GrpcArm", "Tensor", "as_tensors", "describe"]

DESCRIBE_S: Final = 5.0
BUNDLE: Final = "x-slipway-bundle"
REFUSED: Final = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)


class Tensor(NamedTuple):
    """One input of a model, as its metadata says."""

    name: str
    datatype: str


def describe(plan: LoadPlan, model: str, key: str | None) -> tuple[Tensor, ...]:
    """The inputs of a model of the first arm, asked in the plan's protocol.

    Raises:
        UnreachableError: it cannot be asked, or does not serve the model.
    """
    target = next(iter(plan.arms.values()))
    if plan.protocol == "grpc":
        arm = GrpcArm(target, key)
        try:
            return arm.describe(model)
        finally:
            arm.close()
    page = fetch(f"{target.url.rstrip('/')}/v2/models/{model}", key=key)
    described = msgspec.json.decode(page.text, type=dict[str, Any])
    return tuple(Tensor(one["name"], one["datatype"]) for one in described["inputs"])


def as_tensors(payload: Payload, model: str, tensors: Sequence[Tensor], protocol: str) -> Payload:
    """A payload that holds a row, as one that holds a request for a batch of one.

    Raises:
        ConfigError: the row lacks an input of the model.
    """
    row: dict[str, Any] = msgspec.json.decode(payload.body)
    missing = [tensor.name for tensor in tensors if tensor.name not in row]
    if missing:
        raise ConfigError(f"an input has no {missing[0]!r}, which model {model!r} takes; it has {', '.join(row)}")
    required = frozenset(f"{name}[]" for name in payload.required)
    right = None if payload.right is None else _listed(payload.right)
    if protocol == "v2":
        inputs = [
            {"name": name, "datatype": datatype, "shape": _shape(row[name]), "data": _flat(row[name])}
            for name, datatype in tensors
        ]
        return Payload(
            f"/v2/models/{model}/infer", msgspec.json.encode({"inputs": inputs}), payload.kind, right, required
        )
    request = pb.ModelInferRequest(model_name=model)
    for name, datatype in tensors:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=_shape(row[name]))
        values = [_element(value, datatype) for value in _flat(row[name])]
        getattr(tensor.contents, FIELDS[datatype][0]).extend(values)  # type: ignore[index]  # what the server said
    return Payload(model, request.SerializeToString(), payload.kind, right, required)


class GrpcArm:
    """An arm that answers the Open Inference Protocol over gRPC, through one channel.

    Args:
        target: whom to ask.
        key: API key or token, or None.
    """

    def __init__(self, target: Target, key: str | None) -> None:
        grpc_gevent.init_gevent()
        scheme, _, address = target.url.partition("://")
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        self._url = target.url
        self._channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
            if scheme == "grpcs"
            else grpc.insecure_channel(address, options)
        )
        self._metadata = (("x-slipway-synthetic", "1"), *((("authorization", f"Bearer {key}"),) if key else ()))
        self._infer: Any = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", response_deserializer=pb.ModelInferResponse.FromString
        )
        self._stub: Any = GRPCInferenceServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def ask(self, payload: Payload, timeout_s: float) -> Reply:
        """Call `ModelInfer`; the answer's body is JSON, as REST would have it."""
        if timeout_s <= 0:
            return Reply(0, failed="timeout")
        try:
            answer = self._infer(payload.body, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            code = error.code()
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                return Reply(0, failed="timeout")
            return Reply(400 if code in REFUSED else 0, failed=f"grpc_{code.name}")
        digest = answer.parameters[BUNDLE].string_param if BUNDLE in answer.parameters else ""
        outputs = [{"name": one.name, "data": _values(one)} for one in answer.outputs]
        return Reply(200, msgspec.json.encode({"outputs": outputs}), digest)

    def describe(self, model: str) -> tuple[Tensor, ...]:
        """The inputs of a model; raises UnreachableError."""
        request = pb.ModelMetadataRequest(name=model)
        try:
            answer = self._stub.ModelMetadata(request, timeout=DESCRIBE_S, metadata=self._metadata)
        except grpc.RpcError as error:
            raise UnreachableError(f"{self._url} does not describe model {model!r}: {error}") from error
        return tuple(Tensor(one.name, one.datatype) for one in answer.inputs)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _listed(leaves: Leaves) -> Leaves:
    """The names that a row's fields have as outputs of a batch."""
    return Leaves(
        {f"{name}[]": values for name, values in leaves.numbers.items()},
        {f"{name}[]": values for name, values in leaves.labels.items()},
        frozenset(f"{name}[]" for name in leaves.nulls),
    )


def _shape(value: object) -> list[int]:
    shape = [1]
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _flat(value: object) -> list[Any]:
    return [inner for item in value for inner in _flat(item)] if isinstance(value, list) else [value]


def _element(value: Any, datatype: str) -> Any:
    """A JSON value as the field of its datatype takes it; null is NaN, as in REST."""
    if datatype == "BYTES":
        return str(value).encode()
    if datatype.startswith("FP"):
        return float("nan") if value is None else float(value)
    return bool(value) if datatype == "BOOL" else int(value)


def _values(output: Any) -> list[Any]:
    """The contents of an output; NaN becomes null, which JSON has."""
    (_, values), *_ = output.contents.ListFields() or [(None, ())]
    plain = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]
    return [None if value != value else value for value in plain]  # noqa: PLR0124  # NaN is not itself
