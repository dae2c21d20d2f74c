"""What of a value may be stored: `Annotated[str, Redact("hash")]`, and the policy that a Struct's types say.

It looks at types only; values are redacted where they are captured (`slipway_signals.capture`). The invariant: what is
not known to be harmless is not kept. Numbers, bools and closed sets (Literal, Enum) are; text, bytes and arrays are
replaced by their length; what no rule covers is dropped. An annotation says otherwise for one field, or for all that
is under it; the nearest one counts, and nothing under a dropped container is kept. Source: `docs/capture.md`.
"""

import collections.abc
import enum
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin

import msgspec
import numpy as np
from msgspec import Struct

from slipway_bundle.errors import UsageError

__all__ = ["Action", "Each", "FieldPolicy", "Redact", "RedactionError", "ValueKind", "read_policy"]

Action = Literal["keep", "length", "hash", "mask", "bucket", "drop"]
"""keep: as it is. length: how long it is. hash: a pseudonym under a key that rotates. mask: `****1234`. bucket: the
lower edge of its interval. drop: nothing, not even whether there was a value."""

ValueKind = Literal["bool", "int", "float", "choice", "text", "bytes", "array", "mapping", "other"]

Each: TypeAlias = None
"""The step from a list to its items."""

_ACTIONS: Final = typing.get_args(Action)
_ALLOWED: Final[dict[ValueKind, tuple[Action, ...]]] = {
    "bool": ("keep", "drop"),
    "int": ("keep", "bucket", "hash", "drop"),
    "float": ("keep", "bucket", "drop"),
    "choice": ("keep", "hash", "drop"),
    "text": ("length", "hash", "mask", "keep", "drop"),
    "bytes": ("length", "hash", "keep", "drop"),
    "array": ("length", "keep", "drop"),
    "mapping": ("length", "drop"),
    "other": ("drop",),
}
"""Kind of a value → what may be done with it, the default first."""


class RedactionError(UsageError):
    """An annotation that cannot be followed: an unknown action, or one that does not fit the field's type."""

    code = "redaction_invalid"


class Redact:
    """What happens to a field before it is stored: `Annotated[str, Redact("mask", shown=4)]`.

    Args:
        action: See `Action`. `Redact()` drops the field.
        shown: Of `mask`: how many characters at the end stay; a text shorter than twice that shows none.
        width: Of `bucket`: width of the intervals, > 0; 10 turns 37 into 30.

    Raises:
        RedactionError: The action is not known, or an argument does not belong to it.
    """

    __slots__ = ("action", "shown", "width")

    def __init__(self, action: Action = "drop", *, shown: int = 0, width: float | None = None) -> None:
        if action not in _ACTIONS:
            raise RedactionError(f"{action!r} is not an action of `Redact`, expected one of {', '.join(_ACTIONS)}")
        if shown < 0 or (shown and action != "mask"):
            raise RedactionError(f"`shown` of `Redact({action!r})` is {shown}, expected >= 0, with 'mask' only")
        if (width is not None) != (action == "bucket") or (width is not None and not 0 < width < float("inf")):
            raise RedactionError(f"`width` of `Redact({action!r})` is {width}, expected > 0 with 'bucket', else none")
        self.action = action
        self.shown = shown
        self.width = width

    def __repr__(self) -> str:
        extra = f", shown={self.shown}" if self.shown else ""
        return f"Redact({self.action!r}{extra}{f', width={self.width}' if self.width is not None else ''})"


class FieldPolicy(Struct, frozen=True, kw_only=True):
    """One value of a Struct, how to reach it, and what is done with it."""

    name: str
    """Names as they travel, joined by dots: `address.city`; items of a list carry the list's name."""

    kind: ValueKind
    action: Action
    steps: tuple[str | int | Each, ...]
    """From the Struct to the value: an attribute, a place in a tuple, or each item of a list."""

    values: tuple[str, ...] = ()
    """Of a choice: the closed set, as text."""

    shown: int = 0
    width: float = 0.0


def read_policy(struct: object) -> tuple[FieldPolicy, ...]:
    """The policy of every value of a Struct, in field order.

    Args:
        struct: A msgspec Struct type, a generic alias of one (`Pair[float]`), or any other type, which is one value
            named "value".

    Raises:
        RedactionError: An annotation does not fit the type it is on, or a field has two.
    """
    owner = getattr(struct, "__name__", None) or repr(struct)
    return tuple(_Reader(owner).leaves(struct, (), (), None))


class _Reader:
    """Walks one type; the state is what every refusal needs to say."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.within: list[Any] = []
        """Structs that contain what is looked at."""

    def leaves(
        self, hint: Any, names: tuple[str, ...], steps: tuple[str | int | Each, ...], outer: Redact | None
    ) -> Iterator[FieldPolicy]:
        """The policies of what `hint` says is at `steps`; `outer` is the annotation of what contains it."""
        hint, own = self.bare(hint, names)
        redact = own or outer
        inner = _nullable(hint)
        if inner is not None:
            yield from self.leaves(inner, names, steps, redact)
        elif (redact is not None and redact.action == "drop") or (get_origin(hint) or hint) in self.within:
            yield self.policy("other", (), names, steps, None)  # dropped, or a Struct that contains itself
        elif _is_struct(hint):
            self.within.append(get_origin(hint) or hint)
            for field in self.fields(hint, names):
                yield from self.leaves(field.type, (*names, field.encode_name), (*steps, field.name), redact)
            self.within.pop()
        elif (items := _items(hint)) is not None:
            if len(set(items)) == 1:
                yield from self.leaves(items[0], names, (*steps, None), redact)
            else:
                for place, item in enumerate(items):
                    yield from self.leaves(item, (*names, str(place)), (*steps, place), redact)
        else:
            yield self.policy(_kind(hint), _values(hint), names, steps, redact)

    def fields(self, struct: Any, names: tuple[str, ...]) -> tuple[msgspec.structs.FieldInfo, ...]:
        """The fields of a Struct with their annotations."""
        try:
            return msgspec.structs.fields(struct)
        except (NameError, TypeError) as error:
            raise self.refusal(names, f"cannot be read: {error}", "types that can be found") from error

    def bare(self, hint: Any, names: tuple[str, ...]) -> tuple[Any, Redact | None]:
        """`hint` without `Annotated`, aliases and NewTypes, and the annotation that was on it."""
        found: list[Redact] = []
        while True:
            if get_origin(hint) is Annotated:
                hint, *extras = get_args(hint)
                found += [extra for extra in extras if isinstance(extra, Redact)]
                if any(extra is Redact for extra in extras):
                    raise self.refusal(names, "is annotated with the class `Redact`", "an instance, `Redact()`")
            elif isinstance(hint, typing.NewType):
                hint = hint.__supertype__
            elif hasattr(hint, "__value__") and not isinstance(hint, type):
                hint = hint.__value__
            else:
                break
        if len(found) > 1:
            raise self.refusal(names, f"has {len(found)} policies {found}", "one")
        return hint, found[0] if found else None

    def policy(
        self,
        kind: ValueKind,
        values: tuple[str, ...],
        names: tuple[str, ...],
        steps: tuple[str | int | Each, ...],
        redact: Redact | None,
    ) -> FieldPolicy:
        """The policy of one value."""
        action = _ALLOWED[kind][0] if redact is None else redact.action
        if action not in _ALLOWED[kind]:
            raise self.refusal(names, f"is {_words(kind)} with {redact!r}", f"one of {', '.join(_ALLOWED[kind])}")
        shown, width = (redact.shown, redact.width or 0.0) if redact is not None else (0, 0.0)
        name = ".".join(names) or "value"
        return FieldPolicy(name=name, kind=kind, action=action, steps=steps, values=values, shown=shown, width=width)

    def refusal(self, names: tuple[str, ...], got: str, expected: str) -> RedactionError:
        """The error for the field `names`."""
        name = ".".join((self.owner, *names))
        return RedactionError(f"field `{name}` {got}, expected {expected}", field=".".join(names))


def _nullable(hint: Any) -> Any:
    """What a value is when it is not None; None when `hint` is no such union."""
    if get_origin(hint) not in {typing.Union, types.UnionType}:
        return None
    rest = [member for member in get_args(hint) if member is not type(None)]
    return rest[0] if len(rest) == 1 else None


def _is_struct(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Struct)


def _items(hint: Any) -> tuple[Any, ...] | None:
    """The types of the items of a list or tuple: one for all, or one a place; None when it is neither."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return arguments[:1] if len(arguments) == 2 and arguments[1] is Ellipsis else arguments or None
    if origin in {list, collections.abc.Sequence, collections.abc.Iterable}:
        return arguments
    return None


def _kind(hint: Any) -> ValueKind:
    origin = get_origin(hint) or hint
    if origin is Literal:
        return "choice"
    if origin in {typing.Union, types.UnionType}:
        return "float" if {_kind(member) for member in get_args(hint)} <= {"int", "float"} else "other"
    if not isinstance(origin, type):
        return "other"
    if issubclass(origin, enum.Enum):
        return "choice"
    kinds: tuple[tuple[ValueKind, tuple[type, ...]], ...] = (
        ("bool", (bool,)),
        ("int", (int,)),
        ("float", (float,)),
        ("text", (str,)),
        ("bytes", (bytes, bytearray, memoryview)),
        ("array", (np.ndarray,)),
        ("mapping", (collections.abc.Mapping,)),
    )
    return next((kind for kind, classes in kinds if issubclass(origin, classes)), "other")


def _values(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return tuple(map(str, get_args(hint)))
    members: list[enum.Enum] = list(hint) if isinstance(hint, enum.EnumMeta) else []
    return tuple(str(member.value) for member in members)


def _words(kind: ValueKind) -> str:
    return {"mapping": "a dict", "array": "an array", "other": "a value of another type"}.get(kind, f"of kind {kind!r}")
