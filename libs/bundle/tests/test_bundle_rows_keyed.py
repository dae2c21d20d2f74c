"""Rows that choose sizes: buckets are padded by the row alone, free sizes are its own, and the key says both."""

import struct
from typing import Annotated, Any, Literal, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct
from numpy.typing import NDArray

from slipway_bundle.rows import OutputError, RowCodec, RowError
from slipway_bundle.shapes import F32, I64, U8, Shape

BUCKETS = (2, 4, 9)


class Crop(Struct, eq=False):
    pixels: Annotated[F32, Shape(2, BUCKETS)]


class Mixed(Struct, eq=False):
    score: float
    steps: Annotated[F32, Shape("steps", 2)]
    tag: str
    plan: Literal["a", "long"]
    mask: Annotated[U8, Shape(BUCKETS, "steps")]
    count: int
    data: bytes


class Free(Struct, eq=False):
    values: Annotated[I64, Shape("n")]


class Fixed(Struct, eq=False):
    pixels: Annotated[F32, Shape(64, 64)]


CROP, MIXED, FREE, FIXED = RowCodec(Crop), RowCodec(Mixed), RowCodec(Free), RowCodec(Fixed)
numbers = st.floats(-(2.0**99), 2.0**99, width=32)


def array(draw: Any, dtype: Any, *shape: int) -> NDArray[Any]:
    values = draw(st.binary(min_size=1, max_size=40))
    return np.resize(np.frombuffer(values, dtype=np.uint8), shape).astype(dtype)


@st.composite
def mixed_rows(draw: Any) -> Mixed:
    steps, width = draw(st.integers(1, 5)), draw(st.integers(1, BUCKETS[-1]))
    return Mixed(
        score=draw(numbers),
        steps=array(draw, np.float32, steps, 2),
        tag=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        plan=draw(st.sampled_from(["a", "long"])),
        mask=array(draw, np.uint8, width, steps),
        count=draw(st.integers(-(2**63), 2**63 - 1)),
        data=draw(st.binary(max_size=5)),
    )


def bucket(size: int) -> int:
    return min(step for step in BUCKETS if step >= size)


def padded(found: NDArray[Any], *shape: int) -> NDArray[Any]:
    whole = np.zeros(shape, dtype=found.dtype)
    whole[tuple(map(slice, found.shape))] = found
    return whole


@given(rows=st.lists(mixed_rows(), min_size=1, max_size=6), is_view=st.booleans())
def test_rows_of_one_key_batch_to_their_padded_arrays(rows: list[Mixed], is_view: bool) -> None:
    by_key: dict[bytes, list[tuple[Mixed, bytes]]] = {}
    for row in rows:
        key, payload = MIXED.pack_keyed(row)
        by_key.setdefault(key, []).append((row, bytes(payload)))

    for key, members in by_key.items():
        joined = b"".join(payload for _, payload in members)
        batch = MIXED.batch([memoryview(joined) if is_view else joined], key)

        assert batch.rows == len(members)
        steps, width = len(members[0][0].steps), bucket(len(members[0][0].mask))
        assert key == struct.pack("<3I", steps, width, steps)
        for index, (row, _) in enumerate(members):
            assert batch["mask"][index].tolist() == padded(row.mask, width, steps).tolist()
            assert batch["steps"][index].tolist() == row.steps.tolist()
            others = [batch[name][index] for name in ("score", "tag", "count", "data")]
            assert others == [row.score, row.tag, row.count, row.data]
            assert batch["plan"][index] == row.plan.encode()


@given(rows=st.lists(mixed_rows(), min_size=1, max_size=4))
def test_columns_pack_to_the_key_and_the_bytes_of_their_rows(rows: list[Mixed]) -> None:
    first = rows[0]
    alike = [msgspec.structs.replace(row, steps=first.steps, mask=first.mask) for row in rows]
    columns = {
        "score": np.array([row.score for row in alike], np.float32),
        "steps": np.stack([row.steps for row in alike]),
        "tag": np.array([row.tag for row in alike], dtype=np.dtypes.StringDType()),
        "plan": np.array([row.plan for row in alike]),
        "mask": np.stack([row.mask for row in alike]),
        "count": np.array([row.count for row in alike]),
        "data": np.array([*(row.data for row in alike), None], dtype=object)[:-1],
    }

    key, payload = MIXED.pack_arrays_keyed(columns)

    packed = [MIXED.pack_keyed(row) for row in alike]
    assert {found for found, _ in packed} == {key}
    assert payload == b"".join(part for _, part in packed)


@given(sizes=st.lists(st.integers(1, BUCKETS[-1]), min_size=1, max_size=5))
def test_the_row_alone_picks_its_bucket(sizes: list[int]) -> None:
    """A mate's size never changes what a row becomes, or the same row would have two answers."""
    alone = [CROP.pack_keyed(Crop(np.ones((2, size), np.float32))) for size in sizes]

    for (key, payload), size in zip(alone, sizes, strict=True):
        assert key == struct.pack("<I", bucket(size))
        pixels = CROP.batch([payload], key)["pixels"]
        assert pixels.tolist() == [padded(np.ones((2, size), np.float32), 2, bucket(size)).tolist()]


def test_rows_of_one_size_have_no_key_and_pack_as_before() -> None:
    codec = RowCodec(msgspec.defstruct("Plain", [("a", float), ("b", int)]))
    row = codec.row_type(1.5, 2)

    assert not codec.is_keyed
    assert codec.pack_keyed(row) == (b"", codec.pack(row))
    assert codec.pack_arrays_keyed({"a": np.ones(2), "b": np.arange(2)})[0] == b""
    assert CROP.is_keyed


def test_a_large_array_alone_in_its_row_is_not_copied() -> None:
    pixels = np.ones((64, 64), np.float32)

    _, payload = FIXED.pack_keyed(Fixed(pixels))
    column = FIXED.batch([payload])["pixels"]

    assert isinstance(payload, memoryview)
    assert payload.readonly
    assert np.shares_memory(column, pixels)
    assert not column.flags.writeable
    assert payload == FIXED.pack(Fixed(pixels))


def test_a_large_array_that_is_not_contiguous_is_copied_in_order() -> None:
    pixels = np.arange(64.0 * 64, dtype=np.float32).reshape(64, 64).T

    _, payload = FIXED.pack_keyed(Fixed(pixels))

    assert FIXED.batch([payload])["pixels"][0].tolist() == pixels.tolist()


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.float64, np.int8, np.int64, np.uint16])
def test_views_are_made_of_every_datatype(dtype: Any) -> None:
    hint: Any = Annotated[np.ndarray[tuple[Any, ...], np.dtype[dtype]], Shape("n", 1000)]
    codec: RowCodec[Any] = RowCodec(msgspec.defstruct("Big", [("x", hint)], eq=False))
    values = (np.arange(20_000) % 2).astype(dtype).reshape(20, 1000)

    key, payload = codec.pack_keyed(codec.row_type(values))

    assert isinstance(payload, memoryview)
    assert codec.batch([payload], key)["x"][0].tolist() == values.tolist()


def test_a_writable_payload_gives_read_only_columns() -> None:
    key, payload = CROP.pack_keyed(Crop(np.ones((2, 2), np.float32)))

    column = CROP.batch([memoryview(bytearray(payload))], key)["pixels"]

    assert not column.flags.writeable


@pytest.mark.parametrize(
    ("codec", "row", "said"),
    [
        (CROP, Crop(np.ones((2, 10), np.float32)), "`$.pixels` got size 10 on axis 1, expected at most 9, the largest"),
        (CROP, Crop(np.ones((2, 0), np.float32)), "`$.pixels` got size 0 on axis 1, expected at least 1"),
        (CROP, Crop(np.ones((3, 2), np.float32)), "`$.pixels` got shape [3, 2], expected a FP32 array of shape [2, '"),
        (CROP, Crop(np.ones(2, np.float32)), "`$.pixels` got shape [2], expected a FP32 array"),
        (CROP, Crop(cast("Any", np.ones((2, 2)))), "`$.pixels` got shape [2, 2] of float64, expected a FP32 array"),
        (CROP, Crop(np.array([[1, 2], [3, np.nan]], np.float32)), "`$.pixels[1][1]` got nan"),
        (CROP, Crop(cast("Any", [[1.0]])), "`$.pixels` got [[1.0]], expected a FP32 array"),
        (FREE, Free(np.broadcast_to(np.int64(1), 2**23 + 1)), "got 67108872 bytes, expected at most 67108864 bytes"),
    ],
)  # fmt: skip
def test_a_size_that_does_not_fit_is_that_rows_error(codec: RowCodec[Any], row: Any, said: str) -> None:
    with pytest.raises(RowError) as caught:
        codec.pack_keyed(row)

    assert said in caught.value.message
    assert caught.value.path.startswith("$.")
    assert caught.value.got
    assert caught.value.expected
    with pytest.raises(RowError):
        codec.check(row)


def test_padding_never_makes_a_row_that_memory_cannot_hold() -> None:
    class Wide(Struct, eq=False):
        x: Annotated[U8, Shape("n", (1, 2**20))]

    small = np.broadcast_to(np.uint8(1), (65, 2))

    with pytest.raises(RowError, match="got 68157440 bytes, expected at most 67108864 bytes a row"):
        RowCodec(Wide).pack_keyed(Wide(small))


def test_many_arrays_together_have_the_same_limit() -> None:
    class Two(Struct, eq=False):
        a: Annotated[U8, Shape("n")]
        b: Annotated[U8, Shape("m")]

    half = np.broadcast_to(np.uint8(1), 2**25 + 1)

    with pytest.raises(RowError, match="a row of 67108866 bytes, expected at most 67108864 bytes"):
        RowCodec(Two).pack_keyed(Two(half, half))


def test_dimensions_of_one_name_have_one_size() -> None:
    row = Mixed(1.0, np.ones((3, 2), np.float32), "", "a", np.ones((2, 4), np.uint8), 1, b"")

    with pytest.raises(RowError) as caught:
        MIXED.pack_keyed(row)

    assert caught.value.path == "$.mask"
    assert caught.value.message == "`$.mask` got size 4, expected 3, as axis 0 (`steps`) of `steps` with the same name"


def test_another_bad_value_of_a_keyed_row_is_named_too() -> None:
    arrays = np.ones((3, 2), np.float32), np.ones((2, 3), np.uint8)

    with pytest.raises(RowError, match=r"`\$.score` got inf"):
        MIXED.pack_keyed(Mixed(float("inf"), arrays[0], "", "a", arrays[1], 1, b""))
    with pytest.raises(RowError, match=r"`\$.count` got 1180591620717411303424"):
        MIXED.pack_keyed(Mixed(1.0, arrays[0], "", "a", arrays[1], 2**70, b""))


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.ones((3, 2, 10), np.float32), "got size 10 on axis 1, expected at most 9"),
        (np.ones((3, 4, 2), np.float32), "got shape [4, 2], expected a FP32 array"),
        (np.ones((3, 2), np.float32), "got float32 of shape [3, 2], expected FP32 of shape ['n', 2, '2|4|9']"),
    ],
)
def test_a_tensor_whose_size_does_not_fit_is_refused(pixels: NDArray[Any], said: str) -> None:
    with pytest.raises(RowError) as caught:
        CROP.pack_arrays_keyed({"pixels": pixels})

    assert said in caught.value.message
    assert caught.value.path == "$.pixels"


def test_a_forgotten_key_is_our_bug_and_not_the_clients() -> None:
    row = Crop(np.ones((2, 2), np.float32))

    with pytest.raises(RuntimeError, match="bug in slipway"):
        CROP.pack(row)
    with pytest.raises(RuntimeError, match="bug in slipway"):
        CROP.pack_arrays({"pixels": np.ones((1, 2, 2), np.float32)})
    with pytest.raises(RuntimeError, match="bug in slipway"):
        CROP.batch([CROP.pack_keyed(row)[1]])
    with pytest.raises(RuntimeError, match="bug in slipway"):
        FIXED.batch([b""], b"\0\0\0\0")


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_an_answer_has_whatever_free_size_the_model_gave(steps: int) -> None:
    class Glyphs(Struct, eq=False):
        logits: Annotated[F32, Shape("steps", 3)]

    rows: Any = RowCodec(Glyphs, floats="FP64").rows({"logits": np.full((2, steps, 3), 0.5)})

    assert [row.logits.shape for row in rows] == [(steps, 3)] * 2
    assert rows[0].logits.dtype == np.float32


def test_an_answer_meets_a_bucket_exactly_and_names_agree() -> None:
    answer: dict[str, NDArray[Any]] = {
        "score": np.ones(1), "steps": np.ones((1, 3, 2), np.float32), "tag": np.array(["a"]),
        "plan": np.array(["a"]), "mask": np.ones((1, 4, 3), np.uint8), "count": np.ones(1, np.int64),
        "data": np.array([b"x"], object),
    }  # fmt: skip

    assert not isinstance(MIXED.rows(answer)[0], RowError)
    with pytest.raises(OutputError, match=r"uint8 of shape \[1, 3, 3\], expected UINT8 of shape \['n', '2\|4\|9'"):
        MIXED.rows(answer | {"mask": np.ones((1, 3, 3), np.uint8)})
    with pytest.raises(OutputError, match=r"axis 1 \(`steps`\) of `mask` has the size 2, expected 3"):
        MIXED.rows(answer | {"mask": np.ones((1, 4, 2), np.uint8)})


def test_a_bad_value_beside_a_padded_tensor_is_named() -> None:
    class Bounded(Struct, eq=False):
        x: Annotated[F32, Shape((4,))]
        y: Annotated[int, Meta(ge=1)]

    codec = RowCodec(Bounded)

    with pytest.raises(RowError, match=r"`\$.y\[1\]` got 0"):
        codec.pack_arrays_keyed({"x": np.ones((2, 3), np.float32), "y": np.array([1, 0])})


def test_more_keys_than_are_remembered_still_batch() -> None:
    codec = RowCodec(Free)

    for size in range(1, 1100):
        key, payload = codec.pack_keyed(Free(np.arange(size)))

        assert codec.batch([payload], key)["values"].shape == (1, size)
