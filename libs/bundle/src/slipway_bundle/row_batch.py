"""Bytes of many rows back into columns: `Packed`, the batch that compute functions and adapters read.

It trusts the payloads: they were made by `row_packing` in a process of the same service. The invariant: for rows of
fixed size no value is copied or converted, so that an adapter can take the whole batch as one matrix. Strings are
lengths and UTF-8 in a payload, never objects. Source: `docs/service-api.md`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.row_packing import record_dtype
from slipway_bundle.schema import TensorSpec


class Packed(Mapping[str, NDArray[Any]]):
    """A batch as it was packed; a column is cut out when it is asked for. All arrays are read-only views.

    Args:
        records: `[n]` of the fixed part, one field for each tensor.
        names: Every tensor in field order.
        loose: The free-length tensors, already columns.
    """

    __slots__ = ("_loose", "_names", "records")

    def __init__(self, records: NDArray[np.void], names: tuple[str, ...], loose: dict[str, NDArray[Any]]) -> None:
        self.records = records
        self._names = names
        self._loose = loose

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.records)

    def matrix(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """All tensors side by side, `[n, k]`, without a copy; only for rows whose every value is a `dtype`."""
        return self.records.view(dtype).reshape(len(self.records), self.records.dtype.itemsize // dtype.itemsize)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name in self._loose:
            return self._loose[name]
        if name not in self._names:
            raise KeyError(name)
        column: NDArray[Any] = self.records[name]
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


Payload: TypeAlias = bytes | memoryview


def join_payloads(payloads: Sequence[Payload]) -> Payload:
    """The payloads as one read-only buffer; a single payload is not copied."""
    if len(payloads) != 1:
        return b"".join(payloads)
    payload = payloads[0]
    return payload if isinstance(payload, bytes) else payload.toreadonly()


class Layout:
    """How rows of one key (or of one size) lie in a payload.

    Args:
        specs: Every tensor in field order; no size is open.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self.dtype = record_dtype(specs)
        self._names = tuple(spec.name for spec in specs)
        self._loose = LooseReader(specs) if any(spec.is_variable for spec in specs) else None

    def read(self, data: Payload) -> Packed:
        """Rows as columns; read-only views of `data` where they are fixed."""
        if self._loose is None:
            return Packed(np.frombuffer(data, dtype=self.dtype), self._names, {})
        records, loose = self._loose.split(data)
        return Packed(records, self._names, loose)


class LooseReader:
    """Cuts payloads of rows with free-length fields into columns."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = [spec for spec in specs if spec.is_variable]
        self._lengths = struct.Struct(f"<{len(self._specs)}I")
        self._fixed = record_dtype(specs)

    def split(self, data: Payload) -> tuple[NDArray[np.void], dict[str, NDArray[Any]]]:
        """The fixed parts as records and each free-length field as a column."""
        fixed: list[Payload] = []
        found: list[list[Payload]] = [[] for _ in self._specs]
        start, head, size = 0, self._lengths.size, self._fixed.itemsize
        while start < len(data):
            lengths = self._lengths.unpack_from(data, start)
            end = start + head + size
            fixed.append(data[start + head : end])
            for column, length in zip(found, lengths, strict=True):
                column.append(data[end : end + length])
                end += length
            start = end
        if start != len(data):
            raise RuntimeError(f"a payload of {len(data)} bytes ends inside a row, this is a bug in slipway")
        if size == 0:
            records = np.empty(len(fixed), dtype=self._fixed)
        else:
            records = np.frombuffer(b"".join(fixed), dtype=self._fixed)
        if isinstance(data, memoryview):
            found = [[bytes(word) for word in words] for words in found]
        return records, {spec.name: _column(spec, words) for spec, words in zip(self._specs, found, strict=True)}


def _column(spec: TensorSpec, words: Sequence[Any]) -> NDArray[Any]:
    """One free-length column: text as numpy's `StringDType`; bytes as an array of `bytes` objects.

    Objects never leave the process that computes (payloads carry lengths and bytes); numpy has no type of its own for
    bytes of free length, and `S` loses trailing zeros.
    """
    if spec.text:
        return np.array([word.decode() for word in words], dtype=np.dtypes.StringDType())
    column = np.empty(len(words), dtype=np.object_)
    column[:] = words
    return column
