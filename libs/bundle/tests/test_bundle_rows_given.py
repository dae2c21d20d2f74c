"""The rows in a request's tensors, as a client wrote them: for who stores rows, not for who computes with them."""

from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from slipway_bundle import F32, RowCodec, RowError, Shape


class Line(Struct, eq=False):
    """A row whose picture chooses a bucket."""

    pixels: Annotated[F32, Shape(2, (4, 8))]
    word: str
    kind: Literal["a", "b"]
    income: float | None
    steps: Annotated[list[int], Meta(min_length=2, max_length=2)]

    def __post_init__(self) -> None:
        if self.word == "no":
            raise ValueError("not that word")


def given(*words: str) -> dict[str, Any]:
    rows = len(words)
    return {
        "pixels": np.ones((rows, 2, 3), np.float32),
        "word": np.array(words, dtype=object),
        "kind": np.array([b"a"] * rows, dtype=object),
        "income": np.array([np.nan] * rows, np.float64),
        "steps": np.array([[1, 2]] * rows, np.int64),
    }


def test_given_rows_are_as_they_came_and_packed_ones_as_they_are_computed() -> None:
    codec = RowCodec(Line)
    key, payload = codec.pack_arrays_keyed(given("héllo"))

    (row,) = codec.given_rows(given("héllo"))
    packed = codec.batch([payload], key)

    assert isinstance(row, Line)
    assert row.pixels.shape == (2, 3)
    assert packed["pixels"].shape == (1, 2, 4)
    assert (row.word, row.kind, row.income, row.steps) == ("héllo", "a", None, [1, 2])
    assert codec.pack_keyed(row) == (key, payload)


def test_a_row_that_its_own_struct_refuses_is_an_error_in_its_place() -> None:
    first, refused, last = RowCodec(Line).given_rows(given("one", "no", "two"))

    assert isinstance(refused, RowError)
    assert isinstance(first, Line)
    assert isinstance(last, Line)
