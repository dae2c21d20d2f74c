"""What holds for every format: names are never guessed, files never misnamed, libraries imported only when needed."""

import functools
import logging
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from adapter_models import train_booster
from msgspec import Meta, Struct

from slipway_bundle.errors import HostError, UsageError
from slipway_bundle.rows import RowCodec, RowError
from slipway_bundle.tabular import Matrix
from slipway_bundle.weights import (
    FORMATS,
    LazyOutputs,
    PredictError,
    WeightsError,
    WeightsFile,
    WeightsFormatError,
    adapter_for,
    bind_outputs,
    predict,
)


def write(folder: Path, form: str) -> dict[str, Path]:
    """A file of one format under each name that it may have."""
    model = make(form)
    names = ("model.ubj", "model.json") if form == "xgboost" else (f"model.{form}",)
    for name in names:
        adapter_for(form).save(model, folder / name)
    return {name: folder / name for name in names}


def make(form: str) -> Any:
    if form == "xgboost":
        return train_booster(rounds=2)
    if form == "sklearn":
        from sklearn.linear_model import Ridge  # type: ignore[import-untyped]  # no stubs

        return Ridge().fit(np.eye(3), np.arange(3))
    if form == "onnx":
        from onnx import helper

        found, given = (helper.make_tensor_value_info(name, 1, ["n", 2]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [found], [given])
        return helper.make_model(graph, producer_name="test")
    return {"a": np.ones(3), "b": np.zeros(2)}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [64, 4096, 10**9])
def test_a_file_is_its_own_format_and_no_other(tmp_path: Path, form: str, size: int) -> None:
    for name, path in write(tmp_path, form).items():
        head = path.read_bytes()[:size]

        for shown in (name, "weights.bin") if path.suffix != ".json" else (name,):
            assert [other for other in FORMATS if adapter_for(other).sniff(head, shown)] == [form]


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\x80\x04\x95", b"PK\x03\x04" + b"\0" * 60, b"{}", b'{"a": 1}', b"\x93NUMPY", b"\0" * 64, b"\x08\x07",
        b"tree\nversion=v4\n", bytes(range(256)),
    ],
)  # fmt: skip
def test_other_files_are_no_format(head: bytes) -> None:
    assert [form for form in FORMATS if adapter_for(form).sniff(head, "weights.bin")] == []


def test_looking_up_adapters_imports_no_heavy_library() -> None:
    script = """
import sys
from slipway_bundle.weights import FORMATS, adapter_for
for name in FORMATS: adapter_for(name).sniff(b"", "")
print(sorted(sys.modules.keys() & {"xgboost", "sklearn", "skops", "onnx", "onnxruntime", "safetensors", "scipy"}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"(?s)unknown format 'xgbost'.*did you mean `xgboost`"):
        adapter_for("xgbost")


@pytest.mark.parametrize(
    ("outputs", "available", "fields", "bound"),
    [
        ({"risk": "probability"}, ("probability", "margin"), ("risk",), {"risk": "probability"}),
        ({}, ("probability", "margin"), ("margin",), {"margin": "margin"}),
        ({}, ("score",), ("risk",), {"risk": "score"}),
        ({"a": "x", "b": "x"}, ("x",), ("a", "b"), {"a": "x", "b": "x"}),
        ({"risk": "probability"}, ("probability", "x"), ("risk", "x"), {"risk": "probability", "x": "x"}),
    ],
)
def test_a_field_is_answered_by_configuration_by_its_name_or_by_the_only_output(
    outputs: dict[str, str], available: tuple[str, ...], fields: tuple[str, ...], bound: dict[str, str]
) -> None:
    assert bind_outputs(outputs, available, fields) == bound


@pytest.mark.parametrize(
    ("outputs", "available", "fields", "said"),
    [
        ({"risk": "probabilty"}, ("probability", "margin"), ("risk",), "did you mean `probability`"),
        ({"rsik": "margin"}, ("probability", "margin"), ("risk",), "did you mean `risk`"),
        ({}, ("probability", "margin"), ("risk",), "no output answers the field 'risk'"),
        ({}, ("score",), ("a", "b"), "no output answers the field 'a'"),
        ({}, (), ("a",), "the weights give none"),
    ],
)
def test_an_output_is_never_guessed(
    outputs: dict[str, str], available: tuple[str, ...], fields: tuple[str, ...], said: str
) -> None:
    with pytest.raises(WeightsError) as caught:
        bind_outputs(outputs, available, fields)

    assert said in str(caught.value)


def test_predict_renames_and_computes_only_what_is_read() -> None:
    computed: list[str] = []

    def compute(name: str) -> Any:
        computed.append(name)
        return np.ones(2)

    def weights(batch: Any) -> Any:
        return LazyOutputs({name: functools.partial(compute, name) for name in ("a", "b")})

    found = predict(weights, {"x": "b", "y": "b"}, {})

    assert {name: array.tolist() for name, array in found.items()} == {"x": [1, 1], "y": [1, 1]}
    assert computed == ["b"]


class Mixed(Struct):
    plan: Literal["basic", "plus"]
    window: Annotated[list[float], Meta(min_length=2, max_length=2)]
    city: str
    age: int


CATEGORIES = {"plan": ("plus", "basic"), "city": ("Ulm", "Köln")}
COLUMNS = ("city", "window.1", "age", "plan", "window.0")


def test_the_matrix_has_the_order_of_training() -> None:
    codec = RowCodec(Mixed)
    matrix = Matrix(codec.specs, COLUMNS, floats="FP32", categories=CATEGORIES)

    found = matrix(
        codec.batch(
            [codec.pack(Mixed("basic", [1.0, 2.0], "Köln", 30)), codec.pack(Mixed("plus", [3.0, 4.0], "Ulm", 40))]
        )
    )

    assert found.tolist() == [[1, 2, 30, 1, 1], [0, 4, 40, 0, 3]]
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("columns", "categories", "said"),
    [
        (COLUMNS, {"plan": ("plus",), "city": ("Ulm",)}, "`categories.plan` lacks 'basic'"),
        (COLUMNS, {"plan": CATEGORIES["plan"]}, "the field 'city' is text, expected its categories"),
        (
            COLUMNS,
            CATEGORIES | {"age": ("1",)},
            "`categories` names 'age', expected a text field of the row: plan, city",
        ),
        (COLUMNS, CATEGORIES | {"city": ("Ulm", "Ulm")}, "names a value twice"),
        (COLUMNS[:-1], CATEGORIES, "the field 'window.0', which the weights do not use"),
        ((*COLUMNS, "wage"), CATEGORIES, "need the feature 'wage'"),
        ((*COLUMNS, "age"), CATEGORIES, "name 'age' twice"),
    ],
)
def test_columns_and_categories_must_fit_the_row(columns: Any, categories: Any, said: str) -> None:
    with pytest.raises(WeightsError) as caught:
        Matrix(RowCodec(Mixed).specs, columns, floats="FP32", categories=categories)

    assert said in caught.value.message


def test_an_unknown_city_is_that_rows_error() -> None:
    codec = RowCodec(Mixed)
    matrix = Matrix(codec.specs, COLUMNS, floats="FP32", categories=CATEGORIES)

    with pytest.raises(RowError, match=r"`\$.city` got 'Bonn', expected one of the categories 'Ulm', 'Köln'"):
        matrix(codec.batch([codec.pack(Mixed("basic", [1.0, 2.0], "Bonn", 30))]))


class Counts(Struct):
    free: int
    small: Annotated[int, Meta(ge=0, le=2**24)]
    negative: Annotated[int, Meta(ge=-(2**25), le=0)]


def test_integers_that_fp32_rounds_are_warned_of_once_at_load(caplog: pytest.LogCaptureFixture) -> None:
    specs = RowCodec(Counts).specs
    with caplog.at_level(logging.WARNING):
        Matrix(specs, ("free", "small", "negative"), floats="FP64", categories={})
        assert caplog.records == []

        Matrix(specs, ("free", "small", "negative"), floats="FP32", categories={})

    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["free, negative"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"a": np.ones(2)}, "need the column 'b': got 'a'"),
        ({"a": np.ones(2), "b": np.array(["1", "2"])}, "the column 'b' is <U1"),
        ({"a": np.ones(2), "b": np.ones((2, 1))}, "of shape [2, 1], expected n numbers"),
    ],
)
def test_columns_that_compute_makes_are_checked_when_they_come(made: Any, said: str) -> None:
    matrix = Matrix((), ("a", "b"), floats="FP32", categories={})

    with pytest.raises(PredictError) as caught:
        matrix(made)

    assert said in caught.value.message


def test_a_column_of_a_vector_may_be_taken_by_its_index() -> None:
    matrix = Matrix((), ("v.1", "v.0"), floats="FP64", categories={})

    assert matrix({"v": np.array([[1.0, 2.0]])}).tolist() == [[2.0, 1.0]]


def test_a_weights_file_is_a_range_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"0123456789")

    assert WeightsFile(path, 3, 4).read() == b"3456"
    assert WeightsFile.whole(path).read() == b"0123456789"
    with pytest.raises(WeightsFormatError, match="expected 9 bytes, got 7"):
        WeightsFile(path, 3, 9).read()
    with pytest.raises(HostError):
        WeightsFile(tmp_path / "absent", 0, 1).read()
    with pytest.raises(HostError):
        WeightsFile.whole(tmp_path / "absent")
