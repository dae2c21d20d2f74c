"""Named tensors: canonical when written, mapped when read, and every lie in a header refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from adapter_models import Sample, config
from hypothesis import given
from hypothesis import strategies as st

from slipway_bundle.adapters import safetensors as adapter
from slipway_bundle.rows import RowCodec
from slipway_bundle.weights import WeightsError, WeightsFile, WeightsFormatError

TENSORS: dict[str, Any] = {
    "bias": np.arange(3, dtype=np.float32),
    "flags": np.array([True, False, True]),
    "ids": np.arange(6, dtype=np.int64).reshape(2, 3),
    "half": np.ones((1, 2), dtype=np.float16),
    "scalar": np.array(1.5),
    "none": np.empty((0, 4), dtype=np.uint8),
}


def tensors(path: Path) -> dict[str, Any]:
    weights: Any = adapter.load(WeightsFile.whole(path), config("model", format="safetensors"), RowCodec(Sample).specs)
    return dict(weights.tensors)


def as_file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_tensors_come_back_and_the_formats_own_library_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    adapter.save(TENSORS, path, metadata={"b": "2", "a": "1"})

    theirs = safetensors.numpy.load_file(path)

    for found in (tensors(path), theirs):
        assert found.keys() == TENSORS.keys()
        for name, array in TENSORS.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert found[name].tolist() == array.tolist()


def test_files_of_the_formats_own_library_load(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(TENSORS, path, metadata={"x": "y", "z": "w"})

    assert {name: array.tolist() for name, array in tensors(path).items()} == {
        name: array.tolist() for name, array in TENSORS.items()
    }


def test_equal_tensors_give_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    adapter.save(TENSORS, tmp_path / "a", metadata={"b": "2", "a": "1"})
    adapter.save(dict(reversed(TENSORS.items())), tmp_path / "b", metadata={"a": "1", "b": "2"})

    first = (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == first
    assert int.from_bytes(first[:8], "little") % 8 == 0


def test_strided_and_big_endian_tensors_are_written_by_value(tmp_path: Path) -> None:
    whole: Any = np.arange(12, dtype=np.float32).reshape(3, 4)
    adapter.save({"part": whole[::-1, ::2], "big": whole.astype(">f4")}, tmp_path / "model")

    found = tensors(tmp_path / "model")

    assert found["part"].tolist() == whole[::-1, ::2].tolist()
    assert found["big"].tolist() == whole.tolist()


def test_a_byte_range_of_a_layer_is_read_in_place(tmp_path: Path) -> None:
    adapter.save(TENSORS, tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    layer = tmp_path / "layer"
    layer.write_bytes(b"\xff" * 4096 + data + b"\xff" * 99)

    weights = adapter.load(WeightsFile(layer, 4096, len(data)), config("m", format="safetensors"), ())

    assert weights.tensors["ids"].tolist() == TENSORS["ids"].tolist()
    assert not weights.tensors["ids"].flags.writeable


def test_calling_tensors_says_that_compute_is_needed(tmp_path: Path) -> None:
    adapter.save(TENSORS, tmp_path / "model")
    weights = adapter.load(WeightsFile.whole(tmp_path / "model"), config("m", format="safetensors"), ())

    with pytest.raises(WeightsError, match="holds tensors and no graph, expected a `compute` function"):
        weights({})
    assert weights.outputs == ()


def entry(dtype: str, shape: list[int], *offsets: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the safetensors header claims 0 bytes"),
        (b"\x00" * 7, "header claims"),
        ((2**63).to_bytes(8, "little") + b"{}", f"header claims {2**63} bytes"),
        ((200_000_000).to_bytes(8, "little") + b"{}", "header claims 200000000 bytes"),
        (as_file(b"{"), "header is malformed"),
        (as_file(b"[]"), "header is malformed"),
        (as_file(b'{"a": "\xff"}'), "header is malformed"),
        (as_file({"a": {"dtype": "F32"}}), "header is malformed"),
        (as_file({"a": entry("F32", [-1], 0, 4)}, b"\0" * 4), "header is malformed"),
        (as_file({"__metadata__": {"a": 1}}), "header is malformed"),
        (as_file({"a": entry("BF16", [2], 0, 4)}, b"\0" * 4), "the tensor 'a' is 'BF16'"),
        (as_file({"a": entry("F32", [1], 4, 8)}, b"\0" * 8), "the offsets 4 to 8, expected to start at 0"),
        (
            as_file({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, b"\0" * 8),
            "'b' has the offsets 4 to 8",
        ),
        (
            as_file({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, b"\0" * 12),
            "'b' has the offsets 8 to 12",
        ),
        (as_file({"a": entry("F32", [2], 0, 4)}, b"\0" * 4), "the offsets 0 to 4"),
        (as_file({"a": entry("F32", [1], 4, 0)}, b"\0" * 4), "the offsets 4 to 0"),
        (as_file({"a": entry("F32", [2**40], 0, 2**42)}, b"\0" * 4), f"ends at {2**42}, expected at most 4"),
        (as_file({"a": entry("F32", [1], 0, 4)}, b"\0" * 9), "5 bytes that no tensor names"),
    ],
)
def test_a_lie_in_the_header_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(content or b"\0")

    with pytest.raises(WeightsFormatError) as caught:
        tensors(path)

    assert said in caught.value.message or not content


def test_a_file_shorter_than_its_range_is_refused(tmp_path: Path) -> None:
    adapter.save(TENSORS, tmp_path / "model")
    size = (tmp_path / "model").stat().st_size

    with pytest.raises(WeightsFormatError, match="truncated"):
        adapter.load(WeightsFile(tmp_path / "model", 0, size + 1), config("m", format="safetensors"), ())


@pytest.mark.parametrize(
    "model", [[1], {"a": np.array([1j])}, {"a": np.array(["x"])}, {1: np.ones(1)}, {"__metadata__": np.ones(1)}]
)
def test_save_refuses_what_the_format_cannot_hold(tmp_path: Path, model: Any) -> None:
    with pytest.raises(WeightsError):
        adapter.save(model, tmp_path / "model")


@given(st.binary(max_size=200))
def test_any_header_is_read_or_refused(data: bytes) -> None:
    try:
        found = adapter.read_tensors(memoryview(as_file(b'{"a":' + data + b"}", b"\0" * 8)))
    except WeightsFormatError:
        return

    assert sum(array.nbytes for array in found.values()) == 8
