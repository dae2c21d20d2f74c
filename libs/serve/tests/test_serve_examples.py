"""Made-up examples are always valid for their type, or there is an error that says why there is none."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from slipway_bundle import F32, U8, RowCodec, Shape
from slipway_bundle.array_json import decode_array
from slipway_serve.examples import ExampleError, example_of


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


class Inner(Struct, rename="camel"):
    some_value: Annotated[int, Meta(gt=4, lt=6)]


class Cat(Struct, tag="cat"):
    lives: Annotated[int, Meta(ge=1)]


class Dog(Struct, tag="dog"):
    name: str


class Listed(Struct, array_like=True):
    a: int
    b: str = "x"


class Named(NamedTuple):
    a: int
    b: float


class Typed(TypedDict):
    a: Annotated[str, Meta(min_length=2)]


class Many(Struct, forbid_unknown_fields=True):
    inner: Inner
    optional: int | None
    pets: Cat | Dog
    listed: Listed
    named: Named
    typed: Typed
    trio: Annotated[list[Inner], Meta(min_length=3, max_length=3)]
    pair: tuple[int, str]
    rest: tuple[float, ...]
    table: Annotated[dict[str, int], Meta(min_length=2)]
    anything: Any
    raw: msgspec.Raw
    defaulted: int = 5


class Loop(Struct):
    again: "Loop"


KINDS: list[Any] = [
    None, bool, int, float, str, bytes, Colour, Size, Many, Cat | Dog | None, Literal["a", "b"], Literal[3, None],
    Annotated[int, Meta(ge=-5, le=-3)], Annotated[int, Meta(gt=0, multiple_of=7)], Annotated[float, Meta(gt=0, lt=1)],
    Annotated[float, Meta(lt=0)], Annotated[float, Meta(gt=1e9)], Annotated[str, Meta(min_length=3)],
    Annotated[bytes, Meta(min_length=3)], Annotated[str, Meta(pattern="^[A-Z]{2}$")],
    Annotated[str, Meta(pattern=r"^\d{5}$")], Annotated[str, Meta(pattern=r"^[^@]+@[^@]+\.[a-z]+$")],
    Annotated[str, Meta(pattern="^a+$", min_length=20, max_length=20)], Annotated[str, Meta(pattern=r"^c-\d+$")],
    dt.datetime, Annotated[dt.datetime, Meta(tz=True)], Annotated[dt.datetime, Meta(tz=False)],
    dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal, list[int], dict[str, Inner],
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_example_is_valid_for_its_type(kind: Any) -> None:
    made = example_of(kind)

    assert msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(made), type=kind))


@given(low=st.integers(-1000, 1000), span=st.integers(0, 50), is_open=st.booleans())
def test_an_integer_between_bounds_is_found_when_there_is_one(low: int, span: int, is_open: bool) -> None:
    kind: Any = (
        Annotated[int, Meta(gt=low, lt=low + span + 2)] if is_open else Annotated[int, Meta(ge=low, le=low + span)]
    )

    assert msgspec.convert(example_of(kind), kind) == example_of(kind)


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e3))
def test_a_float_between_open_bounds_is_found(low: float, span: float) -> None:
    kind: Any = Annotated[float, Meta(gt=low, lt=low + span)]

    assert msgspec.convert(example_of(kind), kind) == example_of(kind)


def test_a_value_is_preferred_to_null_and_a_default_to_a_value() -> None:
    assert example_of(float | None) == 0.0
    assert "defaulted" not in example_of(Many)


def test_arrays_are_nested_lists_of_zeros_in_their_shape() -> None:
    class Picture(Struct, eq=False):
        pixels: Annotated[F32, Shape(2, 3)]
        mask: Annotated[U8, Shape(2)]

    made = example_of(Picture)

    assert made == {"pixels": [[0.0] * 3] * 2, "mask": [0, 0]}
    RowCodec(Picture).pack(msgspec.convert(made, Picture, dec_hook=decode_array))


def test_a_pattern_that_no_word_matches_is_an_error_with_a_way_out() -> None:
    class Coded(Struct):
        code: Annotated[str, Meta(pattern=r"^q{3}-[0-9]{4}-zz$")]

    with pytest.raises(ExampleError, match=r"\$\.code") as caught:
        example_of(Coded)

    assert "golden example" in str(caught.value.hint)


def test_a_type_that_needs_itself_is_an_error_not_a_recursion() -> None:
    with pytest.raises(ExampleError, match="without end"):
        example_of(Loop)
