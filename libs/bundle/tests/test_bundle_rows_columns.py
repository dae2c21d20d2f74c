"""Columns that the protocol brings: the same checks as decoding, naming the tensor and the row."""

import math
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from msgspec import Meta, Struct

from slipway_bundle.rows import RowCodec, RowError
from slipway_bundle.shapes import U8, Shape


class Row(Struct, frozen=True):
    amount: Annotated[float, Meta(ge=0, le=0.1)]
    count: Annotated[int, Meta(gt=0, lt=10)]
    even: Annotated[int, Meta(multiple_of=2)]
    flag: bool
    income: float | None
    plan: Literal["a", "long"]
    window: Annotated[list[float], Meta(min_length=2, max_length=2)]


class Word(Struct, frozen=True):
    text: Annotated[str, Meta(min_length=1, max_length=5, pattern="o")]
    data: Annotated[bytes, Meta(max_length=3)]
    size: int


class Tile(Struct, eq=False):
    pixels: Annotated[U8, Shape(2, 2)]


def columns(**changes: Any) -> dict[str, Any]:
    good = {
        "amount": np.array([0.0, 0.1, 0.05]),
        "count": np.array([1, 2, 9], dtype=np.int32),
        "even": np.array([0, -2, 4]),
        "flag": np.array([True, False, True]),
        "income": np.array([1.0, np.nan, 3.0], dtype=np.float32),
        "plan": np.array(["a", "long", "a"]),
        "window": np.array([[1, 2], [3, 4], [5, 6]]),
    }
    return {name: array for name, array in (good | changes).items() if array is not None}


def test_columns_become_the_payload_that_rows_would() -> None:
    codec = RowCodec(Row)
    rows = [Row(0.0, 1, 0, True, 1.0, "a", [1.0, 2.0]), Row(0.1, 2, -2, False, None, "long", [3.0, 4.0]),
            Row(0.05, 9, 4, True, 3.0, "a", [5.0, 6.0])]  # fmt: skip

    payload = codec.pack_arrays(columns())

    assert payload == b"".join(map(codec.pack, rows))


@pytest.mark.parametrize("kind", ["U", "S", "T", "O"])
def test_words_may_come_in_any_of_numpys_string_types(kind: str) -> None:
    words: Any = np.array(["a", "long", "a"])
    words = {"U": words, "S": words.astype("S"), "T": words.astype(np.dtypes.StringDType()),
             "O": np.array([b"a", "long", b"a"], dtype=object)}[kind]  # fmt: skip
    codec = RowCodec(Row)

    assert codec.pack_arrays(columns(plan=words)) == codec.pack_arrays(columns())


def test_a_column_of_scalars_may_be_n_by_one() -> None:
    codec = RowCodec(Row)

    assert codec.pack_arrays(columns(count=np.array([[1], [2], [9]]))) == codec.pack_arrays(columns())


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        (
            {"amount": np.array([0.0, 0.05, 0.2])},
            "$.amount[2]",
            "got 0.2, expected a finite number and >= 0 and <= 0.1",
        ),
        ({"amount": np.array([0.0, np.nan, 0.0])}, "$.amount[1]", "got nan, expected a finite number"),
        ({"amount": np.array([np.inf, 0.0, 0.0])}, "$.amount[0]", "got inf"),
        ({"income": np.array([1.0, np.inf, 0.0])}, "$.income[1]", "got inf"),
        ({"income": np.array([1.0, 1e39, np.nan])}, "$.income[1]", "got 1e+39"),
        ({"count": np.array([1, 0, 1])}, "$.count[1]", "got 0, expected an integer and > 0 and < 10"),
        ({"count": np.array([1, 1, 10])}, "$.count[2]", "got 10"),
        (
            {"count": np.array([1, 2**63, 2**64 - 1], dtype=np.uint64)},
            "$.count[1]",
            f"got {2**63}, expected a number that INT64",
        ),
        ({"count": np.array([1.0, 2.0, 3.0])}, "$.count", "got float64 of shape [3], expected INT64"),
        ({"count": np.array([True, True, True])}, "$.count", "got bool of shape [3]"),
        ({"even": np.array([0, 3, 2])}, "$.even[1]", "got 3, expected an integer and a multiple of 2"),
        ({"flag": np.array([1, 0, 1])}, "$.flag", "got int64 of shape [3], expected BOOL"),
        ({"amount": np.array(["0", "1", "2"])}, "$.amount", "expected FP32"),
        ({"plan": np.array(["a", "b", "a"])}, "$.plan[1]", "got 'b', expected one of 'a', 'long'"),
        ({"plan": np.array([b"a", b"\xff", b"a"])}, "$.plan[1]", "expected one of 'a', 'long'"),
        ({"plan": np.array([1, 2, 3])}, "$.plan", "expected BYTES"),
        ({"window": np.zeros((3, 3))}, "$.window", "of shape [3, 3], expected FP32 of shape ['n', 2]"),
        ({"window": np.array([[0, 0], [0, 0], [0, np.nan]])}, "$.window[2][1]", "got nan"),
        ({"flag": np.array([True])}, "$.flag", "got 1, expected 3 rows"),
        ({"amount": np.float64(1.0)}, "$.amount", "of shape []"),
        ({"income": None}, "$.income", "got nothing, expected a tensor of this name"),
        ({"incme": np.zeros(3)}, "$.incme", "did you mean `income`"),
    ],
)
def test_a_bad_tensor_is_named_with_its_row(changes: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(RowError) as caught:
        RowCodec(Row).pack_arrays(columns(**changes))

    assert caught.value.path == path
    assert said in caught.value.message


def test_bounds_are_compared_in_the_precision_of_the_tensor() -> None:
    """0.1 as FP32 is 0.10000000149, and still satisfies `Meta(le=0.1)`."""
    codec = RowCodec(Row)

    assert codec.pack_arrays(columns(amount=np.full(3, 0.1, dtype=np.float32)))
    with pytest.raises(RowError):
        RowCodec(Row, floats="FP64").pack_arrays(columns(amount=np.full(3, math.nextafter(0.1, 1))))


def test_free_length_columns_become_rows_that_delimit_themselves() -> None:
    codec = RowCodec(Word)
    arrays: dict[str, Any] = {
        "text": np.array(["o", "größo"]),
        "data": np.array([b"", b"\x01\x00\x02"], dtype=object),
        "size": np.array([1, 2]),
    }

    assert codec.pack_arrays(arrays) == codec.pack(Word("o", b"", 1)) + codec.pack(Word("größo", b"\x01\x00\x02", 2))


@pytest.mark.parametrize(
    ("text", "data", "path"),
    [
        ("", b"", "$.text[0]"),
        ("oooooo", b"", "$.text[0]"),
        ("x", b"", "$.text[0]"),
        ("o", b"1234", "$.data[0]"),
        ("o", "1", "$.data[0]"),
    ],
)
def test_lengths_and_patterns_hold_for_columns(text: str, data: Any, path: str) -> None:
    arrays: dict[str, Any] = {"text": np.array([text]), "data": np.array([data], dtype=object), "size": np.array([1])}

    with pytest.raises(RowError) as caught:
        RowCodec(Word).pack_arrays(arrays)

    assert caught.value.path == path


def test_small_integers_are_checked_before_they_are_narrowed() -> None:
    codec = RowCodec(Tile)
    pixels = np.array([[[0, 255], [1, 2]]])

    assert codec.batch([codec.pack_arrays({"pixels": pixels})])["pixels"].tolist() == pixels.tolist()
    with pytest.raises(RowError, match=r"`\$.pixels\[0\]\[0\]\[1\]` got 256, expected a number that UINT8 can hold"):
        codec.pack_arrays({"pixels": pixels + 1})


def test_no_rows_are_an_empty_payload() -> None:
    empty = {name: array[:0] for name, array in columns().items()}

    assert RowCodec(Row).pack_arrays(empty) == b""
