"""`RowCodec`: rows of one Struct type to payload bytes, payloads to a batch of columns, columns to rows.

It composes: `row_packing` packs, `row_batch` unpacks, `row_columns` checks what comes from outside. The invariant:
a bad row is a RowError of its own and never reaches, or spoils, a batch; an answer row holds Python values only
(numpy scalars do not encode). One codec may be used from several threads.

    >>> codec = RowCodec(Customer)
    >>> batch = codec.batch([codec.pack(row) for row in rows])
    >>> RowCodec(Risk).rows(predict(weights, {}, batch))

Source: `docs/service-api.md`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from slipway_bundle.row_batch import LooseReader, Packed, join_payloads
from slipway_bundle.row_building import make_builder, make_converter
from slipway_bundle.row_columns import Column, fault_error, hand_out, take_in
from slipway_bundle.row_errors import OutputError, RowError, row_error
from slipway_bundle.row_fields import read_leaves
from slipway_bundle.row_packing import make_packer, record_dtype
from slipway_bundle.schema import Arrays, Floats, SchemaError

__all__ = ["OutputError", "RowCodec", "RowError"]

Row = TypeVar("Row", bound=Struct)

_AT = re.compile(r" - at `(.*)`$", re.DOTALL)
"""Where msgspec's validation errors say the path."""


class RowCodec(Generic[Row]):
    """Packs and unpacks the rows of one Struct type.

    Args:
        row_type: The Struct; see `row_fields` for what it may hold.
        floats: The datatype of plain `float` fields, chosen by the weights.
        missing: Whether `float | None` is allowed (the weights can take NaN).

    Raises:
        SchemaError: The type has a field that cannot become a tensor.
    """

    def __init__(self, row_type: type[Row], *, floats: Floats = "FP32", missing: bool = True) -> None:
        leaves = read_leaves(row_type, floats=floats, missing=missing)
        for leaf in leaves:
            if -1 in leaf.spec.shape:
                raise SchemaError(
                    f"field `{row_type.__name__}.{leaf.spec.name}` has a bucketed or free dimension, "
                    "expected fixed sizes: padding buckets arrive with runner pools",
                    hint="give every dimension of `Shape` one size",
                )
        self.row_type = row_type
        self.specs = tuple(leaf.spec for leaf in leaves)
        self.pack: Callable[[Row], bytes] = make_packer(leaves)
        """One row as bytes (20 floats: 0.5 µs). Raises RowError for NaN, infinity, 2**70, a wrong shape, …"""
        self._leaves = leaves
        self._names = tuple(spec.name for spec in self.specs)
        self._dtype = record_dtype(self.specs)
        self._loose = LooseReader(self.specs) if any(spec.is_variable for spec in self.specs) else None
        self._columns = tuple(Column(spec) for spec in self.specs)
        self._converters = tuple(make_converter(leaf) for leaf in leaves)
        self._build = make_builder(row_type, leaves)
        self._has_arrays = any(leaf.kind == "array" for leaf in leaves)

    def batch(self, payloads: Sequence[bytes]) -> Packed:
        """Payloads, each any number of packed rows, as columns `[n, *shape]`; read-only."""
        data = join_payloads(payloads)
        if self._loose is None:
            return Packed(np.frombuffer(data, dtype=self._dtype), self._names, {})
        records, loose = self._loose.split(data)
        return Packed(records, self._names, loose)

    def pack_arrays(self, arrays: Arrays) -> bytes:
        """Columns (the protocol's tensors) as one payload, with every check that decoding a row would make.

        Raises:
            RowError: A tensor is missing, unknown, of another shape or datatype, or has a bad value; it names the
                tensor and the row.
        """
        count, columns = take_in(self._columns, arrays)
        records = np.zeros(count, dtype=self._dtype)
        loose: list[list[bytes]] = []
        for leaf, column in zip(self._leaves, columns, strict=True):
            if leaf.spec.is_variable:
                loose.append([word.encode() if leaf.spec.text else word for word in column])
            elif leaf.kind == "choice":
                records[leaf.spec.name] = [word.encode() for word in column]
            else:
                records[leaf.spec.name] = column
        if not loose:
            return records.tobytes()
        lengths = np.array([[len(word) for word in words] for words in loose], dtype="<u4").T.copy()
        return b"".join(
            part
            for row in range(count)
            for part in (lengths[row].tobytes(), records[row].tobytes(), *(words[row] for words in loose))
        )

    def rows(self, arrays: Arrays) -> list[Row | RowError]:
        """A model's arrays as rows; a row whose values break the schema is a RowError in its place.

        Raises:
            OutputError: A field is missing, or has a shape or kind that no row can have.
        """
        count: int | None = None
        values: list[list[Any]] = []
        errors: dict[int, RowError] = {}
        for column, convert in zip(self._columns, self._converters, strict=True):
            array = hand_out(column, arrays, count=count)
            count = len(array)
            taken, faults = convert(column, array)
            values.append(taken)
            for row, fault in faults.items():
                errors.setdefault(row, fault_error(column.spec, fault, " in the model's answer"))
        try:
            rows = self._build(*values)
        except (TypeError, ValueError):
            rows = [self._build_one(row, values) for row in range(count or 0)]
        for row, error in errors.items():
            rows[row] = error
        return rows

    def check(self, row: Row) -> None:
        """Validates a row that was constructed and not decoded (`Meta` is unchecked on construction).

        Raises:
            RowError: A value has another type, breaks a bound or does not pack.
        """
        if not isinstance(row, self.row_type):
            raise row_error("$", row, f"a `{self.row_type.__name__}`")
        self.pack(row)
        arrays: list[object] = []

        def keep(value: object) -> int:
            arrays.append(value)
            return len(arrays) - 1

        try:
            plain = msgspec.to_builtins(row, enc_hook=keep)
            msgspec.convert(plain, self.row_type, dec_hook=lambda _, index: arrays[index])
        except msgspec.ValidationError as error:
            raise self._validation_error(row, str(error)) from error

    def _validation_error(self, row: Row, message: str) -> RowError:
        found = _AT.search(message)
        path = found.group(1) if found else "$"
        expected = _AT.sub("", message).removeprefix("Expected ").partition(", got")[0]
        got: object = row
        for leaf in self._leaves:
            if path == f"$.{leaf.spec.name}" or path.startswith(f"$.{leaf.spec.name}["):
                for attribute in leaf.attributes:
                    got = getattr(got, attribute)
                break
        return row_error(path, got, expected)

    def _build_one(self, row: int, values: list[list[Any]]) -> Row | RowError:
        """One row of an answer, when the Struct's own `__post_init__` refused one of them."""
        try:
            built: Row = self._build(*([column[row]] for column in values))[0]
        except (TypeError, ValueError) as error:
            return RowError(f"`$` of the model's answer was refused by `{self.row_type.__name__}`: {error}")
        return built
