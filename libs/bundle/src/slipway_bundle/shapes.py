"""Array types for the fields of a row: `Annotated[F32, Shape(3, 640, 640)]`.

It holds names only: what a shape means for packing is decided in `schema` and `rows`. The aliases spell
`numpy.ndarray` out instead of using `NDArray[...]`, because since numpy 2.5 on Python 3.13 `NDArray` is a
`TypeAliasType` that msgspec does not look through; to a type checker the two are the same type.
Source: `docs/service-api.md`.
"""

from typing import Any, TypeAlias

import numpy as np

from slipway_bundle.errors import UsageError

F32: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.float32]]
F64: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.float64]]
I64: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.int64]]
I32: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.int32]]
U8: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.uint8]]
Bool: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.bool_]]

Dimension: TypeAlias = int | str | tuple[int, ...]
"""One axis: an int is its size, a tuple the sizes it may be padded to (buckets), a name a free size."""


class SchemaError(UsageError):
    """A row type cannot become tensors: a dict, a union, a default, a list without a length, …"""

    code = "schema_invalid"


class Shape:
    """The shape of one row's array, without the batch axis.

    Args:
        dimensions: Each an int >= 1, a non-empty tuple of rising ints (padding buckets), or a name (free size).

    Raises:
        SchemaError: A dimension is none of the three.
    """

    __slots__ = ("dimensions",)

    def __init__(self, *dimensions: Dimension) -> None:
        for dimension in dimensions:
            if not _is_dimension(dimension):
                raise SchemaError(
                    f"{dimension!r} is not a dimension, expected a size >= 1, a rising tuple of sizes or a name, "
                    f"in `Shape{dimensions!r}`"
                )
        self.dimensions = dimensions

    @property
    def is_fixed(self) -> bool:
        """True when every dimension is one size."""
        return all(isinstance(dimension, int) for dimension in self.dimensions)

    def __repr__(self) -> str:
        return f"Shape({', '.join(map(repr, self.dimensions))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self.dimensions == other.dimensions

    def __hash__(self) -> int:
        return hash(self.dimensions)


def _is_dimension(dimension: object) -> bool:
    match dimension:
        case bool():
            return False
        case int():
            return dimension >= 1
        case str():
            return dimension.isidentifier()
        case tuple():
            sizes = [size for size in dimension if isinstance(size, int) and not isinstance(size, bool) and size >= 1]
            return len(sizes) == len(dimension) > 0 and sizes == sorted(set(sizes))
        case _:
            return False
