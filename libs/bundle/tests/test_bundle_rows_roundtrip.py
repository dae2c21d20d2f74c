"""Rows that decode survive the whole way: pack, batch, answer."""

import enum
import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from slipway_bundle.rows import RowCodec, RowError

F32_MAX = float(np.finfo(np.float32).max)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large é"


class Inner(Struct, frozen=True):
    depth: float
    flag: bool


class Fixed(Struct, frozen=True, kw_only=True):
    amount: float
    count: int
    income: float | None
    plan: Literal["a", "", "longer"]
    size: Size
    inner: Inner
    window: Annotated[list[float], Meta(min_length=3, max_length=3)]
    grid: tuple[tuple[int, int], tuple[int, int]]


class Loose(Struct, frozen=True, kw_only=True):
    text: str
    count: int
    data: bytes
    note: str


floats = st.floats(min_value=-F32_MAX, max_value=F32_MAX, allow_nan=False, width=32)
integers = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
fixed_rows = st.builds(
    Fixed,
    amount=floats,
    count=integers,
    income=st.none() | floats,
    plan=st.sampled_from(["a", "", "longer"]),
    size=st.sampled_from(Size),
    inner=st.builds(Inner, depth=floats, flag=st.booleans()),
    window=st.lists(floats, min_size=3, max_size=3),
    grid=st.tuples(st.tuples(integers, integers), st.tuples(integers, integers)),
)
loose_rows = st.builds(Loose, text=text, count=integers, data=st.binary(max_size=20), note=text)


def joined(codec: RowCodec[Any], rows: list[Any], cut: int) -> list[bytes]:
    """Payloads of one row each, the first `cut` rows in one payload."""
    packed = [codec.pack(row) for row in rows]
    return [b"".join(packed[:cut]), *packed[cut:]]


@given(rows=st.lists(fixed_rows, min_size=1, max_size=6), cut=st.integers(0, 6))
def test_fixed_rows_survive_packing_batching_and_answering(rows: list[Fixed], cut: int) -> None:
    codec = RowCodec(Fixed)

    assert codec.rows(codec.batch(joined(codec, rows, cut))) == rows


@given(rows=st.lists(loose_rows, min_size=1, max_size=6), cut=st.integers(0, 6))
def test_free_length_rows_survive_packing_batching_and_answering(rows: list[Loose], cut: int) -> None:
    codec = RowCodec(Loose)

    assert codec.rows(codec.batch(joined(codec, rows, cut))) == rows


@given(rows=st.lists(fixed_rows | loose_rows, min_size=1, max_size=6))
def test_columns_of_a_batch_pack_to_the_same_bytes(rows: list[Any]) -> None:
    for kind in (Fixed, Loose):
        codec: RowCodec[Any] = RowCodec(kind)
        payload = b"".join(codec.pack(row) for row in rows if isinstance(row, kind))

        assert codec.pack_arrays(codec.batch([payload])) == payload


@given(value=st.floats() | st.integers(-(10**400), 10**400))
def test_a_number_packs_or_is_that_rows_error(value: float) -> None:
    codec = RowCodec(Inner)

    fits = math.isfinite(value) and abs(value) <= F32_MAX if isinstance(value, float) else abs(value) <= int(F32_MAX)

    if fits:
        assert np.isfinite(codec.batch([codec.pack(Inner(value, flag=True))])["depth"]).all()
    elif not F32_MAX < abs(value) < 3.40282357e38:  # what rounds down to the largest FP32 may pack
        with pytest.raises(RowError, match=r"`\$.depth` got"):
            codec.pack(Inner(value, flag=True))


@given(data=st.binary(max_size=200))
def test_what_msgspec_decodes_is_what_packs(data: bytes) -> None:
    """No decoded row makes packing fail with anything but a RowError."""
    try:
        row = msgspec.json.decode(data, type=Inner)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return

    assert RowCodec(Inner).pack(row)
