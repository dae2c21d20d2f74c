"""A far end over gRPC: raw contents through one channel.

It judges no tensor (remote.py does). The invariant: a call ends by its timeout, is sent once, and an answer is never
larger than the bound. Source: KServe `open_inference_grpc.proto`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from slipway_serve.far_end import (
    NO_HEADERS,
    OUTPUTS,
    SENTENCE,
    Address,
    FarModel,
    RemoteFailed,
    RemoteUnavailable,
    Sent,
)
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.messages import contents_of
from slipway_serve.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from slipway_serve.protocol import TensorMetadata
from slipway_serve.tensor_data import to_binary
from slipway_serve.tensors import Given

Answered = TypeVar("Answered", bound=Message)

OVERLOADED: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
"""Codes that say: later, or elsewhere."""
RECONNECT_MS: Final = 100
LAST_RECONNECT_MS: Final = 1_000
"""gRPC's own back-off grows to two minutes: a far end that is back would be refused that long."""


class GrpcEnd:
    """One server over one HTTP/2 connection, which all threads share.

    Args:
        address: which, and which model.
        answer_bytes: the largest answer that is read.
    """

    def __init__(self, address: Address, answer_bytes: int) -> None:
        self._address = address
        options: list[tuple[str, int]] = [
            ("grpc.max_receive_message_length", answer_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.min_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", LAST_RECONNECT_MS),
        ]
        if address.scheme == "grpcs":
            self._channel = grpc.secure_channel(address.host, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(address.host, options)
        self._stub: Any = GRPCInferenceServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def server_name(self, timeout_s: float) -> str:
        """What the server calls itself."""
        return self._ask(
            self._stub.ServerMetadata, pb.ServerMetadataRequest(), pb.ServerMetadataResponse, timeout_s
        ).name

    def describe(self, timeout_s: float) -> FarModel:
        """The metadata of the model."""
        request = pb.ModelMetadataRequest(name=self._address.model)
        answer = self._ask(self._stub.ModelMetadata, request, pb.ModelMetadataResponse, timeout_s)
        inputs, outputs = (
            tuple(TensorMetadata(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in tensors)
            for tensors in (answer.inputs, answer.outputs)
        )
        return FarModel(name=answer.name, inputs=inputs, outputs=outputs)

    def infer(
        self, inputs: Sequence[Sent], outputs: Sequence[str], timeout_s: float, headers: Mapping[str, str]
    ) -> list[Given]:
        """One call: the outputs as they were answered."""
        request = pb.ModelInferRequest(model_name=self._address.model)
        for spec, array in inputs:
            request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
            request.raw_input_contents.append(to_binary(array, spec))
        for name in outputs:
            request.outputs.add(name=name)
        answer = self._ask(self._stub.ModelInfer, request, pb.ModelInferResponse, timeout_s, headers)
        return list(contents_of(answer.outputs, answer.raw_output_contents, OUTPUTS, "$.raw_output_contents"))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _ask(
        self,
        method: Callable[..., object],
        request: Message,
        kind: type[Answered],
        timeout_s: float,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answered:
        try:
            answer = method(request, timeout=timeout_s, metadata=tuple(headers.items()) or None)
        except grpc.RpcError as error:
            self._raise(error, timeout_s)
        except ValueError as error:  # the channel is closed
            raise RemoteUnavailable(f"{self._address.url} cannot be called: {error}") from error
        if not isinstance(answer, kind):
            raise TypeError(f"this is a bug in slipway: the stub answered {type(answer)!r}")
        return answer

    def _raise(self, error: grpc.RpcError, timeout_s: float) -> NoReturn:
        call: Any = error  # of a call it is a grpc.Call as well, which its type does not say
        code, said = call.code(), (call.details() or "no words")[:SENTENCE]
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise RemoteUnavailable(f"{self._address.url} did not answer in {timeout_s:.3f} s") from error
        sentence = f"{self._address.url} answered {code.name}: {said}"
        raise (RemoteUnavailable(sentence) if code in OVERLOADED else RemoteFailed(sentence)) from error
