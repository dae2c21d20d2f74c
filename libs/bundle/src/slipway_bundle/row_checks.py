"""Checks whole columns against their specs: bounds, finiteness, closed sets, lengths.

`Meta` is unchecked when a Struct is constructed, on answers, and when the protocol brings columns; this is where those
three are checked. It changes no value. The invariant: a column is accepted by two reductions, and only a column that
fails them is looked at value by value, so the good case costs microseconds and the bad case names every bad row.
Bounds are compared in the column's own precision: 0.1 as FP32 satisfies `Meta(le=0.1)`.
Source: `docs/service-api.md`.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.schema import TensorSpec


class Fault(NamedTuple):
    """One bad value of a column."""

    place: tuple[int, ...]
    """Inside the row: empty for a scalar."""

    got: object
    expected: str


Check = Callable[[NDArray[Any]], dict[int, Fault]]
"""Column `[n, *shape]` -> row index and the first fault of each bad row."""

WordCheck = Callable[[Sequence[Any]], dict[int, Fault]]
"""The same for text and bytes, which are checked as Python values."""


def make_check(spec: TensorSpec) -> Check:
    """The check of a numeric column."""
    if spec.datatype == "BOOL":
        return _nothing
    lowest, highest = _lowest(spec), _highest(spec)
    least, most = (np.fmin.reduce, np.fmax.reduce) if spec.nullable else (np.minimum.reduce, np.maximum.reduce)
    searching = _make_search(spec)

    def check(column: NDArray[Any]) -> dict[int, Fault]:
        if column.size == 0:
            return {}
        flat = column if column.ndim == 1 else column.reshape(-1)
        low, high = least(flat).item(), most(flat).item()
        if spec.multiple_of is None and lowest(low, column) and highest(high, column):
            return {}
        return searching(column)

    return check


def make_word_check(spec: TensorSpec) -> WordCheck:
    """The check of a column of text or bytes."""
    values = frozenset(spec.values)
    shortest = spec.min_length or 0
    longest = math.inf if spec.max_length is None else spec.max_length
    pattern: re.Pattern[Any] | None = re.compile(spec.pattern) if spec.pattern is not None else None
    said = _said(spec)

    def check(column: Sequence[Any]) -> dict[int, Fault]:
        faults = {}
        for index, word in enumerate(column):
            if not (
                isinstance(word, str if spec.text else bytes)
                and (not values or word in values)
                and shortest <= len(word) <= longest
                and (pattern is None or pattern.search(word))
            ):
                faults[index] = Fault((), word, said)
        return faults

    return check


def _nothing(column: NDArray[Any]) -> dict[int, Fault]:  # noqa: ARG001  # every bool is a good bool
    return {}


def _in_dtype(bound: float, column: NDArray[Any]) -> float:
    """The bound in the precision of a floating column."""
    return float(column.dtype.type(bound)) if column.dtype.kind == "f" else bound


def _lowest(spec: TensorSpec) -> Callable[[float, NDArray[Any]], bool]:
    """Whether the least value of a column is finite and not below its bounds; NaN is not."""
    bounds = [(bound, strict) for bound, strict in ((spec.ge, False), (spec.gt, True)) if bound is not None]

    def lowest(low: float, column: NDArray[Any]) -> bool:
        if not -math.inf < low < math.inf:
            return False
        return all(low > edge if strict else low >= edge for edge, strict in _edges(bounds, column))

    return lowest


def _highest(spec: TensorSpec) -> Callable[[float, NDArray[Any]], bool]:
    """Whether the greatest value of a column is finite and not above its bounds; NaN is not."""
    bounds = [(bound, strict) for bound, strict in ((spec.le, False), (spec.lt, True)) if bound is not None]

    def highest(high: float, column: NDArray[Any]) -> bool:
        if not -math.inf < high < math.inf:
            return False
        return all(high < edge if strict else high <= edge for edge, strict in _edges(bounds, column))

    return highest


def _edges(bounds: list[tuple[float, bool]], column: NDArray[Any]) -> list[tuple[float, bool]]:
    return [(_in_dtype(bound, column), strict) for bound, strict in bounds]


def _make_search(spec: TensorSpec) -> Check:
    """Looks at every value; used when the reductions found something."""
    said = _said(spec)
    tests: list[tuple[Callable[[Any, Any], Any], float | None]] = [
        (np.less, spec.ge),
        (np.less_equal, spec.gt),
        (np.greater, spec.le),
        (np.greater_equal, spec.lt),
    ]

    def search(column: NDArray[Any]) -> dict[int, Fault]:
        floating = column.dtype.kind == "f"
        wrong = (
            (np.isinf(column) if spec.nullable else ~np.isfinite(column)) if floating else np.zeros(column.shape, bool)
        )
        with np.errstate(invalid="ignore"):
            for test, bound in tests:
                if bound is not None:
                    wrong |= test(column, _in_dtype(bound, column))
            if spec.multiple_of is not None:
                wrong |= np.mod(column, spec.multiple_of) != 0
        if spec.nullable:
            wrong &= ~np.isnan(column)
        faults: dict[int, Fault] = {}
        for row, *place in np.argwhere(wrong).tolist():
            if row not in faults:
                faults[row] = Fault(tuple(place), column[(row, *place)].item(), said)
        return faults

    return search


def _said(spec: TensorSpec) -> str:
    """The rule of a spec in words."""
    if spec.values:
        return f"one of {', '.join(map(repr, spec.values))}"
    parts = []
    for word, bound in ((">=", spec.ge), (">", spec.gt), ("<=", spec.le), ("<", spec.lt)):
        if bound is not None:
            parts.append(f"{word} {bound}")
    if spec.multiple_of is not None:
        parts.append(f"a multiple of {spec.multiple_of}")
    if spec.min_length is not None:
        parts.append(f"length >= {spec.min_length}")
    if spec.max_length is not None:
        parts.append(f"length <= {spec.max_length}")
    if spec.pattern is not None:
        parts.append(f"text matching {spec.pattern!r}")
    if spec.datatype == "BYTES":
        kind = "text" if spec.text else "bytes"
    else:
        kind = "a finite number" if spec.is_float else "an integer"
    return " and ".join([kind, *parts])
