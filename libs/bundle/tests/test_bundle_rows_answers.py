"""A model's arrays become rows of plain Python values; a bad value fails its own row."""

import enum
import math
import pickle
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from msgspec import Meta, Struct

from slipway_bundle.rows import OutputError, RowCodec, RowError
from slipway_bundle.shapes import F32, Shape


class Verdict(enum.Enum):
    STAY = "stay"
    LEAVE = "leave"


class Risk(Struct, frozen=True):
    probability: Annotated[float, Meta(ge=0, le=1)]


class Detail(Struct, frozen=True):
    score: float
    label: int


class Answer(Struct, frozen=True, kw_only=True, rename="camel"):
    is_sure: bool
    mean_value: float | None
    word: Literal["x", "y"]
    verdict: Verdict
    detail: Detail
    note: str
    blob: bytes
    pair: tuple[float, float]
    grid: Annotated[list[tuple[int, int]], Meta(min_length=2, max_length=2)]


class Boxes(Struct, eq=False):
    boxes: Annotated[F32, Shape(2, 4)]


class Strict(Struct, frozen=True):
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


def arrays(**changes: Any) -> dict[str, Any]:
    return {
        "isSure": np.array([True, False]),
        "meanValue": np.array([1.5, np.nan], dtype=np.float32),
        "word": np.array(["x", "y"]),
        "verdict": np.array([b"leave", b"stay"]),
        "detail.score": np.array([1, 2], dtype=np.int32),
        "detail.label": np.array([[3], [4]], dtype=np.uint8),
        "note": np.array(["ä", ""], dtype=np.dtypes.StringDType()),
        "blob": np.array([b"\x00", b""], dtype=object),
        "pair": np.array([[0.5, 1.0], [1.5, 2.0]]),
        "grid": np.arange(8).reshape(2, 2, 2),
        **changes,
    }


def test_every_kind_of_column_becomes_plain_values() -> None:
    rows = RowCodec(Answer).rows(arrays())

    assert rows == [
        Answer(is_sure=True, mean_value=1.5, word="x", verdict=Verdict.LEAVE, detail=Detail(1.0, 3), note="ä",
               blob=b"\x00", pair=(0.5, 1.0), grid=[(0, 1), (2, 3)]),
        Answer(is_sure=False, mean_value=None, word="y", verdict=Verdict.STAY, detail=Detail(2.0, 4), note="",
               blob=b"", pair=(1.5, 2.0), grid=[(4, 5), (6, 7)]),
    ]  # fmt: skip


def test_no_numpy_scalar_is_in_an_answer() -> None:
    """They do not encode; `msgspec` fails on `numpy.float32` and `numpy.str_` is no `str` to it."""
    rows: Any = RowCodec(Answer).rows(arrays())

    for row in rows:
        values = [row.is_sure, row.mean_value, row.word, row.detail.score, row.detail.label, row.note, row.blob,
                  *row.pair, *(number for cell in row.grid for number in cell)]  # fmt: skip
        assert {type(value) for value in values} <= {bool, float, int, str, bytes, type(None)}
        assert type(row.detail.score) is float
    assert msgspec.json.decode(msgspec.json.encode(rows), type=list[Answer]) == rows


@pytest.mark.parametrize(
    ("bad", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (1.5, "1.5"), (-0.25, "-0.25")]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_value_outside_the_schema_fails_its_own_row(bad: float, shown: str, dtype: Any) -> None:
    rows = RowCodec(Risk).rows({"probability": np.array([0.0, bad, 1.0], dtype=dtype)})

    assert rows[0] == Risk(0.0)
    assert rows[2] == Risk(1.0)
    assert isinstance(rows[1], RowError)
    assert rows[1].path == "$.probability"
    assert rows[1].message == (
        f"`$.probability` got {shown}, expected a finite number and >= 0 and <= 1 in the model's answer"
    )


def test_a_missing_answer_is_null_only_where_the_schema_says_so() -> None:
    class Maybe(Struct):
        value: Annotated[float, Meta(ge=0)] | None

    rows = RowCodec(Maybe).rows({"value": np.array([np.nan, -1.0, 2.0])})

    assert isinstance(rows[0], Maybe)
    assert rows[0].value is None
    assert isinstance(rows[1], RowError)
    assert isinstance(rows[2], Maybe)


@pytest.mark.parametrize(
    ("changes", "bad_row"),
    [
        ({"word": np.array(["x", "z"])}, 1),
        ({"verdict": np.array([b"gone", b"stay"])}, 0),
        ({"note": np.array([b"\xff", b"a"])}, 0),
        ({"detail.label": np.array([2**63, 1], dtype=np.uint64)}, 0),
        ({"pair": np.array([[0, 0], [0, np.nan]])}, 1),
    ],
)
def test_words_labels_and_vectors_fail_alone_too(changes: dict[str, Any], bad_row: int) -> None:
    rows = RowCodec(Answer).rows(arrays(**changes))

    assert isinstance(rows[bad_row], RowError)
    assert isinstance(rows[1 - bad_row], Answer)


def test_a_struct_that_refuses_itself_fails_its_own_row() -> None:
    rows = RowCodec(Strict).rows({"low": np.array([0.0, 2.0]), "high": np.array([1.0, 1.0])})

    assert rows[0] == Strict(0.0, 1.0)
    assert isinstance(rows[1], RowError)
    assert "low is above high" in rows[1].message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "the model's answer has no `probability`: got nothing"),
        ({"probabilty": np.zeros(2)}, "got 'probabilty'"),
        ({"probability": np.zeros((2, 2))}, "is float64 of shape [2, 2], expected FP32 of shape ['n']"),
        ({"probability": np.array(0.5)}, "of shape []"),
        ({"probability": np.array([True])}, "is bool"),
        ({"probability": np.array(["a"])}, "is <U1"),
    ],
)
def test_what_no_row_can_be_is_one_error(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OutputError) as caught:
        RowCodec(Risk).rows(given)

    assert said in caught.value.message


def test_columns_of_different_lengths_are_one_error() -> None:
    with pytest.raises(OutputError, match="`high` has 1 rows, expected 2"):
        RowCodec(Strict).rows({"low": np.zeros(2), "high": np.ones(1)})


@pytest.mark.parametrize("label", [np.array([1.0, 2.0]), np.array([True, False])])
def test_a_float_is_no_label(label: Any) -> None:
    with pytest.raises(OutputError, match=r"`detail.label`"):
        RowCodec(Answer).rows(arrays(**{"detail.label": label}))


def test_arrays_stay_arrays_in_the_declared_dtype() -> None:
    rows: Any = RowCodec(Boxes).rows({"boxes": np.arange(16, dtype=np.float64).reshape(2, 2, 4)})

    assert [row.boxes.dtype for row in rows] == [np.float32, np.float32]
    assert rows[1].boxes.tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]


def test_one_bad_element_of_an_array_is_named() -> None:
    boxes = np.zeros((2, 2, 4), dtype=np.float32)
    boxes[1, 0, 3] = np.nan

    rows: Any = RowCodec(Boxes).rows({"boxes": boxes})

    assert isinstance(rows[0], Boxes)
    assert rows[1].path == "$.boxes[0][3]"


def test_no_rows_are_no_rows() -> None:
    assert RowCodec(Risk).rows({"probability": np.empty(0, dtype=np.float32)}) == []


def test_a_row_error_survives_the_way_between_processes() -> None:
    error = RowCodec(Risk).rows({"probability": np.array([2.0])})[0]

    copy: Any = pickle.loads(pickle.dumps(error))

    assert (copy.path, copy.got, copy.message, copy.code) == ("$.probability", "2.0", str(error), "row_invalid")
