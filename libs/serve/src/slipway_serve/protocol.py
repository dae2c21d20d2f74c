"""The words of the Open Inference Protocol v2 over REST: requests, responses, metadata and errors as Structs.

Names and JSON only: tensors.py reads tensors, inference.py answers; gRPC has messages of its own (oip). Unknown members
are accepted, as the protocol asks of servers; members that would change where data is (shared memory) or what is
answered (classification) are known here so that they can be refused instead of being ignored. Sources: KServe
`inference_rest.md`; Triton `extension_binary_data.md` and `extension_schedule_policy.md`.
"""

from typing import Final

import msgspec
from msgspec import Struct

from slipway_serve.problems import Problem, ProblemBody, problem_body

SERVER_NAME: Final = "slipway"
EXTENSIONS: Final = ("binary_tensor_data",)
HEADER_LENGTH: Final = b"inference-header-content-length"


class RequestParameters(Struct, frozen=True, kw_only=True):
    """`parameters` of a request; others are ignored."""

    binary_data_output: bool = False
    """Answer all outputs as binary, unless an output says otherwise."""
    timeout: int | None = None
    """Microseconds that the client waits (Triton's schedule policy)."""


class InputParameters(Struct, frozen=True, kw_only=True):
    """`parameters` of one input; others are ignored."""

    binary_data_size: int | None = None
    """Bytes of this tensor behind the JSON; then there is no `data`."""
    shared_memory_region: str | None = None


class OutputParameters(Struct, frozen=True, kw_only=True):
    """`parameters` of one wanted output; others are ignored."""

    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class RequestInput(Struct, frozen=True, kw_only=True):
    """One input tensor."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: InputParameters | None = None
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    """Row-major, flat or nested as `shape` says; decoded when the datatype is known. Empty when it is binary."""


class RequestOutput(Struct, frozen=True, kw_only=True):
    """One wanted output."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(Struct, frozen=True, kw_only=True):
    """The JSON of `POST /v2/models/{name}/infer`."""

    inputs: tuple[RequestInput, ...]
    id: str | None = None
    parameters: RequestParameters | None = None
    outputs: tuple[RequestOutput, ...] | None = None
    """Which outputs to answer, in this order; absent or empty: all."""


class BinarySize(Struct, frozen=True):
    """`parameters` of an output that is answered as binary."""

    binary_data_size: int


class ResponseOutput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output tensor; either `data`, flat and row-major, or a size in `parameters`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: BinarySize | None = None
    data: list[bool | int | float | str] | None = None


class InferResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The JSON of an answer."""

    model_name: str
    model_version: str
    outputs: tuple[ResponseOutput, ...]
    id: str | None = None
    """The request's `id`, when it had one."""


class ServerMetadata(Struct, frozen=True, kw_only=True):
    """`GET /v2`."""

    name: str
    version: str
    extensions: tuple[str, ...]


class TensorMetadata(Struct, frozen=True, kw_only=True):
    """Name, datatype and shape of one tensor; -1 is a size that the request chooses, the first axis counts rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(Struct, frozen=True, kw_only=True):
    """`GET /v2/models/{name}`."""

    name: str
    versions: tuple[str, ...]
    platform: str
    """Format of the weights, e.g. `slipway_xgboost`."""
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class ServerLive(Struct, frozen=True):
    """`GET /v2/health/live`."""

    live: bool


class ServerReady(Struct, frozen=True):
    """`GET /v2/health/ready`."""

    ready: bool


class ModelReady(Struct, frozen=True, kw_only=True):
    """`GET /v2/models/{name}/ready`."""

    name: str
    ready: bool


class ProtocolProblem(ProblemBody, omit_defaults=True, kw_only=True):
    """A problem as clients of the protocol read it: `error` is the sentence, the rest is as everywhere."""

    error: str


_encoder = msgspec.json.Encoder()


def protocol_body_of(problem: Problem, *, instance: str | None = None) -> bytes:
    """The problem as JSON bytes, with the `error` member that the protocol's clients read."""
    body = problem_body(problem, instance=instance)
    return _encoder.encode(ProtocolProblem(**msgspec.structs.asdict(body), error=sentence_of(problem)))


def sentence_of(problem: Problem) -> str:
    """What happened and where, for clients that show one sentence."""
    if problem.path is None or problem.path in problem.detail:
        return problem.detail
    return f"{problem.detail}, at {problem.path}"
