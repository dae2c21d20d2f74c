"""Named tensors without a graph: safetensors, read and written here, mapped and not copied.

The format is a length, a JSON header and bytes; a parser of our own keeps every limit in sight and needs no library.
The invariant: a file that loads has tensors that cover its bytes exactly once, in order; and what is written has
sorted metadata and one order of tensors, so equal tensors give equal bytes (the library's own files do not).
Source: https://github.com/huggingface/safetensors ("Format").
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from slipway_bundle.config import ModelConfig
from slipway_bundle.schema import Arrays, Floats, TensorSpec
from slipway_bundle.weights import WeightsError, WeightsFile, WeightsFormatError, refuse_device

FORMAT = "safetensors"
FLOATS: Floats = "FP32"
TAKES_MISSING = True
"""Nothing here refuses NaN; what `compute` does with it is the service's own."""

_HEADER_LIMIT = 100_000_000
"""As in the format's own library."""

_METADATA = "__metadata__"
_DTYPES = {
    "BOOL": "?", "U8": "<u1", "I8": "<i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[Annotated[int, Meta(ge=0)], ...]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


def save(model: Any, path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a mapping of names to arrays; equal tensors and metadata give equal bytes.

    Raises:
        WeightsError: It is no such mapping, or an array has a datatype that the format lacks.
    """
    if not isinstance(model, Mapping) or _METADATA in model or not all(isinstance(name, str) for name in model):
        raise WeightsError(f"{type(model).__name__!r} is not a mapping of names to tensors")
    arrays = {name: np.asarray(value) for name, value in model.items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in _NAMES:
            raise WeightsError(f"the tensor {name!r} is {array.dtype}, expected one of {', '.join(_DTYPES)}")
    header: dict[str, object] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # widest first: all stay aligned
    for name in names:
        array, start = arrays[name], at
        at += array.nbytes
        dtype = _NAMES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, at]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            stream.write(arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False).tobytes())


def sniff(head: bytes, name: str) -> bool:  # noqa: ARG001  # the bytes say enough
    """Whether this is a safetensors file: a sane header length, then a JSON object."""
    return 2 <= int.from_bytes(head[:8], "little") <= _HEADER_LIMIT and head[8:9] == b"{"


def load(
    file: WeightsFile,
    config: ModelConfig,
    inputs: tuple[TensorSpec, ...],  # noqa: ARG001  # every adapter has these
    *,
    threads: int = 1,  # noqa: ARG001
    device: str = "cpu",
) -> "TensorWeights":
    """Maps the tensors of a file: read when used, shared by all processes. See `weights.Adapter.load`."""
    refuse_device(device, FORMAT)
    return TensorWeights(read_tensors(file.view()), config.file)


class TensorWeights:
    """Loaded tensors: for a `compute` function to use; there is nothing to call."""

    outputs: tuple[str, ...] = ()

    def __init__(self, tensors: dict[str, NDArray[Any]], name: str) -> None:
        self.tensors: Mapping[str, NDArray[Any]] = MappingProxyType(tensors)
        """Name -> read-only array, a view of the file."""
        self._name = name

    def __call__(self, batch: Arrays) -> Arrays:  # noqa: ARG002  # the Protocol's signature
        """Raises WeightsError: tensors have no graph."""
        raise WeightsError(
            f"{self._name!r} holds tensors and no graph, expected a `compute` function for this model",
            hint='write `@model.compute` and use `weights.tensors["…"]`, or export the model to ONNX',
        )


def read_tensors(data: memoryview) -> dict[str, NDArray[Any]]:
    """The tensors in the bytes of a file, without a copy.

    Raises:
        WeightsFormatError: The header is malformed, or the tensors do not cover the bytes exactly once.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_HEADER_LIMIT, len(data) - 8):
        raise WeightsFormatError(f"the safetensors header claims {length} bytes, expected at most {len(data) - 8}")
    try:
        raw = msgspec.json.decode(data[8 : 8 + length], type=dict[str, msgspec.Raw])
        msgspec.json.decode(raw.pop(_METADATA, b"{}"), type=dict[str, str])
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WeightsFormatError(f"the safetensors header is malformed: {error}") from error
    tensors: dict[str, NDArray[Any]] = {}
    at, start = 0, 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        code = _DTYPES.get(entry.dtype)
        if code is None:
            raise WeightsFormatError(f"the tensor {name!r} is {entry.dtype!r}, expected one of {', '.join(_DTYPES)}")
        first, last = entry.data_offsets
        if first != at or last - first != math.prod(entry.shape) * np.dtype(code).itemsize:
            raise WeightsFormatError(
                f"the tensor {name!r} has the offsets {first} to {last}, expected to start at {at}"
            )
        if last > len(data) - start:
            raise WeightsFormatError(f"the tensor {name!r} ends at {last}, expected at most {len(data) - start}")
        tensors[name] = np.frombuffer(data[start + first : start + last], dtype=code).reshape(entry.shape)
        at = last
    if at != len(data) - start:
        raise WeightsFormatError(f"the safetensors file has {len(data) - start - at} bytes that no tensor names")
    return tensors
