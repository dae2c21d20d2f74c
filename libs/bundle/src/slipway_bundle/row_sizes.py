"""Sizes that a row chooses: buckets and free dimensions, resolved for one row and written down as its key.

It touches no values. The invariants: the row alone decides (never its batch mates, or the same row would have two
answers); a key names every chosen size, so rows of one key have one layout and may share a batch.

A key is one little-endian `u32` for each variable axis, in field order. Source: `docs/service-api.md`.
"""

import bisect
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from slipway_bundle.row_errors import Said, row_error
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.schema import TensorSpec

ROW_BYTES: Final = 64 * 2**20
"""Of one packed row's arrays whose sizes it chose: a free dimension must not fill a machine's memory."""

Fit = Callable[[tuple[int, ...]], tuple[int, ...]]
"""The shape of one row's array -> the sizes of its variable axes, padded. Raises RowError."""


def make_fit(spec: TensorSpec) -> Fit:
    """The resolver of one array; it names field, got and expected when the row's own shape does not fit."""
    path, shape = f"$.{spec.name}", spec.shape
    buckets = spec.buckets or ((),) * len(shape)
    axes = [(axis, buckets[axis]) for axis, size in enumerate(shape) if size == -1]
    fixed = [(axis, size) for axis, size in enumerate(shape) if size != -1]
    expected = f"a {spec.datatype} array of shape {list(spec.dimensions)}"

    def fit(got: tuple[int, ...]) -> tuple[int, ...]:
        if len(got) != len(shape) or any(got[axis] != size for axis, size in fixed):
            raise row_error(path, Said(f"shape {list(got)}"), expected)
        picked = []
        for axis, steps in axes:
            size = got[axis]
            if size < 1:
                raise row_error(path, Said(f"size {size} on axis {axis}"), f"at least 1 in {expected}")
            if steps:
                place = bisect.bisect_left(steps, size)
                if place == len(steps):
                    said = f"at most {steps[-1]}, the largest bucket, in {expected}"
                    raise row_error(path, Said(f"size {size} on axis {axis}"), said)
                size = steps[place]
            picked.append(size)
        sizes = tuple(picked)
        size_bytes = bytes_of(spec, sizes)
        if size_bytes > ROW_BYTES:
            raise row_error(path, Said(f"{size_bytes} bytes"), f"at most {ROW_BYTES} bytes a row")
        return sizes

    return fit


def is_answer(spec: TensorSpec, shape: Sequence[int]) -> bool:
    """Whether an answer's array has a shape that the spec allows: a bucket is met exactly, a free size may be 0."""
    if len(shape) != len(spec.shape):
        return False
    buckets = spec.buckets or ((),) * len(shape)
    return all(
        size == want if want != -1 else not sizes or size in sizes
        for size, want, sizes in zip(shape, spec.shape, buckets, strict=True)
    )


class Sizes:
    """The variable axes of one row type, in field order.

    Args:
        specs: The tensors of the row.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = tuple(specs)
        axes = [(spec, axis) for spec in specs for axis, size in enumerate(spec.shape) if size == -1]
        self._pack = struct.Struct(f"<{len(axes)}I")
        self._path = f"$.{axes[0][0].name}" if axes else "$"
        first: dict[str, int] = {}
        self._equal: list[tuple[int, int]] = []
        self._said: list[str] = []
        for place, (spec, axis) in enumerate(axes):
            name = spec.free[axis] if spec.free else ""
            self._said.append(f"axis {axis} (`{name}`) of `{spec.name}`")
            if name and first.setdefault(name, place) != place:
                self._equal.append((first[name], place))
        self._names = [spec.name for spec, _ in axes]

    def __bool__(self) -> bool:
        return bool(self._names)

    def key(self, sizes: tuple[int, ...], size_bytes: int) -> bytes:
        """The key of a row with these chosen sizes, whose arrays take `size_bytes`.

        Raises:
            RowError: Dimensions of one name have different sizes, or the row is larger than `ROW_BYTES`.
        """
        for one, other in self._equal:
            if sizes[one] != sizes[other]:
                raise row_error(f"$.{self._names[other]}", Said(f"size {sizes[other]}"), self._like(sizes, one))
        if size_bytes > ROW_BYTES:
            raise row_error(self._path, Said(f"a row of {size_bytes} bytes"), f"at most {ROW_BYTES} bytes")
        return self._pack.pack(*sizes)

    def disagreement(self, sizes: Sequence[int]) -> str | None:
        """What is wrong with the chosen sizes of an answer: dimensions of one name that differ. None: nothing."""
        for one, other in self._equal:
            if sizes[one] != sizes[other]:
                return f"{self._said[other]} has the size {sizes[other]}, expected {self._like(sizes, one)}"
        return None

    def resolve(self, key: bytes) -> tuple[TensorSpec, ...]:
        """The tensors of rows with this key: no variable axis is left.

        Raises:
            RuntimeError: The key is not one of this row type: a bug in slipway.
        """
        if len(key) != self._pack.size:
            raise RuntimeError(
                f"a key of {len(key)} bytes for rows with {len(self._names)} chosen sizes, this is a bug in slipway"
            )
        sizes = iter(self._pack.unpack(key))
        return tuple(
            msgspec.structs.replace(spec, shape=filled(spec, sizes)) if spec.is_keyed else spec for spec in self._specs
        )

    def _like(self, sizes: Sequence[int], one: int) -> str:
        return f"{sizes[one]}, as {self._said[one]} with the same name"


def chosen(spec: TensorSpec, shape: Iterable[int]) -> tuple[int, ...]:
    """The sizes of the variable axes in a whole shape."""
    return tuple(size for size, want in zip(shape, spec.shape, strict=True) if want == -1)


def filled(spec: TensorSpec, sizes: Iterator[int]) -> tuple[int, ...]:
    """The whole shape with the next sizes on the variable axes."""
    return tuple(next(sizes) if size == -1 else size for size in spec.shape)


def bytes_of(spec: TensorSpec, sizes: Iterable[int]) -> int:
    """Bytes of one row's array with these sizes on the variable axes."""
    return math.prod(filled(spec, iter(sizes))) * np.dtype(DTYPES[spec.datatype]).itemsize
