"""Turns one row into bytes: the hot path of every request.

It checks only what packing could get wrong without a word (range, NaN, infinity, a wrong shape); bounds are
`row_checks`. The invariant: a packed row is self-delimiting, so payloads are joined without counting; fixed rows are
the plain little-endian values in field order, so a batch of equal floats is a matrix without a copy.

Layout of a row: one `u32` length for each free-length field, then the fixed values in field order (no padding), then
the bytes of the free-length fields; an array whose size the row chooses has its place among the fixed values, in the
size that the row's key says. The packer is generated source, because attribute reads in a loop cost more than
the whole promise (benchmarks/rows.py prints both). Source: `docs/service-api.md`.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from slipway_bundle.row_arrays import make_keyed, make_raw, make_view
from slipway_bundle.row_diagnosis import make_diagnosis
from slipway_bundle.row_fields import DTYPES, Leaf
from slipway_bundle.row_sizes import Sizes, bytes_of
from slipway_bundle.schema import TensorSpec

_FORMATS = {"BOOL": "?", "INT64": "q", "FP32": "f", "FP64": "d"}
_FAILURES = (struct.error, OverflowError, AttributeError, TypeError, KeyError, ValueError)


def width_of(spec: TensorSpec) -> int:
    """Bytes of a closed set's longest value (at least 1: numpy has no zero-width strings)."""
    return max(1, *(len(value.encode()) for value in spec.values))


def record_dtype(specs: Sequence[TensorSpec]) -> np.dtype[np.void]:
    """The dtype of the fixed part of a packed row."""
    fields = [
        (spec.name, f"S{width_of(spec)}" if spec.values else DTYPES[spec.datatype], spec.shape)
        for spec in specs
        if not spec.is_variable
    ]
    return np.dtype(fields)


class Packers(NamedTuple):
    """The two ways to pack a row; both raise RowError for a row that does not fit."""

    pack: Callable[[Any], bytes]
    """Rows of one size: the bytes, never a view."""

    pack_keyed: Callable[[Any], tuple[bytes, bytes | memoryview]]
    """Any row: its key and its bytes; one large array alone in its row is a view of the caller's memory."""


def make_packers(leaves: Sequence[Leaf]) -> Packers:
    """Generates the packers of rows with these leaves."""
    sizes = Sizes([leaf.spec for leaf in leaves])
    keyed = _compile(leaves, sizes, is_keyed=True)
    if not sizes:
        return Packers(_compile(leaves, sizes, is_keyed=False), keyed)

    def refuse(row: Any) -> bytes:
        raise RuntimeError(
            f"a row of {type(row).__name__!r} was packed without its key, this is a bug in slipway: use `pack_keyed`"
        )

    return Packers(refuse, keyed)


def _compile(leaves: Sequence[Leaf], sizes: Sizes, *, is_keyed: bool) -> Callable[[Any], Any]:
    source, names = _Source(leaves, sizes, is_keyed=is_keyed).write()
    exec(compile(source, "<slipway row packer>", "exec"), names)  # noqa: S102  # made of field names only, all identifiers
    return names["pack"]  # type: ignore[return-value]  # defined by the source


class _Source:
    """Writes one packer: its source and the names that it uses."""

    def __init__(self, leaves: Sequence[Leaf], sizes: Sizes, *, is_keyed: bool) -> None:
        self._leaves = leaves
        self._sizes = sizes
        self._is_keyed = is_keyed
        self._is_alone = [leaf.kind for leaf in leaves] == ["array"]
        """One array is its own payload: a picture is not copied twice."""
        self._names: dict[str, object] = {
            "isfinite": math.isfinite, "nan": math.nan, "failures": _FAILURES, "flat": flatten,
            "diagnose": make_diagnosis(leaves),
        }  # fmt: skip
        self._reads: list[str] = []
        self._finite: list[str] = []
        self._loose = [f"v{index}" for index, leaf in enumerate(leaves) if leaf.kind in {"text", "bytes"}]
        self._layout = f"{len(self._loose)}I" if self._loose else ""
        self._packed = [f"len({value})" for value in self._loose]
        self._parts: list[str] = []
        self._keyed: list[int] = []

    def write(self) -> tuple[str, dict[str, object]]:
        """The source of a function `pack` and its globals."""
        for index, leaf in enumerate(self._leaves):
            self._add(index, leaf)
        self._end_run()
        parts = self._parts + self._loose
        result = parts[0] if len(parts) == 1 else f"b''.join(({', '.join(parts)}))"
        if self._keyed:
            self._names["key"] = self._sizes.key
            sizes = ", ".join(f"*s{index}" for index in self._keyed)
            arrays = " + ".join(f"len(v{index})" for index in self._keyed)
            result = f"key(({sizes},), {arrays}), {result}"
        elif self._is_keyed:
            result = f"b'', {result}"
        finite = f"if isfinite(sum(({', '.join(self._finite)},))):" if self._finite else "if True:"
        lines = [
            "def pack(row):",
            "    try:",
            *(f"        {read}" for read in self._reads),
            f"        {finite}",
            f"            return {result}",
            "    except failures:",
            "        diagnose(row)",
            "        raise",
            "    diagnose(row)",  # a sum may overflow though every number is finite
            f"    return {result}",
        ]
        return "\n".join(lines), self._names

    def _add(self, index: int, leaf: Leaf) -> None:
        spec, value, read = leaf.spec, f"v{index}", f"row.{'.'.join(leaf.attributes)}"
        optional = f"({{}} if {value} is None else {value})" if spec.nullable else value
        match leaf.kind:
            case "text" | "bytes":
                read += ".encode()" if leaf.kind == "text" else ""
            case "choice":
                self._names[f"codes{index}"] = {word: word.encode() for word in spec.values}
                read = f"codes{index}[{read}{'._value_' if leaf.choice else ''}]"
                self._layout += f"{width_of(spec)}s"
                self._packed.append(value)
            case "array" if spec.is_keyed:
                self._add_keyed(index, spec, read)
                return
            case "array":
                self._names[f"raw{index}"] = (make_view if self._is_keyed and self._is_alone else make_raw)(spec)
                read = f"raw{index}({read})"
                if self._is_alone:
                    self._parts.append(value)
                else:
                    self._layout += f"{bytes_of(spec, ())}s"
                    self._packed.append(value)
            case "sequence":
                read = f"flat({read}, {spec.shape})"
                self._layout += f"{math.prod(spec.shape)}{_FORMATS[spec.datatype]}"
                self._packed.append(f"*{value}")
            case "scalar":
                self._layout += _FORMATS[spec.datatype]
                self._packed.append(optional.format("nan"))
        if spec.is_float and leaf.kind != "array":
            self._finite.append(f"*{value}" if leaf.kind == "sequence" else optional.format("0.0"))
        self._reads.append(f"{value} = {read}")

    def _add_keyed(self, index: int, spec: TensorSpec, read: str) -> None:
        """An array of a size that the row chooses lies between two runs of values of fixed size."""
        self._names[f"keyed{index}"] = make_keyed(spec)
        self._reads.append(f"v{index}, s{index} = keyed{index}({read})")
        self._keyed.append(index)
        self._end_run()
        self._parts.append(f"v{index}")

    def _end_run(self) -> None:
        if self._layout:
            name = f"pack{len(self._parts)}"
            self._names[name] = struct.Struct(f"<{self._layout}").pack
            self._parts.append(f"{name}({', '.join(self._packed)})")
            self._layout, self._packed = "", []


def flatten(value: Any, shape: tuple[int, ...]) -> Sequence[Any]:
    """The numbers of a nested list or tuple in C order. Raises ValueError when it is not a rectangle of `shape`."""
    if not isinstance(value, list | tuple) or len(value) != shape[0]:
        raise ValueError(f"not a list of {shape[0]}")
    if len(shape) == 1:
        return value
    return [number for part in value for number in flatten(part, shape[1:])]
