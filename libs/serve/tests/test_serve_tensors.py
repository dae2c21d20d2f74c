"""Tensors in both forms: what is read equals what was written, and nothing is allocated on a client's word."""

import math
import tracemalloc
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipway_bundle import TensorSpec
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.schema import Datatype
from slipway_serve.problems import Problem
from slipway_serve.protocol import InferRequest
from slipway_serve.tensors import TensorReader, Wanted, given_tensors, write_outputs

NUMBERS = [datatype for datatype in DTYPES if datatype != "BOOL"]


def read_back(spec: TensorSpec, array: NDArray[Any], *, is_binary: bool) -> NDArray[Any]:
    """The array after writing it as an output and reading it as an input."""
    written, binary = write_outputs({spec.name: array}, [Wanted(spec, is_binary)])
    request = msgspec.json.decode(msgspec.json.encode({"inputs": written}), type=InferRequest)
    arrays, rows = TensorReader([spec], 1000).read(given_tensors(request.inputs, memoryview(b"".join(binary))))
    assert rows == len(array)
    return arrays[spec.name]


@given(
    datatype=st.sampled_from(NUMBERS),
    shape=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    rows=st.integers(1, 4),
    is_binary=st.booleans(),
    data=st.data(),
)
def test_numbers_of_every_datatype_survive_both_forms(
    datatype: Datatype, shape: tuple[int, ...], rows: int, is_binary: bool, data: st.DataObject
) -> None:
    spec = TensorSpec(name="x", datatype=datatype, shape=shape)
    dtype = np.dtype(DTYPES[datatype])
    size = rows * math.prod(shape)
    if dtype.kind == "f":
        numbers = st.floats(width=cast("Any", dtype.itemsize * 8), allow_nan=False, allow_infinity=False)
        values: list[Any] = data.draw(st.lists(numbers, min_size=size, max_size=size))
    else:
        held = np.iinfo(dtype)
        values = data.draw(st.lists(st.integers(int(held.min), int(held.max)), min_size=size, max_size=size))
    array = np.array(values, dtype=dtype).reshape(rows, *shape)

    back = read_back(spec, array, is_binary=is_binary)

    assert back.shape == array.shape
    assert back.astype(dtype).tobytes() == array.tobytes()


@given(words=st.lists(st.text(), min_size=1, max_size=6), is_binary=st.booleans())
def test_text_survives_both_forms(words: list[str], is_binary: bool) -> None:
    spec = TensorSpec(name="x", datatype="BYTES", text=True)

    back = read_back(spec, np.array(words, dtype=np.object_), is_binary=is_binary)

    assert back.tolist() == words


@given(words=st.lists(st.binary(), min_size=1, max_size=6))
def test_bytes_survive_the_binary_form(words: list[bytes]) -> None:
    spec = TensorSpec(name="x", datatype="BYTES")
    array = np.empty(len(words), dtype=np.object_)
    array[:] = words

    assert read_back(spec, array, is_binary=True).tolist() == words


def test_null_is_nan_in_a_nullable_tensor_and_refused_elsewhere() -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [null, 1]}]}'
    request = msgspec.json.decode(body, type=InferRequest)
    spec = TensorSpec(name="x", datatype="FP32", nullable=True)

    arrays, _ = TensorReader([spec], 10).read(given_tensors(request.inputs, memoryview(b"")))

    assert np.isnan(arrays["x"]).tolist() == [True, False]
    with pytest.raises(Problem, match=r"Expected `float`, got `null` at `\$\.inputs\[0\]\.data\[0\]`"):
        TensorReader([TensorSpec(name="x", datatype="FP32")], 10).read(given_tensors(request.inputs, memoryview(b"")))


def test_a_claimed_size_costs_no_memory() -> None:
    spec = TensorSpec(name="x", datatype="FP64", shape=(-1, -1))
    claim = {"name": "x", "datatype": "FP64", "shape": [1000, 2**31, 2**31], "data": [1.0]}
    request = msgspec.json.decode(msgspec.json.encode({"inputs": [claim]}), type=InferRequest)

    tracemalloc.start()
    with pytest.raises(Problem):
        TensorReader([spec], 1000).read(given_tensors(request.inputs, memoryview(b"")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_000_000


def test_binary_numbers_are_read_without_a_copy() -> None:
    body = np.arange(6, dtype="<f4").tobytes()
    claim = {"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}
    request = msgspec.json.decode(msgspec.json.encode({"inputs": [claim]}), type=InferRequest)
    reader = TensorReader([TensorSpec(name="x", datatype="FP32", shape=(3,))], 10)

    arrays, _ = reader.read(given_tensors(request.inputs, memoryview(body)))

    assert np.shares_memory(arrays["x"], np.frombuffer(body, dtype=np.uint8))
