"""Turns one row into bytes: the hot path of every request.

It checks only what packing could get wrong without a word (range, NaN, infinity, a wrong shape); bounds are
`row_checks`. The invariant: a packed row is self-delimiting, so payloads are joined without counting; fixed rows are
the plain little-endian values in field order, so a batch of equal floats is a matrix without a copy.

Layout of a row: one `u32` length for each free-length field, then the fixed values in field order (no padding), then
the bytes of the free-length fields. The packer is generated source, because attribute reads in a loop cost more than
the whole promise (benchmarks/rows.py prints both). Source: `docs/service-api.md`.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slipway_bundle.row_diagnosis import make_diagnosis, make_raw
from slipway_bundle.row_fields import DTYPES, Leaf
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


def make_packer(leaves: Sequence[Leaf]) -> Callable[[Any], bytes]:
    """Generates `pack(row) -> bytes` for rows with these leaves. It raises RowError for a row that does not fit."""
    source, names = _generate(leaves)
    exec(compile(source, "<slipway row packer>", "exec"), names)  # noqa: S102  # made of field names only, all identifiers
    return names["pack"]  # type: ignore[return-value]  # defined by the source


def _generate(leaves: Sequence[Leaf]) -> tuple[str, dict[str, object]]:
    """The packer's source and the names that it uses."""
    names: dict[str, object] = {"isfinite": math.isfinite, "nan": math.nan, "failures": _FAILURES, "flat": flatten}
    reads: list[str] = []
    finite: list[str] = []
    packed: list[str] = []
    loose: list[str] = []
    layout = ""
    for index, leaf in enumerate(leaves):
        spec, value, read = leaf.spec, f"v{index}", f"row.{'.'.join(leaf.attributes)}"
        optional = f"({{}} if {value} is None else {value})" if spec.nullable else value
        match leaf.kind:
            case "text" | "bytes":
                read += ".encode()" if leaf.kind == "text" else ""
                loose.append(value)
            case "choice":
                names[f"codes{index}"] = {word: word.encode() for word in spec.values}
                read = f"codes{index}[{read}{'._value_' if leaf.choice else ''}]"
                layout += f"{width_of(spec)}s"
                packed.append(value)
            case "array":
                names[f"raw{index}"] = make_raw(spec)
                read = f"raw{index}({read})"
                layout += f"{math.prod(spec.shape) * np.dtype(DTYPES[spec.datatype]).itemsize}s"
                packed.append(value)
            case "sequence":
                read = f"flat({read}, {spec.shape})"
                layout += f"{math.prod(spec.shape)}{_FORMATS[spec.datatype]}"
                packed.append(f"*{value}")
            case "scalar":
                layout += _FORMATS[spec.datatype]
                packed.append(optional.format("nan"))
        if spec.is_float and leaf.kind != "array":
            finite.append(f"*{value}" if leaf.kind == "sequence" else optional.format("0.0"))
        reads.append(f"{value} = {read}")
    names["pack_values"] = struct.Struct(f"<{len(loose)}I{layout}" if loose else f"<{layout}").pack
    names["diagnose"] = make_diagnosis(leaves)
    result = f"pack_values({', '.join([f'len({value})' for value in loose] + packed)})"
    if loose:
        result = f"b''.join(({result}, {', '.join(loose)}))"
    elif [leaf.kind for leaf in leaves] == ["array"]:
        result = "v0"  # one array is its own payload: a picture is not copied twice
    lines = [
        "def pack(row):",
        "    try:",
        *(f"        {read}" for read in reads),
        f"        if isfinite(sum(({', '.join(finite)},))):" if finite else "        if True:",
        f"            return {result}",
        "    except failures:",
        "        diagnose(row)",
        "        raise",
        "    diagnose(row)",  # a sum may overflow though every number is finite
        f"    return {result}",
    ]
    return "\n".join(lines), names


def flatten(value: Any, shape: tuple[int, ...]) -> Sequence[Any]:
    """The numbers of a nested list or tuple in C order. Raises ValueError when it is not a rectangle of `shape`."""
    if not isinstance(value, list | tuple) or len(value) != shape[0]:
        raise ValueError(f"not a list of {shape[0]}")
    if len(shape) == 1:
        return value
    return [number for part in value for number in flatten(part, shape[1:])]
