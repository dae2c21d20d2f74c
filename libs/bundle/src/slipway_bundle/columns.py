"""Columns of a batch as one buffer, for another process: `encode_columns`, `decode_columns`.

It checks no schema (`rows` does, where the rows are made). The invariants: a buffer says everything about itself, what
comes out equals what went in, and numbers are decoded without a copy: the arrays are read-only views of the buffer.

Layout: `u32` size of the header, the header (msgpack: name, type, shape and bytes of each column), then the columns,
each at a multiple of 8 bytes: numbers and text of fixed width as they lie in memory, little-endian and in C order; text
and bytes of any length as a msgpack array, which is a length before each value.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from slipway_bundle.errors import IntegrityError
from slipway_bundle.row_errors import OutputError
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.schema import Arrays

__all__ = ["ColumnsError", "decode_columns", "encode_columns"]

_ALIGNMENT: Final = 8
_PADS: Final = tuple(bytes(-size % _ALIGNMENT) for size in range(_ALIGNMENT))
"""Size modulo 8 -> the zeros behind it."""

_TEXT: Final = "text"
_OBJECTS: Final = "objects"
_PLAIN: Final = {np.dtype(code): np.dtype(code).str for code in DTYPES.values()}
"""The protocol's numbers -> their codes."""

_NUMBERS: Final = {code: dtype for dtype, code in _PLAIN.items()}

_Size = Annotated[int, Meta(ge=0)]

_encode_header: Final = msgspec.msgpack.Encoder().encode
_decode_header: Final = msgspec.msgpack.Decoder(list[tuple[str, str, tuple[_Size, ...], _Size]]).decode
_encode_words: Final = msgspec.msgpack.Encoder(enc_hook=lambda _: None).encode
"""What is neither text, bytes nor a number becomes null: the row's schema refuses both alike."""

_decode_text: Final = msgspec.msgpack.Decoder(list[str]).decode
_decode_objects: Final = msgspec.msgpack.Decoder(list[Any]).decode


class ColumnsError(IntegrityError):
    """A buffer of columns is truncated or malformed."""

    code = "columns_malformed"


def encode_columns(arrays: Arrays, start: int, stop: int) -> bytes:
    """Rows `[start, stop)` of every column as one buffer; one FP32 column of 64 rows takes 2 µs.

    Raises:
        OutputError: A column is no array of numbers, bools, text or bytes.
    """
    header: list[tuple[str, str, tuple[int, ...], int]] = []
    parts: list[Any] = [b"", b""]  # an array is its own buffer: each value is copied once
    for name, whole in arrays.items():
        array = _rows(name, whole, start, stop)
        code = _PLAIN.get(array.dtype)
        part: Any
        if code is not None and array.flags.c_contiguous:
            part, size = array, array.nbytes
        else:
            code, part = _encode(name, array)
            size = len(part)
        header.append((name, code, array.shape, size))
        parts.append(part)
        if size % _ALIGNMENT:
            parts.append(_PADS[size % _ALIGNMENT])
    head = _encode_header(header)
    parts[0] = len(head).to_bytes(4, "little")
    parts[1] = head + _PADS[(len(head) + 4) % _ALIGNMENT]
    return b"".join(parts)


def decode_columns(data: bytes | memoryview) -> dict[str, NDArray[Any]]:
    """The columns in a buffer; numbers are read-only views of it, one FP32 column of 64 rows takes 2 µs.

    Raises:
        ColumnsError: The buffer is truncated, or is not one of `encode_columns`.
    """
    if not isinstance(data, bytes):
        data = data.toreadonly()
    end = 4 + int.from_bytes(data[:4], "little")
    if len(data) < 4 or end > len(data):
        raise ColumnsError(f"a buffer of columns is truncated: got {len(data)} bytes, expected a header of {end}")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        at = end + -end % _ALIGNMENT
        for name, code, shape, size in _decode_header(data[4:end]):
            dtype = _NUMBERS.get(code)
            if dtype is not None:
                arrays[name] = array = np.ndarray(shape, dtype, data, at)
                if array.nbytes != size:
                    raise ColumnsError(f"the column {name!r} has {size} bytes, expected {array.nbytes} for its shape")
            else:
                arrays[name] = _decode(code, shape, data[at : at + size])
            at += size + -size % _ALIGNMENT
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ColumnsError(f"a buffer of columns is truncated or malformed: {error}, in {len(data)} bytes") from error
    if at != len(data):
        raise ColumnsError(f"a buffer of columns has {len(data)} bytes, expected {at}")
    return arrays


def _rows(name: str, whole: object, start: int, stop: int) -> NDArray[Any]:
    array = whole if isinstance(whole, np.ndarray) else np.asarray(whole)
    if not array.ndim:
        raise OutputError(
            f"the model's `{name}` is one {array.dtype}, expected an array whose leading axis counts rows"
        )
    return array[start:stop]


def _encode(name: str, array: NDArray[Any]) -> tuple[str, bytes]:
    """The type and bytes of a column that is not its own buffer."""
    kind = array.dtype.kind
    if kind == "T" and not hasattr(array.dtype, "na_object"):
        return _TEXT, _encode_words(array.ravel().tolist())
    if kind in "TO":
        return _OBJECTS, _encode_words(array.ravel().tolist())
    little = array.dtype.newbyteorder("<")
    if kind not in "biufSU" or (kind not in "SU" and little not in _PLAIN):
        raise OutputError(f"the model's `{name}` is {array.dtype}, expected numbers, bools, text or bytes")
    return little.str, array.astype(little, copy=False).tobytes()


def _decode(code: str, shape: Sequence[int], data: bytes | memoryview) -> NDArray[Any]:
    """A column that is not plain numbers."""
    if code == _TEXT:
        return np.array(_decode_text(data), dtype=np.dtypes.StringDType()).reshape(shape)
    if code == _OBJECTS:
        words = _decode_objects(data)
        return np.fromiter(words, dtype=np.object_, count=len(words)).reshape(shape)
    if code[1:2] not in {"S", "U"} or not code[2:].isdecimal() or len(code) > 10:
        raise ColumnsError(f"a column has the unknown type {code[:20]!r}")
    return np.ndarray(tuple(shape), np.dtype(code), data)
