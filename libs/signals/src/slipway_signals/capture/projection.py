"""Turns a row or an answer into the values that may be stored: the redaction policy, compiled once per type.

What is here runs before anything reaches a disk, and is the only way there. It does not decide the policy
(`slipway_bundle.redaction`). The invariants: a value reaches the list by its policy's action or not at all; the work
for one value is bounded, whatever a client sent: texts, bytes and lists are cut off and the record says so.
"""

import enum
import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias

import numpy as np

from slipway_bundle.redaction import Action, FieldPolicy, ValueKind, read_policy
from slipway_signals.capture.pseudonyms import Pseudonymiser
from slipway_signals.capture.records import Column, ColumnType

__all__ = ["MAX_ITEMS", "MAX_TEXT", "Projection", "Redactor"]

MAX_TEXT: Final = 65_536
"""Characters, or bytes, of one kept value."""
MAX_ITEMS: Final = 4_096
"""Items of one list."""
_INT64: Final = 1 << 63

Read: TypeAlias = Callable[[Any], Any]
Each: TypeAlias = Callable[[Sequence[Any], Read], Any]

_TYPES: Final[dict[ValueKind, ColumnType]] = {
    "bool": "bool", "int": "int64", "float": "float64", "choice": "string", "text": "string", "bytes": "binary",
    "array": "float64",
}  # fmt: skip


class Redactor:
    """What the compiled policies of one thread share: the key of the day, and whether something was cut."""

    def __init__(self, pseudonyms: Pseudonymiser) -> None:
        self.pseudonyms = pseudonyms
        self.is_cut = False

    def text(self, value: str) -> str:
        """A kept text: storable, and not too long."""
        if len(value) > MAX_TEXT:
            self.is_cut = True
            value = value[:MAX_TEXT]
        return value if value.isascii() else value.encode("utf-8", "replace").decode()

    def data(self, value: Any) -> bytes:
        """Kept bytes."""
        self.is_cut |= len(value) > MAX_TEXT
        return bytes(value[:MAX_TEXT])

    def integer(self, value: Any) -> int | None:
        """A kept int: what has no place in 64 bits is left out."""
        number = int(value)
        if -_INT64 <= number < _INT64:
            return number
        self.is_cut = True
        return None

    def array(self, value: Any) -> list[float]:
        """A kept array, in C order."""
        flat = np.asarray(value).ravel()
        self.is_cut |= flat.size > MAX_ITEMS
        return [float(number) for number in flat[:MAX_ITEMS].tolist()]

    def each(self, items: Sequence[Any], read: Read) -> list[Any]:
        """What is stored of the items of a list."""
        self.is_cut |= len(items) > MAX_ITEMS
        return [read(item) for item in items[:MAX_ITEMS]]

    def pseudonym(self, value: Any) -> str | None:
        """The pseudonym of a text, bytes or number; None for what is too long to be a name."""
        if isinstance(value, enum.Enum):
            value = value.value
        return self.pseudonyms.of(value if isinstance(value, str | bytes) else str(value))


class Projection:
    """The columns of one type, and the values of each.

    Args:
        struct: The type of the rows, or of the answers.
        redactor: Of the thread that will call `values`.

    Raises:
        RedactionError: An annotation of the type cannot be followed.
    """

    def __init__(self, struct: object, redactor: Redactor) -> None:
        policies = [policy for policy in read_policy(struct) if policy.action != "drop"]
        self.columns = tuple(_column(policy) for policy in policies)
        self.holds_arrays = any(policy.kind == "array" and policy.action == "keep" for policy in policies)
        """Whether arrays are stored: their memory may be used again when the request is over."""
        self._readers = tuple(_at(policy.steps, _leaf(policy, redactor), redactor.each) for policy in policies)
        self._sizes = tuple(_at(policy.steps, _size, _sum_size) for policy in read_policy(struct) if _is_sized(policy))

    def values(self, row: Any) -> list[Any]:
        """One value a column."""
        return [read(row) for read in self._readers]

    @property
    def is_variable(self) -> bool:
        """Whether rows of this type have different sizes in memory."""
        return bool(self._sizes)

    def size_bytes(self, row: Any) -> int:
        """About how much memory the texts, bytes, arrays and lists of `row` hold."""
        return sum(size(row) or 0 for size in self._sizes)


def _is_sized(policy: FieldPolicy) -> bool:
    return policy.kind in {"text", "bytes", "array", "mapping", "other"} or None in policy.steps


def _column(policy: FieldPolicy) -> Column:
    kind, action = policy.kind, policy.action
    types: dict[Action, ColumnType] = {"length": "int64", "bucket": "float64", "keep": _TYPES.get(kind, "string")}
    column = types.get(action, "string")
    suffix = {"keep": "", "mask": ".masked"}.get(action, f".{action}")
    depth = policy.steps.count(None) + (kind == "array" and action == "keep")
    return Column(name=policy.name + suffix, type=column, depth=depth, kind=kind, action=action)


def _at(steps: tuple[str | int | None, ...], read: Read, each: Each) -> Read:
    """`read` of what is at `steps`; None wherever the way ends early."""
    if not steps:
        return _present(read)
    for step in reversed(steps):
        read = _step(step, read, each)
    return read


def _step(step: str | int | None, read: Read, each: Each) -> Read:
    if isinstance(step, str):
        get = attrgetter(step)
        return lambda value: None if (part := get(value)) is None else read(part)
    if isinstance(step, int):
        return lambda value: None if (part := value[step]) is None else read(part)
    present = _present(read)
    return lambda value: each(value, present)


def _present(read: Read) -> Read:
    return lambda value: None if value is None else read(value)


def _leaf(policy: FieldPolicy, redactor: Redactor) -> Read:
    """What is done with one value that is not None.

    A Struct's constructor checks no types, so a kept number is made a number here: a text in its place raises.
    """
    match policy.action:
        case "hash":
            return redactor.pseudonym
        case "mask":
            return _masker(policy.shown)
        case "bucket":
            return _bucketer(policy.width)
        case "length":
            return _length
        case "keep":
            kept: dict[ValueKind, Read] = {
                "bool": bool, "int": redactor.integer, "float": float, "choice": _chooser(policy.values),
                "text": redactor.text, "bytes": redactor.data, "array": redactor.array,
            }  # fmt: skip
            return kept[policy.kind]
        case _:
            raise TypeError(f"this is a bug in slipway: {policy!r} has a column")


def _masker(shown: int) -> Read:
    def mask(value: str) -> str:
        if not shown or len(value) < 2 * shown:
            return "****"
        return f"****{value[-shown:]}".encode("utf-8", "replace").decode()

    return mask


def _bucketer(width: float) -> Read:
    def bucket(value: float) -> float | None:
        return math.floor(value / width) * width if math.isfinite(value) else None

    return bucket


def _length(value: Any) -> int:
    return int(value.size) if isinstance(value, np.ndarray) else len(value)


def _chooser(values: tuple[str, ...]) -> Read:
    known = frozenset(values)

    def choose(value: Any) -> str:
        text = str(value.value if isinstance(value, enum.Enum) else value)
        if text not in known:
            raise ValueError(f"a choice is none of its {len(known)} values")
        return text

    return choose


def _size(value: Any) -> int:
    if isinstance(value, np.ndarray | memoryview):
        return value.nbytes
    return len(value) if isinstance(value, str | bytes | bytearray) else 32


def _sum_size(items: Sequence[Any], read: Read) -> int:
    """Of a list: its length times the first item, so that the question costs nothing."""
    return len(items) * (read(items[0]) or 8) if items else 0
