"""Packing a row: what fits is bytes, what does not is that row's error."""

import enum
import math
import struct
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from msgspec import Meta, Struct

from slipway_bundle.rows import RowCodec, RowError
from slipway_bundle.shapes import F32, U8, Shape


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Inner(Struct, frozen=True):
    depth: float


class Row(Struct, frozen=True, kw_only=True):
    amount: float
    count: int
    flag: bool
    income: float | None
    plan: Literal["a", "long"]
    color: Color
    inner: Inner
    window: Annotated[list[float], Meta(min_length=2, max_length=2)]
    grid: tuple[tuple[int, int], tuple[int, int]]


class Word(Struct, frozen=True):
    text: str
    data: bytes
    size: int


class Picture(Struct, eq=False):
    pixels: Annotated[F32, Shape(2, 3)]


class Tagged(Struct, eq=False):
    score: float
    pixels: Annotated[U8, Shape(2, 2)]


GOOD = Row(
    amount=1.5, count=-3, flag=True, income=None, plan="long", color=Color.GREEN, inner=Inner(0.25),
    window=[1.0, 2.0], grid=((1, 2), (3, 4)),
)  # fmt: skip


def changed(**values: Any) -> Row:
    return msgspec.structs.replace(GOOD, **values)


def test_a_packed_row_comes_back_as_columns() -> None:
    codec = RowCodec(Row)

    batch = codec.batch([codec.pack(GOOD), codec.pack(changed(income=2.0)) * 2])

    assert batch.rows == 3
    assert batch["amount"].tolist() == [1.5] * 3
    assert batch["count"].tolist() == [-3] * 3
    assert batch["flag"].dtype == np.bool_
    assert batch["income"].tolist()[1:] == [2.0, 2.0]
    assert math.isnan(batch["income"][0])
    assert batch["plan"].tolist() == [b"long"] * 3
    assert batch["color"].tolist() == [b"green"] * 3
    assert batch["inner.depth"].tolist() == [0.25] * 3
    assert batch["window"].tolist() == [[1.0, 2.0]] * 3
    assert batch["grid"].tolist() == [[[1, 2], [3, 4]]] * 3


def test_equal_floats_are_one_matrix_without_a_copy() -> None:
    codec = RowCodec(msgspec.defstruct("Four", [(f"f{i}", float) for i in range(4)]))
    payload = codec.pack(codec.row_type(1.0, 2.0, 3.0, 4.0)) * 3

    batch = codec.batch([payload])
    matrix = batch.matrix(np.dtype("<f4"))

    assert matrix.tolist() == [[1.0, 2.0, 3.0, 4.0]] * 3
    assert np.shares_memory(matrix, np.frombuffer(payload, dtype=np.uint8))


@pytest.mark.parametrize(
    ("values", "path", "got", "expected"),
    [
        ({"count": 2**70}, "$.count", str(2**70), "an integer of 64 bits"),
        ({"count": -(2**63) - 1}, "$.count", str(-(2**63) - 1), "an integer of 64 bits"),
        ({"count": 10**400}, "$.count", "an integer of 1329 bits", "an integer of 64 bits"),
        ({"count": 1.0}, "$.count", "1.0", "an integer of 64 bits"),
        ({"count": None}, "$.count", "None", "an integer of 64 bits"),
        ({"amount": math.nan}, "$.amount", "nan", "a finite number"),
        ({"amount": math.inf}, "$.amount", "inf", "a finite number"),
        ({"amount": -math.inf}, "$.amount", "-inf", "a finite number"),
        ({"amount": 1e39}, "$.amount", "1e+39", "a number that FP32 can hold"),
        ({"amount": 3.4028236e38}, "$.amount", "3.4028236e+38", "a number that FP32 can hold"),
        ({"amount": 10**400}, "$.amount", "an integer of 1329 bits", "a number that FP32 can hold"),
        ({"amount": "1"}, "$.amount", "'1'", "a number"),
        ({"amount": None}, "$.amount", "None", "a number"),
        ({"income": math.nan}, "$.income", "nan", "a finite number"),
        ({"income": math.inf}, "$.income", "inf", "a finite number"),
        ({"plan": "other"}, "$.plan", "'other'", "one of 'a', 'long'"),
        ({"plan": ["a"]}, "$.plan", "['a']", "one of 'a', 'long'"),
        ({"color": "red"}, "$.color", "'red'", "one of 'red', 'green'"),
        ({"inner": None}, "$.inner.depth", "nothing", "a number"),
        ({"inner": Inner(math.inf)}, "$.inner.depth", "inf", "a finite number"),
        ({"window": [1.0]}, "$.window", "[1.0]", "a list of 2"),
        ({"window": [1.0, 2.0, 3.0]}, "$.window", "[1.0, 2.0, 3.0]", "a list of 2"),
        ({"window": [1.0, math.nan]}, "$.window[1]", "nan", "a finite number"),
        ({"grid": ((1, 2, 3), (4,))}, "$.grid[0]", "(1, 2, 3)", "a list of 2"),
        ({"grid": ((1, 2), (3, 2**63))}, "$.grid[1][1]", str(2**63), "an integer of 64 bits"),
    ],
)
def test_a_value_that_does_not_fit_is_named(values: dict[str, Any], path: str, got: str, expected: str) -> None:
    with pytest.raises(RowError) as caught:
        RowCodec(Row).pack(changed(**values))

    assert caught.value.path == path
    assert caught.value.got == got
    assert caught.value.expected.startswith(expected)
    assert caught.value.message.startswith(f"`{path}` got {got}, expected {expected}")


def test_large_finite_floats_whose_sum_overflows_are_packed() -> None:
    codec = RowCodec(msgspec.defstruct("Two", [("a", float), ("b", float)]), floats="FP64")

    batch = codec.batch([codec.pack(codec.row_type(1.7e308, 1.7e308))])

    assert batch["a"].tolist() == batch["b"].tolist() == [1.7e308]


def test_the_largest_float_that_rounds_into_fp32_is_packed() -> None:
    codec = RowCodec(Inner)

    assert codec.pack(Inner(3.4028235e38)) == struct.pack("<f", 3.4028235e38)


def test_one_bad_row_leaves_the_payloads_of_the_others_alone() -> None:
    codec, payloads, errors = RowCodec(Row), [], []

    for row in (GOOD, changed(count=2**70), GOOD):
        try:
            payloads.append(codec.pack(row))
        except RowError as error:
            errors.append(error)

    assert len(errors) == 1
    assert codec.batch(payloads).rows == 2


def test_free_length_rows_delimit_themselves() -> None:
    codec = RowCodec(Word)
    rows = [Word("", b"", 0), Word("größe 🚢", b"\x00\xff\x00", 1), Word("x" * 300, b"y" * 70_000, 2)]

    batch = codec.batch([codec.pack(rows[0]) + codec.pack(rows[1]), codec.pack(rows[2])])

    assert batch["text"].tolist() == [row.text for row in rows]
    assert batch["text"].dtype == np.dtypes.StringDType()
    assert batch["data"].tolist() == [row.data for row in rows]
    assert batch["size"].tolist() == [0, 1, 2]


def test_a_payload_cut_inside_a_row_is_our_bug_not_an_answer() -> None:
    codec = RowCodec(Word)

    with pytest.raises(RuntimeError, match="bug in slipway"):
        codec.batch([codec.pack(Word("hello", b"", 1))[:-1]])


@pytest.mark.parametrize(
    ("text", "data", "path"), [("\ud800", b"", "$.text"), (b"x", b"", "$.text"), ("x", "y", "$.data")]
)
def test_text_is_utf8_and_bytes_are_bytes(text: Any, data: Any, path: str) -> None:
    with pytest.raises(RowError) as caught:
        RowCodec(Word).pack(Word(text, data, 1))

    assert caught.value.path == path


@pytest.mark.parametrize("row_type", [Picture, Tagged])
def test_slices_of_arrays_are_packed_in_c_order(row_type: Any) -> None:
    dtype, shape = (np.float32, (2, 3)) if row_type is Picture else (np.uint8, (2, 2))
    whole: Any = np.arange(100).reshape(10, 10).astype(dtype)
    part = whole[6:2:-2, : 2 * shape[1] : 2]
    codec = RowCodec(row_type)

    batch = codec.batch([codec.pack(row_type(part) if row_type is Picture else row_type(0.5, part))])

    assert not part.flags.c_contiguous
    assert batch["pixels"].tolist() == [part.tolist()]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 2), np.float32), "shape [3, 2] of float32, expected a FP32 array of shape [2, 3]"),
        (np.zeros(6, np.float32), "shape [6] of float32"),
        (np.zeros((2, 3), np.float64), "shape [2, 3] of float64"),
        ([[0.0] * 3] * 2, "got [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], expected a FP32 array"),
        (np.array([[0, 0, 0], [0, np.nan, 0]], np.float32), "`$.pixels[1][1]` got nan, expected a finite number"),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused(array: Any, said: str) -> None:
    with pytest.raises(RowError) as caught:
        RowCodec(Picture).pack(Picture(array))

    assert said in caught.value.message


def test_big_endian_arrays_are_packed_by_value() -> None:
    codec = RowCodec(Picture)
    array = np.arange(6, dtype=">f4").reshape(2, 3)

    assert codec.batch([codec.pack(Picture(array.astype("<f4")))])["pixels"].tolist() == [array.tolist()]


class Bounded(Struct, frozen=True):
    age: Annotated[int, Meta(ge=0, le=150)]
    name: Annotated[str, Meta(max_length=3)]
    active: bool
    inner: Inner


class Photo(Struct, eq=False):
    size: Annotated[float, Meta(ge=0)]
    pixels: Annotated[F32, Shape(2)]


@pytest.mark.parametrize(
    ("row", "path"),
    [
        (Bounded(151, "abc", True, Inner(1.0)), "$.age"),
        (Bounded(True, "abc", True, Inner(1.0)), "$.age"),
        (Bounded(1, "abcd", True, Inner(1.0)), "$.name"),
        (Bounded(1, "abc", 1, Inner(1.0)), "$.active"),  # type: ignore[arg-type]
        (Bounded(1, "abc", True, Inner(math.nan)), "$.inner.depth"),
        (Inner(1.0), "$"),
    ],
)
def test_a_constructed_row_is_validated_by_check(row: Any, path: str) -> None:
    with pytest.raises(RowError) as caught:
        RowCodec(Bounded).check(row)

    assert caught.value.path == path


def test_check_accepts_what_decoding_accepts() -> None:
    accepted = [Bounded(150, "abc", False, Inner(1.0)), GOOD, Photo(1.0, np.zeros(2, np.float32))]

    for row in accepted:
        RowCodec(type(row)).check(row)

        assert RowCodec(type(row)).pack(row)


def test_check_validates_the_fields_beside_an_array() -> None:
    with pytest.raises(RowError) as caught:
        RowCodec(Photo).check(Photo(-1.0, np.zeros(2, np.float32)))

    assert (caught.value.path, caught.value.got) == ("$.size", "-1.0")
