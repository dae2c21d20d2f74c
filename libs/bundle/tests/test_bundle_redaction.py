import enum
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from msgspec import Meta, Struct

from slipway_bundle import F32, Shape
from slipway_bundle.redaction import FieldPolicy, Redact, RedactionError, read_policy

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(Struct):
    street: Annotated[str, Redact("hash"), Meta(min_length=1)]
    zip: Annotated[str, Redact("mask", shown=2)] | None


class Box(Struct, Generic[T]):
    inside: T


class Node(Struct):
    weight: float
    left: "Node | None"
    right: "Node | None"


def policy(hint: object) -> FieldPolicy:
    """The policy of a Struct's only field `x`."""
    (found,) = read_policy(type("Row", (Struct,), {"__annotations__": {"x": hint}}))
    return found


@pytest.mark.parametrize(
    ("hint", "action"),
    [
        (float, "keep"),
        (Annotated[int, Meta(ge=0)] | None, "keep"),
        (bool, "keep"),
        (int | float, "keep"),
        (Literal["a", "b"], "keep"),
        (Colour, "keep"),
        (list[float], "keep"),
        (tuple[tuple[float, float], ...], "keep"),
        (str, "length"),
        (Annotated[str, Meta(max_length=3)] | None, "length"),
        (list[str], "length"),
        (bytes, "length"),
        (Annotated[F32, Shape(3)], "length"),
        (dict[str, str], "length"),
        (int | str, "drop"),
        (Any, "drop"),
        (object, "drop"),
    ],
)
def test_without_a_word_only_what_cannot_be_free_text_is_kept(hint: object, action: str) -> None:
    found = policy(hint)

    assert found.action == action


def test_annotations_are_found_in_structs_optionals_and_lists() -> None:
    class Row(Struct):
        home: Address
        others: list[Address] | None

    found = {field.name: (field.action, field.steps) for field in read_policy(Row)}

    assert found == {
        "home.street": ("hash", ("home", "street")),
        "home.zip": ("mask", ("home", "zip")),
        "others.street": ("hash", ("others", None, "street")),
        "others.zip": ("mask", ("others", None, "zip")),
    }


def test_an_annotation_outside_holds_for_what_says_nothing_and_a_drop_for_all() -> None:
    class Row(Struct):
        kept: Annotated[Box[str], Redact("keep")]
        own: Annotated[Box[Annotated[str, Redact("hash")]], Redact("keep")]
        gone: Annotated[Address, Redact()]

    found = {field.name: field.action for field in read_policy(Row)}

    assert found == {"kept.inside": "keep", "own.inside": "hash", "gone": "drop"}


def test_a_struct_that_contains_itself_is_read_once() -> None:
    found = {field.name: field.action for field in read_policy(Node)}

    assert found == {"weight": "keep", "left": "drop", "right": "drop"}


def test_a_choice_brings_its_closed_set() -> None:
    assert policy(Literal["a", "b"]).values == ("a", "b")
    assert policy(Colour).values == ("red", "blue")


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[float, Redact("mask")], "`Row.x` is of kind 'float' with Redact('mask'), expected one of keep"),
        (Annotated[str, Redact("bucket", width=1)], "expected one of length, hash, mask, keep, drop"),
        (Annotated[dict[str, str], Redact("keep")], "`Row.x` is a dict with Redact('keep')"),
        (Annotated[str, Redact("keep"), Redact("drop")], "`Row.x` has 2 policies"),
        (Annotated[str, Redact], "is annotated with the class `Redact`"),
        ("Missing", "cannot be read"),
    ],
)
def test_an_annotation_that_cannot_be_followed_names_its_field(hint: object, words: str) -> None:
    with pytest.raises(RedactionError) as raised:
        policy(hint)

    assert words in raised.value.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"action": "hide"}, "'hide' is not an action"),
        ({"action": "hash", "shown": 2}, "`shown` of `Redact('hash')`"),
        ({"action": "bucket"}, "`width` of `Redact('bucket')` is None"),
        ({"action": "bucket", "width": 0.0}, "is 0.0, expected > 0"),
    ],
)
def test_an_impossible_redaction_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(RedactionError) as raised:
        Redact(**arguments)

    assert words in raised.value.message
