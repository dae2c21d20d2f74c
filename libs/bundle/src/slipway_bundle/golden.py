"""Golden examples: `golden.jsonl`, and what "the same answer" means.

It runs no model (`replay.py` does). The invariant: an example is a row, an expected answer and a tolerance, in the form
that a client would send and receive; comparing is exact except for numbers, which may differ by the stated tolerance.
"""

import math
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from slipway_bundle.errors import GoldenError

__all__ = ["Golden", "Mismatch", "Tolerance", "compare", "decode_golden"]

Bound = Annotated[float, Meta(ge=0)]


class Tolerance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a number may be from the expected one: `absolute + relative * |expected|`."""

    absolute: Bound = 0.0
    relative: Bound = 0.0

    def allows(self, got: float, expected: float) -> bool:
        """Whether `got` is close enough to `expected`; NaN is close to nothing."""
        if got == expected:
            return True
        return math.isfinite(got) and abs(got - expected) <= self.absolute + self.relative * abs(expected)


class Golden(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of `golden.jsonl`."""

    model: str
    input: msgspec.Raw
    """The row, as JSON."""

    output: msgspec.Raw
    """The expected answer, as JSON."""

    tolerance: Tolerance = Tolerance()


class Mismatch(Struct, frozen=True, kw_only=True):
    """One difference between an expected and a computed answer."""

    model: str
    line: int
    """Number of the example in `golden.jsonl`, from 1."""

    path: str
    """JSON path in the answer, `$.churn_probability`; `$` when there is no answer at all."""

    expected: str
    got: str

    def __str__(self) -> str:
        place = f"golden example {self.line} of model {self.model!r}"
        return f"{place}: `{self.path}` got {self.got}, expected {self.expected}"


_DECODER = msgspec.json.Decoder(Golden)


def decode_golden(data: bytes, *, where: str) -> tuple[Golden, ...]:
    """The examples of a golden file, in its order; blank lines are skipped.

    Raises:
        GoldenError: A line is not an example; the message names the line.
    """
    examples = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            examples.append(_DECODER.decode(line))
        except msgspec.DecodeError as error:
            raise GoldenError(
                f"line {number} of {where!r} is not a golden example: {error}",
                hint='expected {"model": "churn", "input": {…}, "output": {…}, "tolerance": {"absolute": 1e-6}}',
                line=number,
            ) from error
    return tuple(examples)


def compare(got: object, expected: object, tolerance: Tolerance) -> tuple[str, str, str] | None:
    """The first difference between two JSON values as (path, got, expected), or None when they are the same."""
    return _compare(got, expected, tolerance, "$")


def _compare(got: object, expected: object, tolerance: Tolerance, path: str) -> tuple[str, str, str] | None:
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in [*expected, *(key for key in got if key not in expected)]:
            if key not in got or key not in expected:
                present = {True: "a value", False: "no such field"}
                return f"{path}.{key}", present[key in got], present[key in expected]
            if found := _compare(got[key], expected[key], tolerance, f"{path}.{key}"):
                return found
        return None
    if isinstance(expected, list) and isinstance(got, list):
        if len(got) != len(expected):
            return path, f"{len(got)} items", f"{len(expected)} items"
        pairs = enumerate(zip(got, expected, strict=True))
        differences = (_compare(one, other, tolerance, f"{path}[{index}]") for index, (one, other) in pairs)
        return next(filter(None, differences), None)
    if (got_number := _number(got)) is not None and (number := _number(expected)) is not None:
        if tolerance.allows(got_number, number):
            return None
        return path, repr(got), f"{expected!r} within {tolerance.absolute} + {tolerance.relative} * |expected|"
    if type(got) is type(expected) and got == expected:
        return None
    return path, repr(got), repr(expected)


def _number(value: object) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
