"""Between the messages of `open_inference.proto` and the words that REST and gRPC share.

It answers nothing and judges no tensor: tensors.py does. What is particular to gRPC is refused here: contents in the
wrong field, raw contents that are not one for each input, a parameter of the wrong kind. Paths name the message's own
fields, e.g. `$.raw_input_contents[2]`.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from slipway_bundle import Arrays, TensorSpec
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.schema import Datatype
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.wire import check_fields
from slipway_serve.problems import Problem
from slipway_serve.protocol import ModelMetadata, OutputParameters, RequestOutput, TensorMetadata
from slipway_serve.tensor_data import BinaryData, objects, refusal, to_binary, words_of
from slipway_serve.tensors import Given, Wanted, shape_of

Kind = TypeVar("Kind", bound=Message)
Parameters: TypeAlias = Mapping[str, pb.InferParameter]
_Tensor: TypeAlias = pb.ModelInferRequest.InferInputTensor | pb.ModelInferResponse.InferOutputTensor

FIELDS: Final[Mapping[Datatype, tuple[str, str]]] = {
    "BOOL": ("bool_contents", "?"),
    "INT8": ("int_contents", "<i8"),
    "INT16": ("int_contents", "<i8"),
    "INT32": ("int_contents", "<i8"),
    "INT64": ("int64_contents", "<i8"),
    "UINT8": ("uint_contents", "<i8"),
    "UINT16": ("uint_contents", "<i8"),
    "UINT32": ("uint_contents", "<i8"),
    "UINT64": ("uint64_contents", "<u8"),
    "FP32": ("fp32_contents", "<f4"),
    "FP64": ("fp64_contents", "<f8"),
    "BYTES": ("bytes_contents", "O"),
}
"""Datatype → field of `InferTensorContents`, and the array that it is read into, for the row codec to narrow and check.
16-bit floats have none."""
WHOLE: Final = ("int64_param", "uint64_param")
FINAL: Final = "triton_final_response"
"""Parameter of every response of a stream: whether it is the last one to its request. Source: Triton's user guide on
decoupled models."""


class TypedData(NamedTuple):
    """The elements of a tensor in the field of their datatype, flat and row-major."""

    contents: pb.InferTensorContents
    path: str

    def array(self, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
        """The elements; raises Problem 400 when they are in another field, or more or fewer."""
        if spec.datatype not in FIELDS:
            hint = f"there is no field for {spec.datatype}; put its bytes into `raw_input_contents`"
            raise refusal("data_mismatch", self.path, "typed", "raw bytes", hint=hint)
        field, dtype = FIELDS[spec.datatype]
        filled = [descriptor.name for descriptor, _ in self.contents.ListFields()]
        if not filled:
            raise refusal("data_missing", self.path, "empty", f"`{field}`, or all inputs in `raw_input_contents`")
        if filled != [field]:
            raise refusal("data_mismatch", self.path, f"in {', '.join(filled)}", f"{field} for {spec.datatype}")
        values = getattr(self.contents, field)
        count = math.prod(shape)
        if len(values) != count:
            raise refusal("data_mismatch", f"{self.path}.{field}", f"{len(values)} long", f"{count}, as `shape` says")
        if spec.datatype == "BYTES":
            return objects(words_of(values, spec, self.path)).reshape(shape)
        return np.fromiter(values, dtype=dtype, count=count).reshape(shape)


def parsed(kind: type[Kind], raw: bytes) -> Kind:
    """The message in these bytes.

    Raises:
        Problem: 400; they are no such message.
    """
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise Problem(400, "protobuf_invalid", f"{len(raw)} bytes are not a {name}: {error}") from error


def infer_request(raw: bytes) -> pb.ModelInferRequest:
    """The request in these bytes; raises Problem 400 when they are none, or too many fields."""
    check_fields(raw)
    return parsed(pb.ModelInferRequest, raw)


def tensors_of(request: pb.ModelInferRequest) -> Iterator[Given]:
    """The inputs of a request; raises as `contents_of`."""
    return contents_of(request.inputs, request.raw_input_contents, "$.inputs", "$.raw_input_contents")


def contents_of(tensors: Collection[_Tensor], raw: Sequence[bytes], at: str, raw_at: str) -> Iterator[Given]:
    """The tensors of a request or an answer, one by one, wherever their data is.

    Args:
        tensors: name, datatype, shape, and perhaps contents.
        raw: raw contents, one for each tensor; empty: they are typed.
        at: path of the tensors in the message.
        raw_at: path of the raw contents.

    Raises:
        Problem: 400; there are raw contents, but not one for each tensor, or typed contents beside them.
    """
    if raw and len(raw) != len(tensors):
        raise refusal("data_mismatch", raw_at, f"{len(raw)} long", f"{len(tensors)}, one for each tensor")
    for index, tensor in enumerate(tensors):
        path = f"{at}[{index}]"
        data: TypedData | BinaryData
        if raw:
            if tensor.HasField("contents"):
                raise refusal("data_mismatch", f"{path}.contents", "given beside raw contents", "one of the two")
            place = f"{raw_at}[{index}]"
            data = BinaryData(memoryview(raw[index]), place, place)
        else:
            data = TypedData(tensor.contents, f"{path}.contents")
        is_shared = "shared_memory_region" in tensor.parameters
        yield Given(tensor.name, tensor.datatype, tuple(tensor.shape), data, path, data.path, is_shared)


def outputs_of(request: pb.ModelInferRequest) -> list[RequestOutput]:
    """The outputs that a request asks for."""
    outputs: list[RequestOutput] = []
    for output in request.outputs:
        parameters = OutputParameters(
            classification=0 if "classification" in output.parameters else None,
            shared_memory_region="" if "shared_memory_region" in output.parameters else None,
        )
        outputs.append(RequestOutput(name=output.name, parameters=parameters))
    return outputs


def timeout_of(parameters: Parameters) -> int | None:
    """Parameter `timeout`, in microseconds; raises Problem 400 when it is no integer."""
    if "timeout" not in parameters:
        return None
    value = parameters["timeout"]
    kind = value.WhichOneof("parameter_choice")
    if kind not in WHOLE:
        raise refusal("timeout_invalid", "$.parameters.timeout", f"{kind or 'empty'}", "int64_param, microseconds > 0")
    return int(getattr(value, kind))


def is_raw(request: pb.ModelInferRequest, wanted: Iterable[Wanted]) -> bool:
    """Whether the answer is in raw contents: as the inputs were, unless `binary_data_output` says otherwise."""
    if any(spec.datatype not in FIELDS for spec, _ in wanted):
        return True
    if "binary_data_output" in request.parameters:
        return request.parameters["binary_data_output"].bool_param
    return bool(request.raw_input_contents)


def response_of(
    request: pb.ModelInferRequest, arrays: Arrays, wanted: Sequence[Wanted], *, name: str, version: str
) -> pb.ModelInferResponse:
    """The answer to a request.

    Args:
        request: what was asked.
        arrays: output name → array; the leading axis counts rows.
        wanted: what to answer, in this order.
        name: of the model.
        version: of the model.
    """
    response = pb.ModelInferResponse(model_name=name, model_version=version, id=request.id)
    raw = is_raw(request, wanted)
    for spec, _ in wanted:
        array = arrays[spec.name]
        output = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape_of(array, spec))
        if raw:
            response.raw_output_contents.append(to_binary(array, spec))
        else:
            getattr(output.contents, FIELDS[spec.datatype][0]).extend(_values(array, spec))
    return response


def stream_response(response: pb.ModelInferResponse, *, is_final: bool, error: str = "") -> bytes:
    """One response of `ModelStreamInfer` as bytes; whoever reads it knows whether another follows."""
    response.parameters[FINAL].bool_param = is_final
    return pb.ModelStreamInferResponse(infer_response=response, error_message=error).SerializeToString()


def metadata_message(metadata: ModelMetadata) -> pb.ModelMetadataResponse:
    """The metadata of a model."""
    return pb.ModelMetadataResponse(
        name=metadata.name,
        versions=metadata.versions,
        platform=metadata.platform,
        inputs=map(_tensor, metadata.inputs),
        outputs=map(_tensor, metadata.outputs),
    )


def _tensor(tensor: TensorMetadata) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)


def _values(array: NDArray[Any], spec: TensorSpec) -> list[Any]:
    flat = array.reshape(-1)
    if spec.datatype == "BYTES":
        return [word if isinstance(word, bytes) else word.encode() for word in flat.tolist()]
    return flat.astype(DTYPES[spec.datatype], copy=False).tolist()
