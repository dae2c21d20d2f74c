"""Tensor data of the Open Inference Protocol: JSON or binary to arrays `[rows, *shape]`, and back.

It checks the form (names, datatypes, shapes, lengths) and says where it is wrong as a JSON path into the request; the
values are checked by the row codec that takes the arrays. The invariant: no size that a client claims is allocated
before as many bytes were found. A datatype is never converted: what the metadata names is what a client sends. JSON
`null` in a tensor of a nullable field is a missing value (NaN). Sources: KServe `inference_rest.md`, "Tensor Data";
Triton `extension_binary_data.md`.
"""

import difflib
import itertools
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from slipway_bundle import TensorSpec
from slipway_bundle.row_fields import DTYPES
from slipway_serve.problems import Problem
from slipway_serve.protocol import BinarySize, InferRequest, RequestInput, ResponseOutput

Element = Literal["bool", "int", "float", "float or null", "str"]

ELEMENTS: Final[Mapping[Element, Any]] = {
    "bool": bool, "int": int, "float": float, "float or null": float | None, "str": str,
}  # fmt: skip
NESTED: Final = re.compile(rb"\s*\[\s*\[")
AT: Final = re.compile(r"^(.*) - at `\$(.*)`$", re.DOTALL)
"""The sentence and the path of a msgspec error."""
LENGTH: Final = struct.Struct("<I")
NAMES_SHOWN: Final = 12


class Wanted(NamedTuple):
    """One output to answer."""

    spec: TensorSpec
    is_binary: bool


class InputReader:
    """Reads the inputs of requests for one model.

    Args:
        specs: the model's input tensors, without the batch axis.
        max_rows: rows in one request at most.
    """

    def __init__(self, specs: Sequence[TensorSpec], max_rows: int) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._max_rows = max_rows

    def read(self, request: InferRequest, binary: memoryview) -> tuple[dict[str, NDArray[Any]], int]:
        """Name → array `[rows, *shape]`, and the number of rows.

        Args:
            request: the JSON.
            binary: the bytes behind it, in the order of the inputs.

        Raises:
            Problem: 400; a tensor is missing, unknown or doubled, or its datatype, shape or data do not fit.
        """
        arrays: dict[str, NDArray[Any]] = {}
        rows = 0
        for index, given in enumerate(request.inputs):
            path = f"$.inputs[{index}]"
            spec = self._spec(given, arrays, path)
            shape = self._shape(given, spec, rows, path)
            rows = shape[0]
            size = None if given.parameters is None else given.parameters.binary_data_size
            if size is None:
                arrays[spec.name] = _from_json(given, spec, shape, path)
            else:
                arrays[spec.name] = _from_binary(given, spec, shape, _cut(binary, size, path), path)
                binary = binary[size:]
        if len(arrays) < len(self._specs):
            missing = [name for name in self._specs if name not in arrays]
            raise refusal("tensor_missing", "$.inputs", f"no tensor {shown(missing)}", f"{shown(self._specs)}")
        if binary:
            raise refusal("data_mismatch", "$.inputs", f"{len(binary)} bytes behind the last tensor", "none")
        return arrays, rows

    def _spec(self, given: RequestInput, arrays: Mapping[str, NDArray[Any]], path: str) -> TensorSpec:
        spec = self._specs.get(given.name)
        if spec is None:
            near = difflib.get_close_matches(given.name[:200], self._specs, 1)
            hint = f"did you mean {near[0]!r}?" if near else None
            raise refusal("tensor_unknown", f"{path}.name", repr(given.name[:200]), shown(self._specs), hint=hint)
        if given.name in arrays:
            raise refusal("tensor_doubled", f"{path}.name", f"{given.name!r} a second time", "each tensor once")
        if given.datatype != spec.datatype:
            got = repr(given.datatype[:40])
            raise refusal("datatype_mismatch", f"{path}.datatype", got, f"{spec.datatype} for {spec.name!r}")
        if given.parameters is not None and given.parameters.shared_memory_region is not None:
            raise refusal(
                "shared_memory",
                f"{path}.parameters.shared_memory_region",
                "a shared memory region",
                "the data in the request",
                hint="the extension `system_shared_memory` is not served",
            )
        return spec

    def _shape(self, given: RequestInput, spec: TensorSpec, rows: int, path: str) -> tuple[int, ...]:
        """The shape in full, `[rows, *spec.shape]`; a scalar field may also come as a column `[rows, 1]`."""
        shape = given.shape
        expected = (rows or -1, *spec.shape)
        if len(shape) == 2 and shape[1] == 1 and not spec.shape:
            shape = shape[:1]
        if len(shape) != len(expected):
            got = f"{len(given.shape)} dimensions ({_listed(given.shape)})"
            raise refusal("shape_mismatch", f"{path}.shape", got, f"{len(expected)} ({_listed(expected)})")
        if not 1 <= shape[0] <= self._max_rows:
            raise refusal("rows_exceeded", f"{path}.shape[0]", f"{shape[0]}", f"1 to {self._max_rows} rows")
        for axis, (length, size) in enumerate(zip(shape, expected, strict=True)):
            if length != size and (size != -1 or length < 1):
                said = f"{size}{', the rows of the first tensor' if axis == 0 else ''}" if size != -1 else "at least 1"
                raise refusal("shape_mismatch", f"{path}.shape[{axis}]", f"{length}", f"{said} ({_listed(expected)})")
        return shape


def write_outputs(
    arrays: Mapping[str, NDArray[Any]], wanted: Iterable[Wanted]
) -> tuple[tuple[ResponseOutput, ...], list[bytes]]:
    """The answer's tensors as protocol members, and the binary data that follows the JSON, in the same order.

    Args:
        arrays: name → array; the leading axis counts rows.
        wanted: what to answer, in this order.

    Raises:
        Problem: 400; bytes that are not text were asked for as JSON.
    """
    outputs: list[ResponseOutput] = []
    binary: list[bytes] = []
    for spec, is_binary in wanted:
        array = arrays[spec.name]
        shape = (len(array), *spec.shape) if array.ndim == 2 and not spec.shape else array.shape
        size = None
        data = None
        if is_binary:
            binary.append(_to_binary(array, spec))
            size = BinarySize(len(binary[-1]))
        else:
            data = _to_json(array, spec)
        outputs.append(ResponseOutput(name=spec.name, datatype=spec.datatype, shape=shape, parameters=size, data=data))
    return tuple(outputs), binary


def refusal(code: str, path: str, got: str, expected: str, *, hint: str | None = None) -> Problem:
    """The 400 for something at `path` of the request."""
    return Problem(400, code, f"`{path}` is {got}, expected {expected}", path=path, hint=hint)


def shown(names: Iterable[str]) -> str:
    """Names for a message; of very many, the first ones."""
    listed = list(names)
    rest = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(map(repr, listed[:NAMES_SHOWN])) + rest


def _listed(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape[:8]))}{', …' if len(shape) > 8 else ''}]"


def _from_json(given: RequestInput, spec: TensorSpec, shape: tuple[int, ...], path: str) -> NDArray[Any]:
    """`data` as an array; floats come as float64 and integers as 64 bits, for the codec to narrow and check."""
    path = f"{path}.data"
    raw = memoryview(given.data)
    if raw[:4].tobytes() in {b"", b"null"}:
        raise refusal("data_missing", path, "missing", "a list, or `binary_data_size` in `parameters`")
    nested = NESTED.match(raw) is not None
    element = _element(spec)
    try:
        values: Any = _decoder(element, len(given.shape) if nested else 1)(raw)
    except msgspec.ValidationError as error:
        found = AT.match(str(error))
        sentence, place = found.groups() if found else (str(error), "")
        raise Problem(400, "data_mismatch", f"{sentence} at `{path}{place}`", path=path + place) from error
    values = _flat(values, given.shape if nested else (math.prod(shape),), path)
    if element == "str":
        array = np.empty(len(values), dtype=np.object_)
        array[:] = values if spec.text else [value.encode() for value in values]
    elif element == "bool":
        array = np.array(values, dtype=np.bool_)
    elif element == "int":
        array = _integers(values, "<u8" if spec.datatype == "UINT64" else "<i8", spec, path)
    else:
        array = np.array(values, dtype="<f8")
    return array.reshape(shape)


def _element(spec: TensorSpec) -> Element:
    if spec.is_float:
        return "float or null" if spec.nullable else "float"
    return {"BOOL": "bool", "BYTES": "str"}.get(spec.datatype, "int")  # type: ignore[return-value]  # both literals


@lru_cache(maxsize=64)
def _decoder(element: Element, depth: int) -> Any:
    """A strict JSON decoder of lists nested `depth` deep; depth is that of a checked shape, so they are few."""
    kind: Any = ELEMENTS[element]
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind).decode


def _flat(values: list[Any], shape: Sequence[int], path: str) -> list[Any]:
    """Nested lists as one list, each level as long as the shape says."""
    level: list[list[Any]] = [values]
    for depth, size in enumerate(shape):
        for place, items in enumerate(level):
            if len(items) != size:
                indices = np.unravel_index(place, shape[:depth]) if depth else ()
                at = path + "".join(f"[{int(index)}]" for index in indices)
                raise refusal("data_mismatch", at, f"{len(items)} long", f"{size}, as `shape` says")
        if depth < len(shape) - 1:
            level = list(itertools.chain.from_iterable(level))
        elif depth:
            return list(itertools.chain.from_iterable(level))
    return level[0]


def _integers(values: list[int], dtype: str, spec: TensorSpec, path: str) -> NDArray[Any]:
    try:
        return np.array(values, dtype=dtype)
    except OverflowError:
        held = np.iinfo(dtype)
        index = next(i for i, value in enumerate(values) if not held.min <= value <= held.max)
        digits = str(values[index]) if values[index].bit_length() < 200 else "an integer of many digits"
        expected = f"an integer that {spec.datatype} can hold"
        raise refusal("data_mismatch", f"{path}[{index}]", digits, expected) from None


def _cut(binary: memoryview, size: int, path: str) -> memoryview:
    if not 0 <= size <= len(binary):
        at = f"{path}.parameters.binary_data_size"
        raise refusal("data_mismatch", at, f"{size}", f"0 to {len(binary)}, the bytes left behind the JSON")
    return binary[:size]


def _from_binary(
    given: RequestInput, spec: TensorSpec, shape: tuple[int, ...], data: memoryview, path: str
) -> NDArray[Any]:
    """Binary data as an array; numbers are a view of the body, without a copy."""
    if memoryview(given.data):
        raise refusal("data_mismatch", f"{path}.data", "given beside `binary_data_size`", "one of the two")
    count = math.prod(shape)
    if spec.datatype == "BYTES":
        return _words(spec, count, data, path).reshape(shape)
    dtype = np.dtype(DTYPES[spec.datatype])
    if len(data) != count * dtype.itemsize:
        got, expected = f"{len(data)} bytes", f"{count * dtype.itemsize} ({count} × {spec.datatype})"
        raise refusal("data_mismatch", f"{path}.parameters.binary_data_size", got, expected)
    if spec.datatype == "BOOL":
        wrong = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) > 1)
        if len(wrong):
            raise refusal("data_mismatch", path, f"byte {data[wrong[0]]} as element {wrong[0]}", "0 or 1")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _words(spec: TensorSpec, count: int, data: memoryview, path: str) -> NDArray[Any]:
    """BYTES elements, each behind its length in 4 bytes; the data must hold exactly `count` of them."""
    words: list[str | bytes] = []
    offset = 0
    while offset < len(data):
        end = offset + LENGTH.size
        end += LENGTH.unpack_from(data, offset)[0] if end <= len(data) else 0
        if end > len(data) or len(words) == count:
            left = f"{len(data) - offset} bytes at byte {offset} for element {len(words)}"
            raise refusal("data_mismatch", path, left, f"{count} elements, each a 4-byte length and as many bytes")
        word = bytes(data[offset + LENGTH.size : end])
        try:
            words.append(word.decode() if spec.text else word)
        except UnicodeDecodeError:
            raise refusal("data_mismatch", path, f"not UTF-8 in element {len(words)}", "text") from None
        offset = end
    if len(words) != count:
        raise refusal("data_mismatch", path, f"{len(words)} elements", f"{count}, as `shape` says")
    array = np.empty(count, dtype=np.object_)
    array[:] = words
    return array


def _to_binary(array: NDArray[Any], spec: TensorSpec) -> bytes:
    if spec.datatype != "BYTES":
        return array.astype(DTYPES[spec.datatype], copy=False).tobytes()
    parts: list[bytes] = []
    for word in array.reshape(-1).tolist():
        data = word if isinstance(word, bytes) else word.encode()
        parts += (LENGTH.pack(len(data)), data)
    return b"".join(parts)


def _to_json(array: NDArray[Any], spec: TensorSpec) -> Any:
    flat = array.reshape(-1)
    if spec.datatype != "BYTES":
        return flat.astype(DTYPES[spec.datatype], copy=False).tolist()
    try:
        return [word.decode() if isinstance(word, bytes) else word for word in flat.tolist()]
    except UnicodeDecodeError:
        raise Problem(
            400,
            "output_not_text",
            f"output {spec.name!r} is not text, got a request for it as JSON",
            hint="ask for it with `binary_data`: true in the output's `parameters`",
        ) from None
