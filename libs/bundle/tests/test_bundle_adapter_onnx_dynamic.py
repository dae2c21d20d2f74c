"""ONNX graphs whose inputs and outputs have several free axes, devices, and golden examples of such models."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
from adapter_models import config
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from slipway_bundle.adapters import onnx as adapter
from slipway_bundle.array_json import encode_array
from slipway_bundle.description import codecs, model_schema
from slipway_bundle.errors import GoldenError
from slipway_bundle.golden import Golden, Tolerance
from slipway_bundle.replay import check_golden, examples_by_model
from slipway_bundle.rows import RowCodec
from slipway_bundle.schema import Arrays
from slipway_bundle.shapes import F32, Shape
from slipway_bundle.view import LoadedModel
from slipway_bundle.weights import FORMATS, DeviceError, Weights, WeightsError, WeightsFile, adapter_for

STEP = 8
"""Pixels of one step of the answer."""

LETTERS = 5
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
FACTORS = np.linspace(-1, 1, 3 * LETTERS, dtype=np.float32).reshape(3, LETTERS)


class Crop(Struct, eq=False, rename={"pixels": "x"}):
    pixels: Annotated[F32, Shape(3, 48, (16, 32, 64))]


class Glyphs(Struct, eq=False):
    logits: Annotated[F32, Shape("steps", LETTERS)]


class Recognise:
    """The model as the bundle room sees it."""

    name = "recognise"
    row: type[Struct] = Crop
    answer: type[Struct] = Glyphs
    function: Callable[[Weights, Arrays], Arrays] | None = None


def recogniser() -> Any:
    """`x [n, 3, 48, w]` to `logits [n, w / 8, 5]`: pooled columns times factors."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[48, STEP], strides=[48, STEP]),
        helper.make_node("Squeeze", ["pooled", "axis"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["turned", "factors"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 48, "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "steps", LETTERS])],
        [numpy_helper.from_array(FACTORS, "factors"), numpy_helper.from_array(np.array([2]), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    adapter.save(recogniser(), path)
    return LoadedModel(config=config("model.onnx", format="onnx"), file=WeightsFile.whole(path))


@pytest.fixture(scope="module")
def weights(loaded: LoadedModel) -> adapter.OnnxWeights:
    return adapter.load(loaded.file, loaded.config, RowCodec(Crop).specs)


def expected(pixels: NDArray[Any], width: int) -> NDArray[Any]:
    padded = np.zeros((3, 48, width), np.float32)
    padded[:, :, : pixels.shape[2]] = pixels
    columns: NDArray[Any] = padded.reshape(3, 48, width // STEP, STEP).mean(axis=(1, 3)).T @ FACTORS
    return columns


@given(widths=st.lists(st.integers(1, 64), min_size=1, max_size=6))
def test_rows_of_every_width_are_answered_as_if_alone(weights: adapter.OnnxWeights, widths: list[int]) -> None:
    inputs, outputs = codecs(Recognise(), "onnx")
    crops = [np.random.default_rng(width).random((3, 48, width), dtype=np.float32) for width in widths]
    by_key: dict[bytes, list[tuple[NDArray[Any], Any]]] = {}
    for pixels in crops:
        key, payload = inputs.pack_keyed(Crop(pixels))
        by_key.setdefault(key, []).append((pixels, payload))

    for key, members in by_key.items():
        answers = outputs.rows(weights(inputs.batch([payload for _, payload in members], key)))

        width = int.from_bytes(key, "little")
        assert len(answers) == len(members)
        for (pixels, _), answer in zip(members, answers, strict=True):
            assert isinstance(answer, Glyphs)
            assert answer.logits.shape == (width // STEP, LETTERS)
            assert np.allclose(answer.logits, expected(pixels, width), atol=1e-5)


def test_a_fixed_axis_of_the_graph_refuses_a_row_that_chooses_it(tmp_path: Path) -> None:
    model = recogniser()
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 32
    adapter.save(model, tmp_path / "model.onnx")
    file = WeightsFile.whole(tmp_path / "model.onnx")

    with pytest.raises(WeightsError, match=r"'x' has the shape \[3, 48, '16\|32\|64'\], expected \[3, 48, 32\]"):
        adapter.load(file, config("model.onnx", format="onnx"), RowCodec(Crop).specs)


def test_a_row_of_one_array_with_another_name_learns_how_to_name_it(loaded: LoadedModel) -> None:
    class Picture(Struct, eq=False):
        pixels: Annotated[F32, Shape(3, 48, (16, 32, 64))]

    with pytest.raises(WeightsError, match="the graph has no input 'pixels': expected x") as caught:
        adapter.load(loaded.file, loaded.config, RowCodec(Picture).specs)

    assert 'rename={"pixels": "x"}' in str(caught.value.hint)


def golden(pixels: NDArray[Any], logits: NDArray[Any]) -> Golden:
    return Golden(
        model="recognise",
        input=msgspec.Raw(msgspec.json.encode({"x": pixels}, enc_hook=encode_array)),
        output=msgspec.Raw(msgspec.json.encode({"logits": logits}, enc_hook=encode_array)),
        tolerance=Tolerance(absolute=1e-4),
    )


def test_golden_examples_of_rows_that_choose_sizes_are_checked_with_loaded_weights(
    loaded: LoadedModel, weights: adapter.OnnxWeights
) -> None:
    pixels = np.random.default_rng(1).random((3, 48, 20), dtype=np.float32)
    right = expected(pixels, 32)
    examples = examples_by_model([golden(pixels, right), golden(pixels, right + 1), golden(pixels, right[:2])])

    found = check_golden(Recognise(), loaded, weights, examples["recognise"])

    assert [(mismatch.line, mismatch.path) for mismatch in found] == [(2, "$.logits[0][0]"), (3, "$.logits")]
    assert found[1].got == "4 items"


def test_a_golden_row_beyond_the_largest_bucket_is_a_mismatch_that_says_so(
    loaded: LoadedModel, weights: adapter.OnnxWeights
) -> None:
    example = golden(np.zeros((3, 48, 65), np.float32), np.zeros((1, LETTERS)))

    found = check_golden(Recognise(), loaded, weights, [(7, example)])

    assert found[0].line == 7
    assert "got size 65 on axis 2, expected at most 64, the largest bucket" in found[0].got


def test_a_golden_input_that_is_no_row_is_named(loaded: LoadedModel, weights: adapter.OnnxWeights) -> None:
    example = Golden(model="recognise", input=msgspec.Raw(b'{"x": "no"}'), output=msgspec.Raw(b"{}"))

    with pytest.raises(GoldenError, match="golden example 4 is not a row"):
        check_golden(Recognise(), loaded, weights, [(4, example)])


def test_the_schema_of_a_model_says_buckets_and_free_axes() -> None:
    schema = msgspec.json.decode(msgspec.json.encode(model_schema(Recognise(), "onnx")))

    assert schema["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [3, 48, -1], "buckets": [[], [], [16, 32, 64]]}
    ]
    assert schema["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, LETTERS], "free": ["steps", ""]}]


@pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime has CUDA")
def test_a_device_that_onnxruntime_does_not_have_is_refused_and_not_replaced_by_the_cpu(loaded: LoadedModel) -> None:
    specs = RowCodec(Crop).specs

    with pytest.raises(DeviceError, match="cannot use the device 'cuda'") as caught:
        adapter.load(loaded.file, loaded.config, specs, device="cuda")
    assert "onnxruntime-gpu" in str(caught.value.hint)
    with pytest.raises(DeviceError, match="do not run on the device 'tpu'"):
        adapter.load(loaded.file, loaded.config, specs, device="tpu")


@pytest.mark.skipif(not HAS_CUDA, reason="this onnxruntime has no CUDA")
def test_cuda_answers_as_the_cpu_does(loaded: LoadedModel, weights: adapter.OnnxWeights) -> None:
    inputs = RowCodec(Crop)
    key, payload = inputs.pack_keyed(Crop(np.ones((3, 48, 30), np.float32)))

    on_gpu = adapter.load(loaded.file, loaded.config, inputs.specs, device="cuda")

    found, right = (one(inputs.batch([payload], key))["logits"] for one in (on_gpu, weights))
    assert np.allclose(found, right, atol=1e-3)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "onnx"])
def test_a_format_that_runs_on_the_cpu_alone_says_so_by_name(form: str, loaded: LoadedModel) -> None:
    with pytest.raises(DeviceError, match=f"weights of the format '{form}' run on the CPU alone") as caught:
        adapter_for(form).load(loaded.file, loaded.config, (), device="cuda")

    assert caught.value.code == "device_unsupported"


def test_a_graph_inside_a_larger_file_loads_and_the_bytes_around_it_do_not_matter(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    data = loaded.file.read()
    blob = tmp_path / "layer.tar"
    blob.write_bytes(b"\xff" * 4096 + data + b"\xff" * 100)
    inputs = RowCodec(Crop)
    key, payload = inputs.pack_keyed(Crop(np.ones((3, 48, 30), np.float32)))

    inside = adapter.load(WeightsFile(blob, 4096, len(data)), loaded.config, inputs.specs)

    assert np.allclose(inside(inputs.batch([payload], key))["logits"][0], expected(np.ones((3, 48, 30)), 32), atol=1e-5)


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from adapter_models import config
from slipway_bundle.adapters import onnx as adapter
from slipway_bundle.weights import WeightsFile

def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private"))

path, offset, small = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
adapter.load(WeightsFile.whole(small), config("m", format="onnx"), ())  # the library itself
before = private()
size = path.stat().st_size - offset
weights = adapter.load(WeightsFile(path, offset, size), config("m", format="onnx"), ())
weights({"x": np.ones((1, 4096), np.float32)})
print((private() - before) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads proc(5)")
@pytest.mark.parametrize("offset", [0, 4096])
def test_a_loaded_graph_holds_its_weights_once(loaded: LoadedModel, tmp_path: Path, offset: int) -> None:
    """onnxruntime keeps the bytes that it was given for good, so it is given a path."""
    block = np.random.default_rng(0).random((4096, 4096), dtype=np.float32)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4096]) for name in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "big", info[:1], info[1:], [numpy_helper.from_array(block, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = tmp_path / "big.onnx"
    path.write_bytes(bytes(offset) + model.SerializeToString())

    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(offset), str(loaded.file.path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )

    assert 0.9 < float(done.stdout) < 1.5
