"""Packed rows to counts a bin, all features in one vectorised pass.

It keeps nothing and knows no metric. The invariant: whoever counts, builder or server, counts with this, so a value of
the training sample falls into the same bin when it is served.

Counting needs no bin of a row: the rows of bin i are those above threshold i - 1 less those above threshold i. A word
becomes a 64-bit number and is compared as one.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.schema import TensorSpec
from slipway_signals.drift.profile import Categorical, Feature, Numeric, compute_dtype

__all__ = ["CHUNK", "Binner", "field_of", "watchable"]

CHUNK: Final = 255
"""Rows counted at once: their number fits the byte that a comparison gives, which adds eight times faster."""

ELEMENTS: Final = 64
"""Numbers of one tensor that are watched each as a feature of its own; larger ones are pictures, sounds, embeddings."""

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
"""2**64 / golden ratio, odd (Knuth, The Art of Computer Programming 3, 6.4): spreads words over 64 bits."""

_NOTHING: Final = np.uint64(2**64 - 1)
"""The key of no word: the byte 255 is in no UTF-8."""


def watchable(spec: TensorSpec) -> tuple[str, ...]:
    """Names of the features that a tensor becomes: itself, its elements `a[0]`, or none when it cannot be watched."""
    if spec.is_variable or spec.is_keyed:
        return ()
    if not spec.shape:
        return (spec.name,)
    places = list(np.ndindex(spec.shape)) if np.prod(spec.shape) <= ELEMENTS else []
    return tuple(spec.name + "".join(f"[{at}]" for at in place) for place in places)


def field_of(feature: str) -> str:
    """The tensor that a feature is, or is an element of."""
    return feature.partition("[")[0]


class Binner:
    """Counts rows of one layout. Not thread-safe: it reuses its buffers.

    Args:
        features: What to count; every one is a field of `dtype`, or an element of one.
        dtype: Of the fixed part of a packed row.
    """

    def __init__(self, features: Sequence[Feature], dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        self.starts: list[int] = []
        """Where each feature's bins begin in what `count` gives."""
        total = 0
        for feature in features:
            self.starts.append(total)
            total += len(feature.bins)
        self._total = total
        places = list(zip(self.starts, features, strict=True))
        numbers = [(at, one) for at, one in places if isinstance(one, Numeric)]
        self._numbers = [
            _Numbers([(at, one) for at, one in numbers if compute_dtype(one.datatype) == kind], dtype, kind)
            for kind in (np.dtype(np.float32), np.dtype(np.float64))
        ]
        words = [(at, one) for at, one in places if isinstance(one, Categorical)]
        lengths = [-(-_place(one.name, dtype)[1].itemsize // 8) for _, one in words]
        self._words = [
            _Words([word for word, size in zip(words, lengths, strict=True) if size == length], dtype, length)
            for length in sorted(set(lengths))
        ]

    def count(self, records: NDArray[np.void]) -> NDArray[np.int64]:
        """Rows in each bin of each feature, in order; `[bins]`. About 1 µs a row of 50 numbers."""
        counts = np.zeros(self._total, dtype=np.int64)
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            for numbers in self._numbers:
                numbers.add(chunk, counts)
            for words in self._words:
                words.add(chunk, counts)
        return counts


class _Numbers:
    """The numeric features that meet their thresholds in one type."""

    def __init__(self, features: Sequence[tuple[int, Numeric]], dtype: np.dtype[np.void], kind: np.dtype[Any]) -> None:
        self._kind = kind
        self._count = len(features)
        self._runs = _runs([_place(feature.name, dtype) for _, feature in features])
        widths = [len(feature.thresholds) for _, feature in features]
        height = max(widths, default=0)
        self._thresholds = np.full((height, self._count), np.inf, dtype=kind)
        for column, (_, feature) in enumerate(features):
            self._thresholds[: widths[column], column] = feature.thresholds
        # Bin i of feature f counts above[i - 1] - above[i]; row 0 of `above` is every row that is a number.
        sized = list(zip([at for at, _ in features], widths, strict=True))
        bins = [(at + i, i * self._count + f) for f, (at, width) in enumerate(sized) for i in range(width + 1)]
        self._to, self._from = np.array(bins, dtype=np.intp).reshape(-1, 2).T
        self._missing = np.array([at + width + 1 for at, width in sized], dtype=np.intp)

    def add(self, records: NDArray[np.void], counts: NDArray[np.int64]) -> None:
        """Adds the bins of at most `CHUNK` rows."""
        if not self._count:
            return
        rows = len(records)
        values = np.empty((rows, self._count), dtype=self._kind)
        at = 0
        with np.errstate(over="ignore"):
            for offset, dtype, length in self._runs:
                values[:, at : at + length] = _view(records, offset, dtype, length)
                at += length
        height = len(self._thresholds)
        above = np.zeros((height + 2, self._count), dtype=np.int64)
        over = np.greater(values[:, None, :], self._thresholds[None, :, :])
        above[1:-1] = np.add.reduce(over.view(np.uint8), axis=0, dtype=np.uint8)
        is_number = np.equal(values, values)
        numbers = np.add.reduce(is_number.view(np.uint8), axis=0, dtype=np.uint8).astype(np.int64)
        above[0] = numbers
        counts[self._to] += (above[:-1] - above[1:]).ravel()[self._from]
        counts[self._missing] += rows - numbers


class _Words:
    """The categorical features whose longest value takes so many times 8 bytes."""

    def __init__(self, features: Sequence[tuple[int, Categorical]], dtype: np.dtype[np.void], length: int) -> None:
        fields = [_place(feature.name, dtype) for _, feature in features]
        self._runs = _runs(fields)
        self._length = length
        self._buffer = np.zeros((CHUNK, len(features)), dtype=f"S{8 * length}")
        height = max((len(feature.values) for _, feature in features), default=0)
        self._keys = np.full((height, len(features)), _NOTHING, dtype=np.uint64)
        bins: list[tuple[int, int]] = []
        self._rest: list[tuple[int, NDArray[np.uint64]]] = []
        """Of each feature: where its bin `other` is, and the keys of the words in it."""
        for column, ((at, feature), (_, kind)) in enumerate(zip(features, fields, strict=True)):
            self._keys[: len(feature.values), column] = self._encode(feature.values, kind)
            bins += [(at + row, row * len(features) + column) for row in range(len(feature.values))]
            self._rest.append((at + len(feature.values), self._encode(feature.others, kind)))
        self._to, self._from = np.array(bins, dtype=np.intp).reshape(-1, 2).T

    def add(self, records: NDArray[np.void], counts: NDArray[np.int64]) -> None:
        """Adds the bins of at most `CHUNK` rows."""
        words = self._buffer[: len(records)]
        column = 0
        for offset, kind, length in self._runs:
            words[:, column : column + length] = _view(records, offset, kind, length)  # filled up with zeros
            column += length
        keys = self._hash(words)
        found = np.equal(keys[:, None, :], self._keys[None, :, :])
        hits = np.add.reduce(found.view(np.uint8), axis=0, dtype=np.uint8)
        counts[self._to] += hits.ravel()[self._from]
        rest = len(records) - hits.sum(axis=0, dtype=np.int64)
        for column in rest.nonzero()[0].tolist():
            at, known = self._rest[column]
            others = int(np.isin(keys[:, column], known).sum())
            counts[at] += others
            counts[at + 1] += rest[column] - others

    def _hash(self, words: NDArray[np.bytes_]) -> NDArray[np.uint64]:
        """`[n, k]` words of `8 · length` bytes as one number each; exact up to 8 bytes."""
        parts = words.view(np.uint64).reshape(*words.shape, self._length)
        keys = parts[..., 0]
        with np.errstate(over="ignore"):
            for place in range(1, self._length):
                keys = keys * _MIX + parts[..., place]
        return keys

    def _encode(self, values: Sequence[str], kind: np.dtype[Any]) -> NDArray[np.uint64]:
        """Words as the keys that their rows have."""
        words = [value == "true" for value in values] if kind == np.bool_ else [value.encode() for value in values]
        return self._hash(np.array(words, dtype=kind).astype(self._buffer.dtype)[:, None])[:, 0]


def _place(name: str, dtype: np.dtype[np.void]) -> tuple[int, np.dtype[Any]]:
    """Byte offset and type of a feature in a record."""
    field = field_of(name)
    if dtype.fields is None or field not in dtype.fields:
        raise KeyError(field)
    kind, offset, *_ = dtype.fields[field]
    if field == name:
        return offset, kind
    place = tuple(int(part.rstrip("]")) for part in name[len(field) + 1 :].split("["))
    return offset + int(np.ravel_multi_index(place, kind.shape)) * kind.base.itemsize, kind.base


def _runs(places: Sequence[tuple[int, np.dtype[Any]]]) -> list[tuple[int, np.dtype[Any], int]]:
    """Neighbours of one type as (offset, type, length), so that they are read in one stride."""
    runs: list[tuple[int, np.dtype[Any], int]] = []
    for offset, kind in places:
        if runs:
            start, last, length = runs[-1]
            if last == kind and start + length * kind.itemsize == offset:
                runs[-1] = (start, last, length + 1)
                continue
        runs.append((offset, kind, 1))
    return runs


def _view(records: NDArray[np.void], offset: int, kind: np.dtype[Any], length: int) -> NDArray[Any]:
    """`[n, length]` values of one type that lie side by side in each record, without a copy."""
    size = records.dtype.itemsize
    return np.ndarray((len(records), length), kind, records.data, offset, (size, kind.itemsize))
