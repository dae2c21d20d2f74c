"""`example_of`: a small valid value of any type that msgspec decodes, as JSON builtins.

It is what a form and the API reference show, and what a server answers itself to prove that it is ready, when a bundle
has no golden example. Values are minimal and dull on purpose (0, the bound that is allowed, the first choice), never
random, and unions prefer a value to null. A text pattern is not solved: common words are tried against it. The
invariant: what is returned passes `msgspec.convert` to the type, or `ExampleError` says why there is nothing.
"""

import base64
import itertools
import math
import re
import uuid
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
from msgspec import inspect

from slipway_bundle import TensorSpec, UsageError
from slipway_serve.schemas import array_fields

Number: TypeAlias = int | float

WORDS: Final = (
    "a", "A", "0", "aa", "AA", "00", "abc", "ABC", "123", "a1", "A1", "A-1", "a_b", "a-b", "a.b", "name", "en", "EUR",
    "AB12", "0000", "12345", "ABC-123", "abc-123", "C-1", "c-1", "+1", "#000000", "1.0", "a@example.org",
    "example.org", "http://example.org/", "https://example.org", "/a", "2025-01-01", "2025-01", "12:00", "12:00:00",
    "2025-01-01T12:00:00Z", "00000000-0000-4000-8000-000000000000", "127.0.0.1", "true", "Ab1", "A B", "+491234567",
    "DE", "de_DE", "v1.0.0", "1.0.0",
)  # fmt: skip
"""Tried in this order for a text with a pattern, alone and repeated to the length asked for."""
MAX_DEPTH: Final = 32


class ExampleError(UsageError):
    """A type has no value that could be made up."""

    code = "example_impossible"


def example_of(kind: object) -> Any:  # JSON builtins
    """A minimal valid value of `kind`: None, bool, int, float, str, list or dict, as JSON would hold it.

    Args:
        kind: a Struct, or any other annotation that msgspec decodes; arrays carry a `Shape`.

    Raises:
        ExampleError: a text pattern that no common word matches, bounds that exclude everything, endless recursion.
    """
    return _example(inspect.type_info(kind), "$", 0)


def _example(kind: inspect.Type, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ExampleError(f"`{path}` nests in itself without end", hint="add a golden example")
    match kind:
        case inspect.Metadata():
            return _example(kind.type, path, depth)
        case inspect.UnionType():
            return _union(kind, path, depth)
        case inspect.StructType() | inspect.TypedDictType() | inspect.DataclassType() | inspect.NamedTupleType():
            return _object(kind, path, depth)
        case inspect.TupleType():
            return [_example(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(kind.item_types)]
        case inspect.CollectionType() if kind.min_length:
            return [_example(kind.item_type, f"{path}[0]", depth + 1)] * kind.min_length
        case inspect.CollectionType():
            return []
        case inspect.DictType() if kind.min_length:
            value = _example(kind.value_type, f"{path}.a", depth + 1)
            return {f"a{i}": value for i in range(kind.min_length)}
        case inspect.DictType():
            return {}
    return _scalar(kind, path)


def _scalar(kind: inspect.Type, path: str) -> Any:
    """Types that hold no other."""
    match kind:
        case inspect.NoneType() | inspect.AnyType() | inspect.RawType():
            return None
        case inspect.BoolType():
            return False
        case inspect.IntType() | inspect.FloatType():
            return _number(kind, path)
        case inspect.StrType():
            return _text(kind, path)
        case inspect.BytesType() | inspect.ByteArrayType() | inspect.MemoryViewType():
            return base64.b64encode(b"\0" * (kind.min_length or 0)).decode()
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.EnumType():
            return next(iter(kind.cls)).value
    return _stated(kind, path)


def _stated(kind: inspect.Type, path: str) -> str:
    """Types that JSON writes as text: points in time, identifiers."""
    match kind:
        case inspect.DateTimeType():
            return "2025-01-01T00:00:00" + ("" if kind.tz is False else "Z")
        case inspect.DateType():
            return "2025-01-01"
        case inspect.TimeType():
            return "12:00:00" + ("Z" if kind.tz else "")
        case inspect.TimeDeltaType():
            return "PT0S"
        case inspect.UUIDType():
            return str(uuid.UUID(int=0))
        case inspect.DecimalType():
            return "0"
        case inspect.CustomType() if kind.cls is np.ndarray:
            raise ExampleError(f"`{path}` is an array outside a row", hint="add a golden example")
    raise ExampleError(f"`{path}` is a {type(kind).__name__}, which has no example", hint="add a golden example")


def _number(kind: inspect.IntType | inspect.FloatType, path: str) -> Number:
    """Zero, or the allowed value nearest to a bound."""
    step: Number = kind.multiple_of or (1 if isinstance(kind, inspect.IntType) else 0)
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    candidates: list[Number] = [0]
    if low is not None:
        candidates += [low, low + (step or 1), math.ceil(low)]
    if high is not None:
        candidates += [high, high - (step or 1), math.floor(high)]
    if low is not None and high is not None:
        candidates.append((low + high) / 2)
    if step:
        candidates += [math.ceil(value / step) * step for value in tuple(candidates)]
    for value in candidates:
        typed = int(value) if isinstance(kind, inspect.IntType) else float(value)
        if typed == value and _is_within(typed, kind):
            return typed
    raise ExampleError(f"no number found that `{path}` allows", hint="add a golden example")


def _is_within(value: Number, kind: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
        and (kind.multiple_of is None or math.fmod(value, kind.multiple_of) == 0)
    )


def _text(kind: inspect.StrType, path: str) -> str:
    shortest = kind.min_length or 0
    longest = math.inf if kind.max_length is None else kind.max_length
    if kind.pattern is None:
        return "a" * shortest
    pattern = re.compile(kind.pattern)
    for word in _candidates(shortest):
        if shortest <= len(word) <= longest and pattern.search(word):
            return word
    raise ExampleError(
        f"no text was found that `{path}` allows: none of {len(WORDS)} common words matches {kind.pattern!r}",
        hint="add a golden example; its row is used instead",
    )


def _candidates(shortest: int) -> Iterator[str]:
    yield ""
    yield from WORDS
    for length, word in itertools.product(range(max(2, shortest), max(2, shortest) + 33), ("0", "a", "A", "A0", "a0")):
        yield (word * length)[:length]


def _union(kind: inspect.UnionType, path: str, depth: int) -> Any:
    """The first member that has an example; null only when nothing else has."""
    members = sorted(kind.types, key=lambda member: isinstance(member, inspect.NoneType))
    for member in members[:-1]:
        try:
            return _example(member, path, depth + 1)
        except ExampleError:
            continue
    return _example(members[-1], path, depth + 1)


def _object(
    kind: inspect.StructType | inspect.TypedDictType | inspect.DataclassType | inspect.NamedTupleType,
    path: str,
    depth: int,
) -> Any:
    """Required fields, and what a tag needs; optional ones keep their defaults by being absent."""
    is_list = isinstance(kind, inspect.NamedTupleType) or getattr(kind, "array_like", False)
    arrays = array_fields(kind.cls) if isinstance(kind, inspect.StructType) else {}
    made: dict[str, Any] = {}
    if isinstance(kind, inspect.StructType) and kind.tag_field is not None:
        made[kind.tag_field] = kind.tag
    for field in kind.fields:
        if field.encode_name in arrays:
            made[field.encode_name] = _zeros(arrays[field.encode_name])
        elif field.required or is_list:
            made[field.encode_name] = _example(field.type, f"{path}.{field.encode_name}", depth + 1)
    return list(made.values()) if is_list else made


def _zeros(spec: TensorSpec) -> Any:
    """Nested lists of zeros; a free dimension has the size 1."""
    zero: Any = False if spec.datatype == "BOOL" else 0.0 if spec.is_float else 0
    for size in reversed(spec.shape):
        zero = [zero] * (1 if size == -1 else size)
    return zero
