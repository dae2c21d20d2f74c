"""The elements of one tensor: JSON or bytes to an array, and back.

It knows one tensor at a time and no request: tensors.py has checked name, datatype and shape before. The invariant: no
size that a client claims is allocated before as many bytes were found. A datatype is never converted: floats out of
JSON come as float64 and integers as 64 bits, for the row codec to narrow and check. JSON `null` in a tensor of a
nullable field is a missing value (NaN). Sources: KServe `inference_rest.md`, "Tensor Data"; Triton
`extension_binary_data.md`.
"""

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

Element = Literal["bool", "int", "float", "float or null", "str"]

ELEMENTS: Final[Mapping[Element, Any]] = {
    "bool": bool, "int": int, "float": float, "float or null": float | None, "str": str,
}  # fmt: skip
NESTED: Final = re.compile(rb"\s*\[\s*\[")
AT: Final = re.compile(r"^(.*) - at `\$(.*)`$", re.DOTALL)
"""The sentence and the path of a msgspec error."""
LENGTH: Final = struct.Struct("<I")


class JsonData(NamedTuple):
    """Row-major, flat or nested as the shape says."""

    raw: msgspec.Raw
    shape: tuple[int, ...]
    """As the client gave it: nested lists follow it, also where a scalar field came as a column."""
    path: str

    def array(self, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
        """The elements; raises Problem 400 when they are not what datatype and shape say."""
        raw = memoryview(self.raw)
        path = self.path
        if raw[:4].tobytes() in {b"", b"null"}:
            raise refusal("data_missing", path, "missing", "a list, or `binary_data_size` in `parameters`")
        nested = NESTED.match(raw) is not None
        element = _element(spec)
        try:
            values: Any = _decoder(element, len(self.shape) if nested else 1)(raw)
        except msgspec.ValidationError as error:
            found = AT.match(str(error))
            sentence, place = found.groups() if found else (str(error), "")
            raise Problem(400, "data_mismatch", f"{sentence} at `{path}{place}`", path=path + place) from error
        values = _flat(values, self.shape if nested else (math.prod(shape),), path)
        if element == "str":
            return objects(values if spec.text else [value.encode() for value in values]).reshape(shape)
        if element == "int":
            return _integers(values, "<u8" if spec.datatype == "UINT64" else "<i8", spec, path).reshape(shape)
        return np.array(values, dtype=np.bool_ if element == "bool" else "<f8").reshape(shape)


class BinaryData(NamedTuple):
    """Row-major and little-endian; BYTES elements each behind their length in 4 bytes."""

    data: memoryview
    path: str
    """Of the data."""
    size_path: str
    """Of what says how many bytes there are."""

    def array(self, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
        """The elements, numbers as a view of the bytes; raises Problem 400 when there are more or fewer."""
        data, path = self.data, self.path
        count = math.prod(shape)
        if spec.datatype == "BYTES":
            return _words(spec, count, data, path).reshape(shape)
        dtype = np.dtype(DTYPES[spec.datatype])
        if len(data) != count * dtype.itemsize:
            got, expected = f"{len(data)} bytes", f"{count * dtype.itemsize} ({count} × {spec.datatype})"
            raise refusal("data_mismatch", self.size_path, got, expected)
        if spec.datatype == "BOOL":
            wrong = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) > 1)
            if len(wrong):
                raise refusal("data_mismatch", path, f"byte {data[wrong[0]]} as element {wrong[0]}", "0 or 1")
        return np.frombuffer(data, dtype=dtype).reshape(shape)


def to_binary(array: NDArray[Any], spec: TensorSpec) -> bytes:
    """The elements as `BinaryData` reads them."""
    if spec.datatype != "BYTES":
        return array.astype(DTYPES[spec.datatype], copy=False).tobytes()
    parts: list[bytes] = []
    for word in array.reshape(-1).tolist():
        data = word if isinstance(word, bytes) else word.encode()
        parts += (LENGTH.pack(len(data)), data)
    return b"".join(parts)


def to_json(array: NDArray[Any], spec: TensorSpec) -> Any:
    """The elements as a flat list of JSON values; raises Problem 400 for bytes that are not text."""
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


def words_of(values: Iterable[bytes], spec: TensorSpec, path: str) -> list[str | bytes]:
    """BYTES elements as the row codec takes them: text decoded; raises Problem 400 where it is not UTF-8."""
    words: list[str | bytes] = []
    for value in values:
        try:
            words.append(value.decode() if spec.text else value)
        except UnicodeDecodeError:
            raise refusal("data_mismatch", path, f"not UTF-8 in element {len(words)}", "text") from None
    return words


def objects(values: Sequence[object]) -> NDArray[Any]:
    """Text or bytes as an array of objects, one axis."""
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array


def refusal(code: str, path: str, got: str, expected: str, *, hint: str | None = None) -> Problem:
    """The 400 for something at `path` of the request."""
    return Problem(400, code, f"`{path}` is {got}, expected {expected}", path=path, hint=hint)


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


def _words(spec: TensorSpec, count: int, data: memoryview, path: str) -> NDArray[Any]:
    """BYTES elements, each behind its length in 4 bytes; the data must hold exactly `count` of them."""
    words: list[bytes] = []
    offset = 0
    while offset < len(data):
        end = offset + LENGTH.size
        end += LENGTH.unpack_from(data, offset)[0] if end <= len(data) else 0
        if end > len(data) or len(words) == count:
            left = f"{len(data) - offset} bytes at byte {offset} for element {len(words)}"
            raise refusal("data_mismatch", path, left, f"{count} elements, each a 4-byte length and as many bytes")
        words.append(bytes(data[offset + LENGTH.size : end]))
        offset = end
    if len(words) != count:
        raise refusal("data_mismatch", path, f"{len(words)} elements", f"{count}, as `shape` says")
    return objects(words_of(words, spec, path))
