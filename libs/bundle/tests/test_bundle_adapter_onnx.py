"""ONNX graphs: by the graph's names and datatypes, in one file, with a free batch axis."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
import pytest
from adapter_models import NAMES, Sample, batch_of, data, load, samples
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct
from onnx import TensorProto, helper, numpy_helper

from slipway_bundle.adapters import onnx as adapter
from slipway_bundle.adapters.onnx_scan import check_model
from slipway_bundle.rows import RowCodec, RowError
from slipway_bundle.shapes import F32, Shape
from slipway_bundle.weights import PredictError, WeightsError, WeightsFile, WeightsFormatError

CODEC = RowCodec(Sample, missing=False)
FACTORS = np.array([[1.0], [0.1], [0.01], [0.001]], dtype=np.float32)
TOLERANCE = 1e-5
"""Between a batch of 1 and of 64: matrix products add in another order."""


def value(name: str, kind: Any, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes: Any, inputs: Any, outputs: Any, constants: Any = ()) -> Any:
    made = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def linear(kind: Any = TensorProto.FLOAT, batch: Any = "n") -> Any:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    return graph(
        [helper.make_node("MatMul", ["x", "w"], ["score"]), helper.make_node("Sigmoid", ["score"], ["chance"])],
        [value("x", kind, batch, 4)],
        [value("score", kind, batch, 1), value("chance", kind, batch, 1)],
        [numpy_helper.from_array(FACTORS.astype(dtype), "w")],
    )


def saved(path: Path, model: Any) -> Path:
    adapter.save(model, path / "model.onnx")
    return path / "model.onnx"


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_one_matrix_takes_the_columns_in_the_order_given(tmp_path: Path, kind: Any) -> None:
    order, features = ("speed", "depth", "age", "width"), data(9)[0]

    weights = load(saved(tmp_path, linear(kind)), CODEC, "onnx", columns=order)
    found = weights(batch_of(CODEC, samples(features)))

    expected = features[:, [3, 0, 2, 1]] @ FACTORS
    assert weights.outputs == ("score", "chance")
    assert found["score"].ravel().tolist() == pytest.approx(expected.ravel().tolist(), rel=1e-5)
    assert found["score"].dtype == helper.tensor_dtype_to_np_dtype(kind)


def test_a_matrix_without_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="carry no feature names"):
        load(saved(tmp_path, linear()), CODEC, "onnx")


def test_a_batch_of_one_equals_a_batch_of_64_within_the_tolerance(tmp_path: Path) -> None:
    rows = samples(data(64)[0])
    weights = load(saved(tmp_path, linear()), CODEC, "onnx", columns=NAMES)

    together = weights(batch_of(CODEC, rows))["chance"].ravel().tolist()

    assert together == pytest.approx([weights(batch_of(CODEC, [row]))["chance"].item() for row in rows], abs=TOLERANCE)


class Many(Struct, eq=False):
    price: float
    count: Annotated[int, Meta(ge=0)]
    plan: Literal["a", "long"]
    name: str
    open: bool
    pixels: Annotated[F32, Shape(2, 3)]


def identities() -> Any:
    kinds: dict[str, Any] = {
        "price": (TensorProto.DOUBLE, (1,)),
        "count": (TensorProto.INT32, ()),
        "plan": (TensorProto.STRING, (1,)),
        "name": (TensorProto.STRING, ()),
        "open": (TensorProto.BOOL, ()),
        "pixels": (TensorProto.FLOAT, (2, "any")),
    }
    return graph(
        [helper.make_node("Identity", [name], [f"out_{name}"]) for name in kinds],
        [value(name, kind, "n", *shape) for name, (kind, shape) in kinds.items()],
        [value(f"out_{name}", kind, "n", *shape) for name, (kind, shape) in kinds.items()],
    )


def test_fields_feed_the_inputs_of_their_names_in_the_graphs_types(tmp_path: Path) -> None:
    codec = RowCodec(Many)
    pixels = np.arange(6, dtype=np.float32).reshape(2, 3)
    rows = [Many(0.5, 3, "a", "größe", True, pixels), Many(1.5, 4, "long", "", False, pixels + 1)]

    found = load(saved(tmp_path, identities()), codec, "onnx")(batch_of(codec, rows))

    assert found["out_price"].tolist() == [[0.5], [1.5]]
    assert [found["out_price"].dtype.name, found["out_count"].dtype.name] == ["float64", "int32"]
    assert found["out_count"].tolist() == [3, 4]
    assert found["out_plan"].tolist() == [["a"], ["long"]]
    assert found["out_name"].tolist() == ["größe", ""]
    assert found["out_open"].tolist() == [True, False]
    assert found["out_pixels"].tolist() == [pixels.tolist(), (pixels + 1).tolist()]


def test_an_integer_that_the_graph_cannot_hold_is_that_rows_error(tmp_path: Path) -> None:
    codec = RowCodec(Many)
    weights = load(saved(tmp_path, identities()), codec, "onnx")
    pixels = np.zeros((2, 3), np.float32)

    with pytest.raises(RowError, match=r"`\$.count` got 4294967296, expected an integer that int32 can hold"):
        weights(batch_of(codec, [Many(0.5, 2**32, "a", "", True, pixels)]))


class Missing(Struct):
    price: float


class Strange(Sample, frozen=True):
    colour: float


class Textual(Struct):
    x: str


class Square(Struct, eq=False):
    x: Annotated[F32, Shape(4, 4)]


class Short(Struct, eq=False):
    x: Annotated[F32, Shape(3)]


class Partial(Struct):
    x: float | None


@pytest.mark.parametrize(
    ("row", "model", "said"),
    [
        (Missing, identities(), "the row has no field 'count'"),
        (Strange, identities(), "the graph has no input 'depth'"),
        (Textual, linear(), "has the shape []"),
        (Square, linear(), "has the shape [4, 4], expected [4]"),
        (Short, linear(), "has the shape [3], expected [4]"),
        (Partial, linear(), "takes no missing values"),
        (Sample, linear(batch=1), "expected a free batch axis first"),
    ],
)
def test_a_row_that_does_not_fit_the_graph_is_refused(tmp_path: Path, row: Any, model: Any, said: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load(saved(tmp_path, model), RowCodec(row), "onnx")

    assert said in caught.value.message


def test_a_field_of_another_kind_is_refused(tmp_path: Path) -> None:
    class Floating(Struct, eq=False):
        price: float
        count: float
        plan: Literal["a", "long"]
        name: str
        open: bool
        pixels: Annotated[F32, Shape(2, 3)]

    with pytest.raises(WeightsError, match=r"'count' is FP32, expected tensor\(int32\)"):
        load(saved(tmp_path, identities()), RowCodec(Floating), "onnx")


def test_compute_may_make_the_arrays_itself(tmp_path: Path) -> None:
    from adapter_models import config

    features, path = data(3)[0], saved(tmp_path, linear())
    weights = adapter.load(WeightsFile.whole(path), config("m", format="onnx"), ())

    assert weights({"x": features})["score"].shape == (3, 1)
    with pytest.raises(PredictError, match="needs the input 'x': got 'y'"):
        weights({"y": features})
    with pytest.raises(PredictError, match="onnxruntime refused the batch"):
        weights({"x": features[:, :3]})


def external() -> Any:
    model = linear()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return model


def nested() -> Any:
    """An external tensor inside a branch of an `If`."""
    inner = external().graph
    constant = helper.make_node("Constant", [], ["c"], value=inner.initializer[0])
    branch = helper.make_graph([constant], "branch", [], [value("c", TensorProto.FLOAT, 4, 1)])
    node = helper.make_node("If", ["flag"], ["out"], then_branch=branch, else_branch=branch)
    return graph([node], [value("flag", TensorProto.BOOL)], [value("out", TensorProto.FLOAT, 4, 1)])


@pytest.mark.parametrize("make", [external, nested])
def test_tensors_in_other_files_are_refused(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make().SerializeToString())

    with pytest.raises(WeightsFormatError, match="keeps tensors in another file"):
        load(path, CODEC, "onnx", columns=NAMES)
    with pytest.raises(WeightsFormatError, match="keeps tensors in another file"):
        adapter.save(make(), tmp_path / "again.onnx")


def test_a_truncated_or_unknown_file_is_refused(tmp_path: Path) -> None:
    whole = linear().SerializeToString()
    unknown = graph([helper.make_node("Nonsense", ["x"], ["y"])], [value("x", 1, "n", 4)], [value("y", 1, "n", 4)])

    for data_ in [whole[:size] for size in range(0, len(whole) - 9, 7)] + [b"garbage" * 9, unknown.SerializeToString()]:
        path = tmp_path / "model.onnx"
        path.write_bytes(data_)
        with pytest.raises(WeightsFormatError):
            load(path, CODEC, "onnx", columns=NAMES)


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda data: linear().SerializeToString()[:90] + data))
def test_any_bytes_are_walked_to_an_answer(data: bytes) -> None:
    try:
        check_model(data)
    except WeightsFormatError as error:
        assert error.code == "weights_malformed"  # noqa: PT017  # most bytes are refused, some are a model


def test_equal_graphs_give_equal_bytes(tmp_path: Path) -> None:
    first = saved(tmp_path, linear()).read_bytes()

    assert saved(tmp_path, linear()).read_bytes() == first
    assert saved(tmp_path, first).read_bytes() == first
    assert onnx.load_from_string(first).graph.name == "graph"


@pytest.mark.parametrize("model", [object(), b"garbage"])
def test_save_refuses_what_is_no_model(tmp_path: Path, model: Any) -> None:
    with pytest.raises((WeightsError, WeightsFormatError)):
        saved(tmp_path, model)
