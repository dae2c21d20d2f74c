"""What a model takes and gives, as tensors: `TensorSpec` and `ModelSchema`.

It packs nothing and checks no value: `row_fields` walks the Struct, `rows` packs, `row_checks` checks. The invariant:
two row types with equal specs have equal packed bytes and equal tensors. Names of datatypes are those of the Open
Inference Protocol v2 (KServe, `required_api.md`, "Tensor Data Types").
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from numpy.typing import NDArray

from slipway_bundle.shapes import SchemaError

__all__ = ["Arrays", "Datatype", "Floats", "ModelSchema", "SchemaError", "TensorSpec"]

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""Name -> array; the leading axis counts rows. `Any` because `NDArray[np.generic]` rejects `1.3 * x`."""

Floats = Literal["FP32", "FP64"]
"""How a plain `float` field travels: as wide as the weights compute."""

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip

Bound: TypeAlias = int | float | None


class TensorSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One tensor: a field of the row, nested Structs flattened to `a.b`."""

    name: str
    datatype: Datatype

    shape: tuple[int, ...] = ()
    """Without the leading batch axis; -1 is a size that rows may choose."""

    buckets: tuple[tuple[int, ...], ...] = ()
    """One an axis: the sizes that a row's own size is padded to, () for an axis without; empty when no axis has any."""

    free: tuple[str, ...] = ()
    """One an axis: its name, "" for an axis without; empty when no axis has one. Equal names have equal sizes."""

    nullable: bool = False
    """`float | None`: missing travels as NaN."""

    text: bool = False
    """BYTES that are UTF-8."""

    values: tuple[str, ...] = ()
    """The closed set of a Literal or Enum; they travel as values, never as indices."""

    ge: Bound = None
    gt: Bound = None
    le: Bound = None
    lt: Bound = None
    multiple_of: Bound = None

    min_length: int | None = None
    """Of text in code points, of bytes in bytes."""

    max_length: int | None = None
    pattern: str | None = None
    """Searched for, not matched from the start (as msgspec and JSON Schema do)."""

    @property
    def is_keyed(self) -> bool:
        """True for an array whose size rows choose; rows of different sizes never share a batch."""
        return -1 in self.shape

    @property
    def dimensions(self) -> tuple[int | str, ...]:
        """The shape in words for a person: `(3, "96|192", "steps")`."""
        buckets, free = self.buckets or ((),) * len(self.shape), self.free or ("",) * len(self.shape)
        return tuple(
            size if size != -1 else "|".join(map(str, sizes)) or name or "any"
            for size, sizes, name in zip(self.shape, buckets, free, strict=True)
        )

    @property
    def is_variable(self) -> bool:
        """True for text and bytes of any length, which travel behind the fixed part of a row."""
        return self.datatype == "BYTES" and not self.values

    @property
    def is_float(self) -> bool:
        """True for the floating-point datatypes."""
        return self.datatype.startswith("FP")


class ModelSchema(Struct, frozen=True, kw_only=True):
    """The contract of one model, in the order of the Structs' fields."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
