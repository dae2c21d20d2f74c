"""`RowCodec`: rows of one Struct type to payload bytes, payloads to a batch of columns, columns to rows.

It composes: `row_packing` packs, `row_batch` unpacks, `row_columns` checks what comes from outside, `row_sizes` says
which sizes a row chose. The invariant: a bad row is a RowError of its own and never reaches, or spoils, a batch; an
answer row holds Python values only (numpy scalars do not encode). One codec may be used from several threads.

    >>> codec = RowCodec(Customer)
    >>> batch = codec.batch([codec.pack(row) for row in rows])
    >>> RowCodec(Risk).rows(predict(weights, {}, batch))

Source: `docs/service-api.md`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipway_bundle.row_batch import Layout, Packed, Payload, join_payloads
from slipway_bundle.row_building import make_builder, make_converter
from slipway_bundle.row_columns import Column, fault_error, hand_out, take_in
from slipway_bundle.row_errors import OutputError, RowError, row_error
from slipway_bundle.row_fields import read_leaves
from slipway_bundle.row_packing import make_packers
from slipway_bundle.row_sizes import Sizes, bytes_of, chosen, make_fit
from slipway_bundle.schema import Arrays, Floats

__all__ = ["OutputError", "RowCodec", "RowError"]

Row = TypeVar("Row", bound=Struct)

LAYOUTS: Final = 1024
"""Keys whose layout is remembered; free dimensions could make any number of them."""

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
        packers = make_packers(leaves)
        self.row_type = row_type
        self.specs = tuple(leaf.spec for leaf in leaves)
        self.is_keyed = any(spec.is_keyed for spec in self.specs)
        """Whether rows choose sizes (buckets, free dimensions): rows of different keys never share a batch."""
        self.pack: Callable[[Row], bytes] = packers.pack
        """One row of a fixed size as bytes (20 floats: 0.5 µs). Raises RowError for NaN, 2**70, a wrong shape, …"""
        self.pack_keyed: Callable[[Row], tuple[bytes, Payload]] = packers.pack_keyed
        """Any row as its key and its bytes; the key is `b""` when rows have one size. Raises RowError as `pack`.

        A row that is one contiguous array of 16 KiB or more is not copied: the bytes are a read-only view that keeps
        the array alive, and the caller leaves the array as it is until the row is answered. An array that its bucket
        makes longer is a copy.
        """
        self._leaves = leaves
        self._layout = None if self.is_keyed else Layout(self.specs)
        self._layouts: dict[bytes, Layout] = {}
        self._sizes = Sizes(self.specs)
        self._fits = {spec.name: make_fit(spec) for spec in self.specs if spec.is_keyed}
        self._columns = tuple(Column(spec) for spec in self.specs)
        self._converters = tuple(make_converter(leaf) for leaf in leaves)
        self._build = make_builder(row_type, leaves)

    def batch(self, payloads: Sequence[Payload], key: bytes = b"") -> Packed:
        """Payloads, each any number of packed rows of this key, as columns `[n, *shape]`; read-only.

        One payload alone is not copied: the columns are views of it.
        """
        layout = self._layout
        if layout is None or key:
            layout = self._layout_of(key)
        return layout.read(join_payloads(payloads))

    def pack_arrays(self, arrays: Arrays) -> bytes:
        """Columns (the protocol's tensors) as one payload, with every check that decoding a row would make.

        Raises:
            RowError: A tensor is missing, unknown, of another shape or datatype, or has a bad value; it names the
                tensor and the row.
        """
        if self._layout is None:
            raise RuntimeError(
                f"columns of {self.row_type.__name__!r} were packed without their key, this is a bug in slipway: "
                "use `pack_arrays_keyed`"
            )
        return self.pack_arrays_keyed(arrays)[1]

    def pack_arrays_keyed(self, arrays: Arrays) -> tuple[bytes, bytes]:
        """The same with the key; all rows have the sizes of their tensor, and are padded alike.

        Raises:
            RowError: As `pack_arrays`.
        """
        count, columns = take_in(self._columns, arrays)
        key = b""
        layout = self._layout
        if layout is None:
            key = self._key_of(columns)
            layout = self._layout_of(key)
        records = np.zeros(count, dtype=layout.dtype)
        loose: list[list[bytes]] = []
        for leaf, column in zip(self._leaves, columns, strict=True):
            if leaf.spec.is_variable:
                loose.append([word.encode() if leaf.spec.text else word for word in column])
            elif leaf.kind == "choice":
                records[leaf.spec.name] = [word.encode() for word in column]
            elif leaf.spec.is_keyed and isinstance(column, np.ndarray):
                records[leaf.spec.name][tuple(map(slice, column.shape))] = column
            else:
                records[leaf.spec.name] = column
        if not loose:
            return key, records.tobytes()
        lengths = np.array([[len(word) for word in words] for words in loose], dtype="<u4").T.copy()
        return key, b"".join(
            part
            for row in range(count)
            for part in (lengths[row].tobytes(), records[row].tobytes(), *(words[row] for words in loose))
        )

    def rows(self, arrays: Arrays) -> list[Row | RowError]:
        """A model's arrays as rows; a row whose values break the schema is a RowError in its place.

        Raises:
            OutputError: A field is missing, or has a shape or kind that no row can have.
        """
        columns: list[NDArray[Any]] = []
        sizes: tuple[int, ...] = ()
        for column in self._columns:
            array = hand_out(column, arrays, count=len(columns[0]) if columns else None)
            columns.append(array)
            if column.is_keyed:
                sizes += chosen(column.spec, array.shape[1:])
        if sizes and (wrong := self._sizes.disagreement(sizes)):
            raise OutputError(f"the model's answer is not one row's: {wrong}")
        return self._rows_of(columns)

    def given_rows(self, arrays: Arrays) -> list[Row | RowError]:
        """The rows in the tensors of a request, which `pack_arrays_keyed` has taken; arrays are as they came, unpadded.

        A row that the Struct's own `__post_init__` refuses is a RowError in its place.
        """
        columns = [column.shaped(arrays[column.spec.name]) for column in self._columns]
        return self._rows_of([column for column in columns if column is not None])

    def _rows_of(self, columns: Sequence[NDArray[Any]]) -> list[Row | RowError]:
        values: list[list[Any]] = []
        errors: dict[int, RowError] = {}
        for column, convert, array in zip(self._columns, self._converters, columns, strict=True):
            taken, faults = convert(column, array)
            values.append(taken)
            for row, fault in faults.items():
                errors.setdefault(row, fault_error(column.spec, fault, " in the model's answer"))
        try:
            rows = self._build(*values)
        except (TypeError, ValueError):
            rows = [self._build_one(row, values) for row in range(len(columns[0]) if columns else 0)]
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
        self.pack_keyed(row)
        arrays: list[object] = []

        def keep(value: object) -> int:
            arrays.append(value)
            return len(arrays) - 1

        try:
            plain = msgspec.to_builtins(row, enc_hook=keep)
            msgspec.convert(plain, self.row_type, dec_hook=lambda _, index: arrays[index])
        except msgspec.ValidationError as error:
            raise self._validation_error(row, str(error)) from error

    def _layout_of(self, key: bytes) -> Layout:
        """The layout of rows with this key, remembered; a key of other rows is a bug in slipway."""
        layout = self._layouts.get(key)
        if layout is None:
            layout = Layout(self._sizes.resolve(key))
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = layout
        return layout

    def _key_of(self, columns: Sequence[NDArray[Any] | list[Any]]) -> bytes:
        """The key of checked columns. Raises RowError when a tensor's shape does not fit."""
        sizes: tuple[int, ...] = ()
        size_bytes = 0
        for spec, column in zip(self.specs, columns, strict=True):
            if spec.is_keyed and isinstance(column, np.ndarray):
                found = self._fits[spec.name](column.shape[1:])
                sizes += found
                size_bytes += bytes_of(spec, found)
        return self._sizes.key(sizes, size_bytes)

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
