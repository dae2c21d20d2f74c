"""Says why a row does not pack: walks the values that the fast path refused and names the first bad one.

It runs only after a failure, so it may be slow and thorough. The invariant: it raises for every value that packing
refuses, and for nothing that `msgspec` would decode into a finite, representable value. Source: `docs/service-api.md`.
"""

import math
from collections.abc import Callable, Sequence

from slipway_bundle.row_arrays import make_array
from slipway_bundle.row_errors import Said, row_error
from slipway_bundle.row_fields import Leaf
from slipway_bundle.row_sizes import make_fit
from slipway_bundle.schema import TensorSpec

_FLOAT32_LIMIT = 3.4028235677973366e38
"""The smallest double that rounds to infinity in FP32: 2**128 - 2**103."""

_INT64 = range(-(2**63), 2**63)
_LENGTH_LIMIT = 2**32
"""Free-length fields carry a `u32` length."""

_NOTHING = Said("nothing")


def make_diagnosis(leaves: Sequence[Leaf]) -> Callable[[object], None]:
    """A function that raises the RowError of the first value that does not pack, and returns when every value does."""

    def diagnose(row: object) -> None:
        for leaf in leaves:
            value, path = row, f"$.{leaf.spec.name}"
            for attribute in leaf.attributes:
                value = getattr(value, attribute, _NOTHING)
            match leaf.kind:
                case "scalar" | "sequence":
                    _diagnose_numbers(leaf.spec, leaf.spec.shape, value, path)
                case "array":
                    array = make_array(leaf.spec)(value)
                    if leaf.spec.is_keyed:
                        make_fit(leaf.spec)(array.shape)
                case "choice":
                    _diagnose_choice(leaf, value, path)
                case "text" | "bytes":
                    _diagnose_bytes(leaf, value, path)

    return diagnose


def _diagnose_numbers(spec: TensorSpec, shape: tuple[int, ...], value: object, path: str) -> None:
    if shape:
        if not isinstance(value, list | tuple) or len(value) != shape[0]:
            raise row_error(path, value, f"a list of {shape[0]}")
        for index, part in enumerate(value):
            _diagnose_numbers(spec, shape[1:], part, f"{path}[{index}]")
    elif not (spec.nullable and value is None):
        expected = _wrong_number(spec, value)
        if expected is not None:
            raise row_error(path, value, expected)


def _wrong_number(spec: TensorSpec, value: object) -> str | None:
    """What was expected instead of `value`, or None when it fits."""
    if spec.datatype == "BOOL":
        return None if isinstance(value, bool) else "true or false"
    if spec.datatype == "INT64":
        return None if isinstance(value, int) and value in _INT64 else "an integer of 64 bits"
    if not isinstance(value, int | float):
        return "a number"
    if isinstance(value, int) and value.bit_length() > 1023:
        return f"a number that {spec.datatype} can hold"
    if not math.isfinite(value):
        return "a finite number (missing is null, in a field `float | None`)"
    if spec.datatype == "FP32" and abs(value) >= _FLOAT32_LIMIT:
        return "a number that FP32 can hold, at most 3.4e38"
    return None


def _diagnose_choice(leaf: Leaf, value: object, path: str) -> None:
    known = isinstance(value, leaf.choice) if leaf.choice else value in leaf.spec.values
    if not known:
        raise row_error(path, value, f"one of {', '.join(map(repr, leaf.spec.values))}")


def _diagnose_bytes(leaf: Leaf, value: object, path: str) -> None:
    if isinstance(value, str) and leaf.kind == "text":
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise row_error(path, value, "text that UTF-8 can hold") from None
    elif isinstance(value, bytes) and leaf.kind == "bytes":
        size = len(value)
    else:
        raise row_error(path, value, "a string" if leaf.kind == "text" else "bytes")
    if size >= _LENGTH_LIMIT:
        raise row_error(path, Said(f"{size} bytes"), f"less than {_LENGTH_LIMIT} bytes")
