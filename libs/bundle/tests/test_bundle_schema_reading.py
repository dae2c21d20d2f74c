"""A row Struct becomes tensors, or is refused with the field's name."""

import enum
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import numpy as np
import pytest
from msgspec import Meta, Struct
from numpy.typing import NDArray

from slipway_bundle.rows import RowCodec
from slipway_bundle.schema import SchemaError, TensorSpec
from slipway_bundle.shapes import F32, F64, I32, I64, U8, Bool, Shape

T = TypeVar("T")


class Contract(enum.Enum):
    MONTHLY = "monthly"
    YEARLY = "yearly"


class Address(Struct, frozen=True):
    distance_km: Annotated[float, Meta(ge=0)]
    rural: bool


class Customer(Struct, frozen=True, kw_only=True, rename="camel"):
    tenure_months: Annotated[float, Meta(ge=0, le=600)]
    support_calls: Annotated[int, Meta(ge=0, lt=1000, multiple_of=1)]
    income: Annotated[float, Meta(gt=0)] | None
    plan: Literal["basic", "plus"]
    contract: Contract
    address: Address
    note: Annotated[str, Meta(max_length=20, pattern="^[a-z]*$")]
    photo: Annotated[bytes, Meta(min_length=1)]
    monthly: Annotated[list[Annotated[float, Meta(ge=0)]], Meta(min_length=3, max_length=3)]
    corner: tuple[int, int]
    grid: Annotated[list[Annotated[list[float], Meta(min_length=2, max_length=2)]], Meta(min_length=3, max_length=3)]


class Pair(Struct, Generic[T], eq=False):
    left: T
    right: T


class Pixels(Struct, eq=False):
    values: Annotated[F32, Shape(3, 4, 4)]


def test_every_kind_of_field_becomes_its_tensor() -> None:
    specs = {spec.name: spec for spec in RowCodec(Customer).specs}

    assert specs["tenureMonths"] == TensorSpec(name="tenureMonths", datatype="FP32", ge=0, le=600)
    assert specs["supportCalls"] == TensorSpec(name="supportCalls", datatype="INT64", ge=0, lt=1000, multiple_of=1)
    assert specs["income"] == TensorSpec(name="income", datatype="FP32", nullable=True, gt=0)
    assert specs["plan"] == TensorSpec(name="plan", datatype="BYTES", text=True, values=("basic", "plus"))
    assert specs["contract"] == TensorSpec(name="contract", datatype="BYTES", text=True, values=("monthly", "yearly"))
    assert specs["address.distance_km"] == TensorSpec(name="address.distance_km", datatype="FP32", ge=0)
    assert specs["address.rural"] == TensorSpec(name="address.rural", datatype="BOOL")
    assert specs["note"] == TensorSpec(name="note", datatype="BYTES", text=True, max_length=20, pattern="^[a-z]*$")
    assert specs["photo"] == TensorSpec(name="photo", datatype="BYTES", min_length=1)
    assert specs["monthly"] == TensorSpec(name="monthly", datatype="FP32", shape=(3,), ge=0)
    assert specs["corner"] == TensorSpec(name="corner", datatype="INT64", shape=(2,))
    assert specs["grid"] == TensorSpec(name="grid", datatype="FP32", shape=(3, 2))


def test_tensors_keep_the_order_of_the_fields() -> None:
    names = [spec.name for spec in RowCodec(Customer).specs]

    assert names[:7] == [
        "tenureMonths",
        "supportCalls",
        "income",
        "plan",
        "contract",
        "address.distance_km",
        "address.rural",
    ]


def test_the_weights_decide_how_wide_plain_floats_are() -> None:
    assert RowCodec(Address, floats="FP64").specs[0].datatype == "FP64"


@pytest.mark.parametrize(
    ("alias", "datatype"),
    [(F32, "FP32"), (F64, "FP64"), (I64, "INT64"), (I32, "INT32"), (U8, "UINT8"), (Bool, "BOOL"),
     (NDArray[np.uint16], "UINT16"), (NDArray[np.float16], "FP16")],
)  # fmt: skip
def test_an_array_keeps_its_dtype_and_shape(alias: Any, datatype: str) -> None:
    row = type(
        "Row", (Struct,), {"__annotations__": {"x": Annotated[alias, Shape(2, 3)]}, "__module__": __name__}, eq=False
    )

    spec = RowCodec(row).specs[0]

    assert (spec.datatype, spec.shape) == (datatype, (2, 3))


def test_a_generic_row_takes_the_arguments_of_its_alias() -> None:
    row: Any = Pair[Annotated[F64, Shape(2)]]

    assert [spec.datatype for spec in RowCodec(row).specs] == ["FP64", "FP64"]
    assert [spec.datatype for spec in RowCodec(Pair[float]).specs] == ["FP32", "FP32"]


class Defaulted(Struct):
    amount: float = 0.0


class Mapped(Struct):
    amounts: dict[str, float]


class Either(Struct):
    amount: int | str


class MaybeInt(Struct):
    amount: int | None


class MaybeBool(Struct):
    amount: bool | None


class Loose(Struct):
    amounts: list[float]


class Ranged(Struct):
    amounts: Annotated[list[float], Meta(min_length=1, max_length=3)]


class Numbered(Struct):
    amount: Literal[1, 2]


class Weekday(enum.IntEnum):
    MONDAY = 1


class Dated(Struct):
    day: Weekday


class Mixed(Struct):
    pair: tuple[int, float]


class Listed(Struct):
    parts: Annotated[list[Address], Meta(min_length=2, max_length=2)]


class Shapeless(Struct, eq=False):
    values: F32


class Comparing(Struct):
    values: Annotated[F32, Shape(3)]


class Objects(Struct, eq=False):
    values: Annotated[NDArray[np.object_], Shape(3)]


class Anything(Struct):
    amount: Any


class Empty(Struct):
    pass


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Defaulted, "`Defaulted.amount` has a default"),
        (Mapped, "`Mapped.amounts` is a dict"),
        (Either, "`Either.amount` is a union"),
        (MaybeInt, "`MaybeInt.amount` is a union, expected no union but `float | None`"),
        (MaybeBool, "`MaybeBool.amount` is a union"),
        (Loose, "`Loose.amounts` has a length from 0 to any, expected one length"),
        (Ranged, "`Ranged.amounts` has a length from 1 to 3"),
        (Numbered, "`Numbered.amount` has the values"),
        (Dated, "`Dated.day` has the values"),
        (Mixed, "`Mixed.pair` is a tuple of different types"),
        (Listed, "`Listed.parts` is a list of Structs"),
        (Shapeless, "`Shapeless.values` is an array without a shape"),
        (Comparing, "`Comparing.values` is an array and Comparing compares by value, expected `eq=False`"),
        (Objects, "`Objects.values` is an array of <class 'numpy.object_'>"),
        (Anything, "`Anything.amount` has the type `any`"),
        (Empty, "Empty has no fields"),
        (int, "is not a row type"),
    ],
)
def test_what_cannot_be_a_tensor_is_refused_by_name(row: Any, said: str) -> None:
    with pytest.raises(SchemaError) as caught:
        RowCodec(row)

    assert said in caught.value.message
    assert caught.value.code == "schema_invalid"


def test_a_missing_value_is_refused_when_the_weights_take_no_nan() -> None:
    with pytest.raises(SchemaError, match=r"`Customer.income` may be missing"):
        RowCodec(Customer, missing=False)


def test_an_array_alias_that_msgspec_cannot_read_is_refused_with_the_aliases_that_it_can() -> None:
    """`NDArray[...]` is a TypeAliasType since numpy 2.5 on Python 3.13."""
    extensions = pytest.importorskip("typing_extensions")
    ndarray: Any = np.ndarray
    dtype: Any = np.dtype
    alias = extensions.TypeAliasType("NDArray", ndarray[tuple[Any, ...], dtype[T]], type_params=(T,))
    annotations = {"x": Annotated[alias[np.float32], Shape(2)]}
    row = type("Row", (Struct,), {"__annotations__": annotations, "__module__": __name__}, eq=False)

    with pytest.raises(SchemaError, match=r"(?s)cannot be read as a row type.*F32"):
        RowCodec(row)


def test_two_fields_with_one_tensor_name_are_refused() -> None:
    class Clash(Struct, rename={"flat": "address.rural"}):
        flat: bool
        address: Address

    with pytest.raises(SchemaError, match=r"two tensors named 'address.rural'"):
        RowCodec(Clash)


def test_buckets_and_free_sizes_are_described_axis_by_axis() -> None:
    class Crop(Struct, eq=False):
        pixels: Annotated[F32, Shape(3, (96, 192), "steps")]
        mask: Annotated[F32, Shape("steps", 7)]
        score: float

    pixels, mask, score = RowCodec(Crop).specs

    assert pixels == TensorSpec(
        name="pixels", datatype="FP32", shape=(3, -1, -1), buckets=((), (96, 192), ()), free=("", "", "steps")
    )
    assert (mask.shape, mask.buckets, mask.free) == ((-1, 7), (), ("steps", ""))
    assert pixels.dimensions == (3, "96|192", "steps")
    assert [spec.is_keyed for spec in (pixels, mask, score)] == [True, True, False]


def test_stored_schemas_of_fixed_rows_are_what_they_were_and_newer_fields_are_passed_over() -> None:
    fixed = TensorSpec(name="x", datatype="FP32", shape=(3, 4))
    bucketed = TensorSpec(name="x", datatype="FP32", shape=(3, -1), buckets=((), (4, 8)))

    assert msgspec.json.encode(fixed) == b'{"name":"x","datatype":"FP32","shape":[3,4]}'
    assert msgspec.json.decode(b'{"name":"x","datatype":"FP32","shape":[3,-1],"other":1}', type=TensorSpec) == (
        TensorSpec(name="x", datatype="FP32", shape=(3, -1))
    )
    assert msgspec.json.decode(msgspec.json.encode(bucketed), type=TensorSpec) == bucketed


@pytest.mark.parametrize("bad", [0, -1, 1.5, (), (4, 2), (2, 2), "two words", True])
def test_a_dimension_is_a_size_a_rising_tuple_or_a_name(bad: Any) -> None:
    with pytest.raises(SchemaError, match="is not a dimension"):
        Shape(3, bad)


def test_equal_shapes_are_equal_values() -> None:
    assert Shape(3, (4, 8), "n") == Shape(3, (4, 8), "n")
    assert hash(Shape(1)) == hash(Shape(1))
    assert Shape(1) != Shape(2)
    assert Shape(3).is_fixed
    assert not Shape("n").is_fixed
