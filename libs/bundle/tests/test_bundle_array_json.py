"""Arrays in JSON: a number never changes its kind, and what a dtype cannot hold is an error and never a crash."""

from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from msgspec import Struct

from slipway_bundle import F32, U8, RowCodec, RowError, Shape
from slipway_bundle.array_json import decode_array
from slipway_bundle.shapes import SchemaError


class Floats(Struct, eq=False):
    x: Annotated[F32, Shape(2)]


class Bytes(Struct, eq=False):
    x: Annotated[U8, Shape(2)]


class Endless(Struct, eq=False):
    again: "Endless"


def decoded(kind: type[Any], value: str) -> Any:
    return msgspec.json.decode(f'{{"x": {value}}}', type=kind, dec_hook=decode_array).x


def test_the_dtype_is_the_annotation_s() -> None:
    assert decoded(Floats, "[1, 2.5]").dtype == np.float32
    assert decoded(Bytes, "[0, 255]").tolist() == [0, 255]


@pytest.mark.parametrize("value", ['["1", "2"]', "[true, false]", "[null, 1]", "[[1], [1, 2]]", "[1e3, {}]", '"a"'])
def test_what_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected .* - at `\$\.x`"):
        decoded(Floats, value)


@pytest.mark.parametrize("value", ["[1.5, 2]", "[-1, 1]", "[300, 1]", "[1180591620717411303424, 1]"])
def test_what_an_integer_dtype_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected .*integers"):
        decoded(Bytes, value)


def test_a_float_too_large_for_the_dtype_is_refused_by_the_codec() -> None:
    row = msgspec.json.decode(b'{"x": [1e300, 1]}', type=Floats, dec_hook=decode_array)

    with pytest.raises(RowError, match=r"\$\.x\[0\]"):
        RowCodec(Floats).pack(row)


def test_a_row_that_contains_itself_is_refused() -> None:
    with pytest.raises(SchemaError, match="nests more than"):
        RowCodec(Endless)
