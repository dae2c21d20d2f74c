"""A model file that lies is refused in words: the C library alone would crash the process on it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapter_models import Sample, config, train_booster
from hypothesis import given
from hypothesis import strategies as st

from slipway_bundle.adapters import ubjson
from slipway_bundle.adapters import xgboost as adapter
from slipway_bundle.adapters.libxgboost import Booster
from slipway_bundle.adapters.xgboost_model import read_model
from slipway_bundle.rows import RowCodec
from slipway_bundle.weights import WeightsFile, WeightsFormatError

UBJ = bytes(train_booster(rounds=3).save_raw("ubj"))
JSON = bytes(train_booster(rounds=3).save_raw("json"))


def check_refused(path: Path, data: bytes) -> WeightsFormatError:
    path.write_bytes(data)
    with pytest.raises(WeightsFormatError) as caught:
        adapter.load(WeightsFile.whole(path), config("model"), RowCodec(Sample).specs)
    assert caught.value.exit_status == 1
    return caught.value


@pytest.mark.parametrize("data", [UBJ, JSON], ids=["ubj", "json"])
def test_a_truncated_model_is_refused_at_every_length(tmp_path: Path, data: bytes) -> None:
    for size in [*range(12), *range(12, len(data), max(1, len(data) // 40)), len(data) - 1]:
        check_refused(tmp_path / "model", data[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"{L", b"\x00" * 99, b"garbage" * 99, b"{}", b"[]", b"null", b'{"learner": 1}', b"{L" + b"\xff" * 99,
        UBJ + b"x", JSON + b"{}", b'{"learner": NaN}', b'{"a": "\xff"}',
    ],
)  # fmt: skip
def test_garbage_is_refused(tmp_path: Path, data: bytes) -> None:
    check_refused(tmp_path / "model", data)


def forest(document: Any) -> Any:
    return document["learner"]["gradient_booster"]["model"]


def first(key: str, index: int, value: int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        forest(document)["trees"][0][key][index] = value

    return change


def put(*path: str, value: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


def shorten(key: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        forest(document)["trees"][0][key].pop()

    return change


BOOSTER = ("learner", "gradient_booster")
CATEGORIES = (*BOOSTER, "model", "cats", "enc")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first("left_children", 0, 10**6), "has a child outside its nodes"),
        (first("left_children", 0, 0), "has a child outside its nodes"),
        (first("right_children", 0, 1), "has a node with two parents"),
        (first("parents", 1, 2), "has a child that names another parent"),
        (first("parents", 1, -7), "has a parent outside its nodes"),
        (first("parents", 0, 1), "has a parent outside its nodes"),
        (first("split_indices", 0, 4), "splits on a feature that the model does not have"),
        (first("split_type", 0, 1), "has categories for other nodes"),
        (shorten("left_children"), "has 26 nodes, expected 27"),
        (shorten("base_weights"), "has 26 weights, expected 27"),
        (shorten("default_left"), "has 26 `default_left`, expected 27"),
        (put("learner", "learner_model_param", "num_feature", value="5"), "has 4 features, expected 5"),
        (put("learner", "learner_model_param", "num_feature", value="-1"), "counts '-1'"),
        (put("learner", "learner_model_param", "num_class", value="999999999"), "counts '999999999'"),
        (put("learner", "feature_names", value=["a"]), "1 feature names, expected 4"),
        (put(*BOOSTER, "name", value="gbmagic"), "the booster is 'gbmagic'"),
        (put(*BOOSTER, "model", "tree_info", value=[0, 0, 1]), "a class that the model does not have"),
        (put(*BOOSTER, "model", "tree_info", value=[0]), "has 3 trees, expected 3"),
        (put(*BOOSTER, "model", "iteration_indptr", value=[0, 5, 3]), "iterations do not cover"),
        (put(*BOOSTER, "model", "gbtree_model_param", "num_trees", value="4"), "has 3 trees, expected 4"),
        (put("learner", "objective", value={}), "lacks a part"),
        (put(*CATEGORIES, value=[{"offsets": [0, 9], "values": [65]}]), "categories outside their text"),
        (put(*CATEGORIES, value=[{"offsets": [0, 1], "values": [65]}]), "categories for 1 features, expected 4"),
        (put(*CATEGORIES, value=[{"offsets": [0, 1], "values": [-1]}]), "lacks a part"),
    ],
)
def test_a_tree_that_leads_outside_itself_is_refused(tmp_path: Path, change: Callable[[Any], None], said: str) -> None:
    document = json.loads(JSON)
    change(document)

    error = check_refused(tmp_path / "model", json.dumps(document).encode())

    assert said in error.message


@given(st.data())
def test_an_altered_model_is_refused_or_predicts(draw: st.DataObject) -> None:
    """The library would segfault on some of these; here it only sees what was checked."""
    data = bytearray(UBJ)
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))

    try:
        features = read_model(bytes(data)).features
        booster = Booster(bytes(data), threads=1)
    except WeightsFormatError:
        return

    values, shape = booster.predict(np.ones((3, features), dtype=np.float32), adapter._CONFIGS[False])

    assert shape[0] == 3
    assert values.size >= 3


@given(st.binary(max_size=200).map(lambda data: b"{" + data))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    try:
        document = ubjson.decode(data)
    except WeightsFormatError:
        return

    assert isinstance(document, dict)


def test_both_encodings_say_the_same() -> None:
    assert read_model(UBJ) == read_model(JSON)
