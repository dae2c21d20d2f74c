"""Reads UBJSON (draft 12) as XGBoost writes it, with every length checked before it is believed.

The library's own reader walks past the end of a truncated or altered file and takes the process with it (7 of 100
truncations, measured), so bytes pass here first. It writes nothing. The invariant: any input gives a document or a
WeightsFormatError, in time and memory linear in the input. Typed arrays become numpy arrays without a copy, so the
cost goes with the number of trees, not of nodes. Source: https://ubjson.org, sections "Type Reference", "Container
Types" (optimised format).
"""

import struct
from typing import Any

import numpy as np

from slipway_bundle.weights import WeightsFormatError

_DEPTH_LIMIT = 64
_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_DTYPES = {ord(marker): np.dtype(code) for marker, code in _NUMBERS.items()}
_FORMATS = {
    ord("i"): ">b",
    ord("U"): ">B",
    ord("I"): ">h",
    ord("l"): ">i",
    ord("L"): ">q",
    ord("d"): ">f",
    ord("D"): ">d",
}
_READERS = {marker: struct.Struct(code) for marker, code in _FORMATS.items()}
_CONSTANTS = {ord("Z"): None, ord("T"): True, ord("F"): False}
_INTEGERS = frozenset(b"iUIlL")


def decode(data: bytes) -> dict[str, Any]:
    """The document: dicts, lists, strings, numbers, and numpy arrays for typed arrays.

    Raises:
        WeightsFormatError: The bytes are not one complete UBJSON object.
    """
    reader = _Reader(data)
    try:
        document = reader.value(reader.marker(), 0)
    except (IndexError, struct.error):
        raise WeightsFormatError(f"the model is truncated: it ends inside a value, after {len(data)} bytes") from None
    if not isinstance(document, dict) or reader.at != len(data):
        raise WeightsFormatError(f"the model is not one UBJSON object: it ends at byte {reader.at} of {len(data)}")
    return document


class _Reader:
    """A position in the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def marker(self) -> int:
        """The next byte."""
        self.at += 1
        return self.data[self.at - 1]

    def value(self, marker: int, depth: int) -> Any:
        """The value that starts after `marker`."""
        number = _READERS.get(marker)
        if number is not None:
            self.at += number.size
            return number.unpack_from(self.data, self.at - number.size)[0]
        if marker == ord("S"):
            return self.text()
        if depth > _DEPTH_LIMIT:
            raise self.malformed(f"is nested deeper than {_DEPTH_LIMIT}")
        if marker == ord("{"):
            return self.members(depth + 1)
        if marker == ord("["):
            return self.items(depth + 1)
        if marker not in _CONSTANTS:
            raise self.malformed(f"has the unknown marker {bytes([marker])!r}")
        return _CONSTANTS[marker]

    def length(self) -> int:
        """A count that the rest of the bytes can hold: every item takes at least one."""
        marker = self.marker()
        size = self.value(marker, 0) if marker in _INTEGERS else -1
        if not 0 <= size <= len(self.data) - self.at:
            raise self.malformed("has a length beyond its end")
        return int(size)

    def text(self) -> str:
        """A string: its length, then UTF-8."""
        size = self.length()
        self.at += size
        try:
            return self.data[self.at - size : self.at].decode()
        except UnicodeDecodeError:
            raise self.malformed("has text that is not UTF-8") from None

    def members(self, depth: int) -> dict[str, Any]:
        """An object up to its closing brace; XGBoost writes no counted objects."""
        found: dict[str, Any] = {}
        while self.data[self.at] != ord("}"):
            key = self.text()
            if key in found:
                raise self.malformed(f"has the key {key!r} twice")
            found[key] = self.value(self.marker(), depth)
        self.at += 1
        return found

    def items(self, depth: int) -> Any:
        """An array: typed and counted, counted, or up to its closing bracket."""
        head = self.data[self.at]
        if head == ord("$"):
            dtype = _DTYPES.get(self.data[self.at + 1])
            if dtype is None or self.data[self.at + 2] != ord("#"):
                raise self.malformed("has an array of an unknown type")
            self.at += 3
            count = self.length()
            if count * dtype.itemsize > len(self.data) - self.at:
                raise self.malformed("has an array beyond its end")
            self.at += count * dtype.itemsize
            return np.frombuffer(self.data, dtype, count, self.at - count * dtype.itemsize)
        if head == ord("#"):
            self.at += 1
            return [self.value(self.marker(), depth) for _ in range(self.length())]
        found = []
        while self.data[self.at] != ord("]"):
            found.append(self.value(self.marker(), depth))
        self.at += 1
        return found

    def malformed(self, what: str) -> WeightsFormatError:
        """The error at this position."""
        return WeightsFormatError(f"the model {what}, at byte {self.at} of {len(self.data)}")
