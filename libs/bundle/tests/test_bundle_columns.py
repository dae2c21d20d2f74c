"""A batch's columns as one buffer: what comes out equals what went in, and no buffer crashes the reader."""

import enum
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from msgspec import Struct
from numpy.typing import NDArray

from slipway_bundle.columns import ColumnsError, decode_columns, encode_columns
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.rows import OutputError, RowCodec, RowError

ONE = np.ones(3, np.bool_)
TEXT = np.dtypes.StringDType()
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def objects(values: list[Any]) -> NDArray[Any]:
    return np.fromiter(values, dtype=object, count=len(values))


@st.composite
def batches(draw: Any) -> dict[str, NDArray[Any]]:
    rows = draw(st.integers(1, 5))
    numbers = st.sampled_from(sorted(DTYPES.values())).flatmap(
        lambda code: arrays_of.arrays(np.dtype(code), st.tuples(st.just(rows), st.integers(0, 3), st.integers(1, 3)))
    )
    flat = st.sampled_from(sorted(DTYPES.values())).flatmap(lambda code: arrays_of.arrays(np.dtype(code), rows))
    text = st.lists(words, min_size=rows, max_size=rows).map(lambda found: np.array(found, dtype=TEXT))
    plain = st.lists(words, min_size=rows, max_size=rows).map(np.array)
    data = st.lists(st.binary(max_size=9), min_size=rows, max_size=rows).map(objects)
    columns = st.dictionaries(st.text(max_size=3), numbers | flat | text | plain | data, min_size=1, max_size=4)
    found: dict[str, NDArray[Any]] = draw(columns)
    return found


@given(batch=batches(), cut=st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_columns_come_back_as_they_were(batch: dict[str, NDArray[Any]], cut: tuple[int, int]) -> None:
    start, stop = min(cut), max(cut)

    found = decode_columns(encode_columns(batch, start, stop))

    assert list(found) == list(batch)
    for name, array in batch.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array[start:stop].shape
        equal_nan = array.dtype.kind == "f"
        assert np.array_equal(found[name], array[start:stop], equal_nan=equal_nan)


def test_numbers_are_read_only_views_of_the_buffer_and_aligned() -> None:
    batch = {"flag": np.array([True]), "logits": np.arange(6.0).reshape(1, 3, 2), "label": np.array([2])}
    data = encode_columns(batch, 0, 1)
    buffer = np.frombuffer(data, np.uint8)

    for source in (data, memoryview(bytearray(data))):
        found = decode_columns(source)

        assert not any(array.flags.writeable for array in found.values())
        assert found["logits"].tolist() == batch["logits"].tolist()
    found = decode_columns(data)
    assert all(np.shares_memory(array, buffer) for array in found.values())
    places = [array.__array_interface__["data"][0] - buffer.__array_interface__["data"][0] for array in found.values()]
    assert [place % 8 for place in places] == [0, 0, 0]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.asfortranarray(np.arange(24, dtype=np.int16).reshape(4, 3, 2)),
        np.arange(4, dtype=">i8"),
        np.arange(8, dtype=np.float32)[::2],
    ],
)
def test_any_layout_in_memory_is_understood(array: NDArray[Any]) -> None:
    found = decode_columns(encode_columns({"x": array}, 1, 3))["x"]

    assert found.tolist() == array[1:3].tolist()
    assert found.dtype.byteorder in "=|"


def test_rows_made_of_decoded_columns_are_the_same_rows() -> None:
    class Plan(enum.Enum):
        A = "a"
        LONG = "long"

    class Answer(Struct):
        text: str
        data: bytes
        plan: Plan
        chance: float

    codec = RowCodec(Answer, floats="FP64")
    batch = {
        "text": objects(["größe", ""]),
        "data": objects([b"a\0\0", b""]),
        "plan": np.array(["long", "a"]),
        "chance": np.array([0.5, 1.0]),
    }

    rows = codec.rows(decode_columns(encode_columns(batch, 0, 2)))

    assert rows == codec.rows(batch) == [Answer("größe", b"a\0\0", Plan.LONG, 0.5), Answer("", b"", Plan.A, 1.0)]


def test_one_bad_object_is_still_that_rows_error_alone() -> None:
    class Answer(Struct):
        text: str

    batch = {"text": objects(["fine", object(), 3, ["x"], None])}

    rows = RowCodec(Answer).rows(decode_columns(encode_columns(batch, 0, 5)))

    assert rows[0] == Answer("fine")
    assert all(isinstance(row, RowError) for row in rows[1:])


@pytest.mark.parametrize("bad", [np.array(1.0), np.array(["2020-01-01"], "M8[D]"), np.array([1j])])
def test_what_no_answer_can_hold_is_refused_by_name(bad: NDArray[Any]) -> None:
    with pytest.raises(OutputError, match="the model's `x` is"):
        encode_columns({"x": bad}, 0, 1)


@given(batch=batches(), data=st.data())
def test_a_truncated_buffer_is_one_clear_error(batch: dict[str, NDArray[Any]], data: st.DataObject) -> None:
    whole = encode_columns(batch, 0, 5)

    with pytest.raises(ColumnsError) as caught:
        decode_columns(whole[: data.draw(st.integers(0, len(whole) - 1))])

    assert caught.value.code == "columns_malformed"


def test_every_cut_and_every_byte_too_many_is_refused() -> None:
    whole = encode_columns({"score": np.ones(3, np.float32), "text": objects(["a", b"b", "c"]), "flag": ONE}, 0, 3)

    for size in range(len(whole)):
        with pytest.raises(ColumnsError):
            decode_columns(whole[:size])
    with pytest.raises(ColumnsError, match="expected"):
        decode_columns(whole + bytes(8))


def test_a_column_whose_size_is_not_its_shapes_is_refused() -> None:
    head = msgspec.msgpack.encode([("x", "<f4", (2,), 16)])

    with pytest.raises(ColumnsError, match="the column 'x' has 16 bytes, expected 8 for its shape"):
        decode_columns(len(head).to_bytes(4, "little") + head + bytes(-(4 + len(head)) % 8 + 16))


@given(batch=batches(), places=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_no_buffer_crashes_the_reader(batch: dict[str, NDArray[Any]], places: list[tuple[int, int]]) -> None:
    damaged = bytearray(encode_columns(batch, 0, 5))
    for place, value in places:
        damaged[place % len(damaged)] = value

    try:
        found = decode_columns(memoryview(damaged))
    except ColumnsError as error:
        assert error.message  # noqa: PT017  # some damage is only to values
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())


@given(data=st.binary(max_size=80))
def test_garbage_is_refused(data: bytes) -> None:
    if data != encode_columns({}, 0, 0):
        with pytest.raises(ColumnsError):
            decode_columns(data)


def test_nesting_without_end_is_refused() -> None:
    nested = b"\x91" * 200_000
    head = msgspec.msgpack.encode([("x", "objects", (1,), len(nested))])
    start = len(head).to_bytes(4, "little") + head + bytes(-(4 + len(head)) % 8)

    with pytest.raises(ColumnsError):
        decode_columns(start + nested)


def test_a_shape_that_no_memory_holds_is_refused() -> None:
    for code, shape in (("<f4", (2**62, 4)), ("<f4", (-1,)), ("|S9", (2**40,)), ("|O", (1,)), ("<f4", (0,) * 80)):
        head = msgspec.msgpack.encode([("x", code, shape, 0)])
        with pytest.raises(ColumnsError):
            decode_columns(len(head).to_bytes(4, "little") + head + bytes(-(4 + len(head)) % 8))
