"""XGBoost models are served by the C library, by feature name, with outputs that mean what they say."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from adapter_models import NAMES, Sample, batch_of, config, data, load, samples, train_booster
from msgspec import Struct

from slipway_bundle.adapters import libxgboost
from slipway_bundle.adapters import xgboost as adapter
from slipway_bundle.rows import RowCodec, RowError
from slipway_bundle.weights import MissingLibraryError, WeightsError, WeightsFile, bind_outputs, predict

CODEC = RowCodec(Sample)


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xgboost") / "churn.ubj"
    adapter.save(train_booster(), path)
    return path


@pytest.mark.parametrize("suffix", [".ubj", ".json"])
def test_predictions_are_those_of_the_python_package(tmp_path: Path, suffix: str) -> None:
    booster, path = train_booster(), tmp_path / f"model{suffix}"
    features, _ = data()
    adapter.save(booster, path)

    found = load(path, CODEC, "xgboost")(batch_of(CODEC, samples(features)))

    assert found["probability"].tolist() == booster.inplace_predict(features, validate_features=False).tolist()
    assert (
        found["margin"].tolist()
        == booster.inplace_predict(features, predict_type="margin", validate_features=False).tolist()
    )
    assert list(found) == ["probability", "margin"]


def test_loading_and_predicting_never_imports_xgboost(churn: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from adapter_models import Sample, batch_of, load
from slipway_bundle.rows import RowCodec
codec = RowCodec(Sample)
weights = load(Path({str(churn)!r}), codec, "xgboost")
weights(batch_of(codec, [Sample(1.0, 2.0, 3.0, 4.0)]))["probability"]
print(sorted(sys.modules.keys() & {{"xgboost", "scipy", "pandas", "sklearn"}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


def test_columns_go_by_name_and_never_by_position(churn: Path) -> None:
    class Permuted(Struct):
        speed: float
        age: float
        depth: float
        width: float

    features, _ = data(8)
    codec = RowCodec(Permuted)

    straight = load(churn, CODEC, "xgboost")(batch_of(CODEC, samples(features)))["probability"]
    permuted = load(churn, codec, "xgboost")(batch_of(codec, samples(features[:, [3, 2, 0, 1]], Permuted)))[
        "probability"
    ]

    assert permuted.tolist() == straight.tolist()


def test_a_batch_of_one_equals_a_batch_of_64(churn: Path) -> None:
    """Trees have no sums over rows: equal to the last bit."""
    rows = samples(data(64)[0])
    weights = load(churn, CODEC, "xgboost")

    together = weights(batch_of(CODEC, rows))["probability"].tolist()

    assert [weights(batch_of(CODEC, [row]))["probability"].item() for row in rows] == together


def test_threads_do_not_mix_their_answers(churn: Path) -> None:
    weights, rows = load(churn, CODEC, "xgboost"), samples(data(64)[0])
    expected = weights(batch_of(CODEC, rows))["probability"].tolist()
    wrong: list[int] = []

    def ask(start: int) -> None:
        for index in range(start, start + 200):
            size = index % 60 + 1
            if weights(batch_of(CODEC, rows[:size]))["probability"].tolist() != expected[:size]:
                wrong.append(index)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize(
    ("objective", "parameters", "outputs", "shape"),
    [
        ("binary:logistic", {}, ("probability", "margin"), (5,)),
        ("binary:logitraw", {}, ("margin",), (5,)),
        ("binary:hinge", {}, ("label", "margin"), (5,)),
        ("reg:logistic", {}, ("probability", "margin"), (5,)),
        ("reg:squarederror", {}, ("value", "margin"), (5,)),
        ("reg:squarederror", {"booster": "dart"}, ("value", "margin"), (5,)),
        ("count:poisson", {}, ("value", "margin"), (5,)),
        ("multi:softprob", {"num_class": 3}, ("probabilities", "label", "margin"), (5, 3)),
        ("multi:softmax", {"num_class": 3}, ("label", "margin"), (5,)),
    ],
)
def test_the_objective_says_what_the_outputs_are(
    tmp_path: Path, objective: str, parameters: dict[str, Any], outputs: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    booster, path = train_booster(objective=objective, **parameters), tmp_path / "model.ubj"
    adapter.save(booster, path)
    features, _ = data(5)

    weights = load(path, CODEC, "xgboost")
    found = weights(batch_of(CODEC, samples(features)))

    assert weights.outputs == outputs
    assert found[outputs[0]].shape == shape
    assert found[outputs[0]].dtype == (np.int64 if outputs[0] == "label" else np.float32)
    assert found[outputs[0]].tolist() == booster.inplace_predict(features, validate_features=False).tolist()


def test_the_label_of_class_probabilities_is_the_likeliest_class(tmp_path: Path) -> None:
    path = tmp_path / "model.ubj"
    adapter.save(train_booster(objective="multi:softprob", num_class=3), path)

    found = load(path, CODEC, "xgboost")(batch_of(CODEC, samples(data(20)[0])))

    assert found["label"].tolist() == found["probabilities"].argmax(axis=1).tolist()


def test_an_empty_batch_has_no_answers(churn: Path) -> None:
    found = load(churn, CODEC, "xgboost")(CODEC.batch([]))

    assert found["probability"].shape == found["margin"].shape == (0,)


def test_missing_values_go_where_training_sent_them(churn: Path) -> None:
    class Partial(Struct):
        depth: float | None
        width: float
        age: float
        speed: float

    codec, booster = RowCodec(Partial), train_booster()

    found = load(churn, codec, "xgboost")(batch_of(codec, [Partial(None, 1.0, 2.0, 3.0)]))["probability"]

    row = np.array([[np.nan, 1, 2, 3]], dtype=np.float32)
    assert found.tolist() == booster.inplace_predict(row, validate_features=False).tolist()


def test_integers_bools_and_categories_become_columns(tmp_path: Path) -> None:
    class Customer(Struct):
        plan: Literal["basic", "plus"]
        calls: int
        loyal: bool
        charge: float

    names = ("charge", "loyal", "plan", "calls")
    booster, path = train_booster(names=names), tmp_path / "model.ubj"
    adapter.save(booster, path)
    codec = RowCodec(Customer)

    weights = load(path, codec, "xgboost", categories={"plan": ["plus", "basic"]})
    found = weights(batch_of(codec, [Customer("basic", 7, True, 0.5), Customer("plus", 0, False, -1.0)]))

    matrix = np.array([[0.5, 1, 1, 7], [-1.0, 0, 0, 0]], dtype=np.float32)
    assert found["probability"].tolist() == booster.inplace_predict(matrix, validate_features=False).tolist()


def with_categories(path: Path) -> None:
    """What training on a pandas frame with categories leaves in the file (seen with pandas 2 and xgboost 3.2)."""
    names = ("plan", "charge")
    document = json.loads(bytes(train_booster(names=names).save_raw("json")))
    text = "béta" + "alpha"
    words = {"offsets": [0, 5, 10], "values": list(text.encode())}
    document["learner"]["gradient_booster"]["model"]["cats"] = {
        "enc": [words, {"offsets": [], "values": []}], "feature_segments": [0, 2, 2], "sorted_idx": [1, 0],
    }  # fmt: skip
    path.write_text(json.dumps(document))


def test_categories_that_the_model_keeps_need_no_configuration(tmp_path: Path) -> None:
    class Customer(Struct):
        plan: Literal["alpha", "béta"]
        charge: float

    path, codec = tmp_path / "model.json", RowCodec(Customer)
    with_categories(path)

    found = load(path, codec, "xgboost")(batch_of(codec, [Customer("alpha", 0.5), Customer("béta", 0.5)]))

    matrix = np.array([[1, 0.5], [0, 0.5]], dtype=np.float32)
    expected = train_booster(names=("plan", "charge")).inplace_predict(matrix, validate_features=False)
    assert found["probability"].tolist() == expected.tolist()
    with pytest.raises(WeightsError, match=r"`categories.plan` differs from the categories in the weights"):
        load(path, codec, "xgboost", categories={"plan": ["alpha", "béta"]})


def test_weights_without_names_need_columns_in_the_order_of_training(tmp_path: Path) -> None:
    booster, path = train_booster(names=None), tmp_path / "model.ubj"
    adapter.save(booster, path)
    features, _ = data(5)

    with pytest.raises(WeightsError, match=r"no feature names.*the row has 'depth', 'width', 'age', 'speed'"):
        load(path, CODEC, "xgboost")
    with pytest.raises(WeightsError, match=r"`columns` has 3 names, expected 4"):
        load(path, CODEC, "xgboost", columns=NAMES[:3])
    found = load(path, CODEC, "xgboost", columns=NAMES)(batch_of(CODEC, samples(features)))

    assert found["probability"].tolist() == booster.inplace_predict(features, validate_features=False).tolist()


def test_a_feature_that_the_row_lacks_is_refused_with_the_nearest_name(churn: Path) -> None:
    class Typo(Struct):
        depth: float
        widht: float
        age: float
        speed: float

    with pytest.raises(WeightsError, match=r"(?s)need the feature 'width'.*did you mean `widht`"):
        load(churn, RowCodec(Typo), "xgboost")


def test_a_field_that_the_weights_do_not_use_is_refused(churn: Path) -> None:
    class Wide(Sample, frozen=True):
        color: float

    with pytest.raises(WeightsError, match=r"the field 'color', which the weights do not use"):
        load(churn, RowCodec(Wide), "xgboost")


def test_columns_that_differ_from_the_names_in_the_weights_are_refused(churn: Path) -> None:
    with pytest.raises(WeightsError, match="differs from the names in the weights"):
        load(churn, CODEC, "xgboost", columns=NAMES[::-1])


def test_compute_may_make_the_columns_itself(churn: Path) -> None:
    """With a `compute` function the row is not the matrix: weights take columns by name when they come."""
    features, _ = data(5)
    weights = adapter.load(WeightsFile.whole(churn), config("m"), ())

    made = {name: features[:, index].astype(np.float64) for index, name in enumerate(NAMES)}
    found = weights(made)["probability"]

    assert found.tolist() == load(churn, CODEC, "xgboost")(batch_of(CODEC, samples(features)))["probability"].tolist()


def test_save_keeps_the_trees_that_a_scikit_learn_style_model_predicts_with(tmp_path: Path) -> None:
    import xgboost

    features, labels = data()
    model = xgboost.XGBRegressor(n_estimators=60, learning_rate=1.0, early_stopping_rounds=3, n_jobs=1, random_state=1)
    model.fit(features, labels, eval_set=[(features[::3], 1 - labels[::3])], verbose=False)
    path = tmp_path / "model.ubj"
    adapter.save(model, path)

    found = load(path, CODEC, "xgboost", columns=NAMES)(batch_of(CODEC, samples(features)))

    assert model.best_iteration + 1 < 60
    assert found["value"].tolist() == model.predict(features).tolist()


def test_equal_training_gives_equal_bytes(tmp_path: Path) -> None:
    adapter.save(train_booster(), tmp_path / "a.ubj")
    adapter.save(train_booster(), tmp_path / "b.ubj")

    assert (tmp_path / "a.ubj").read_bytes() == (tmp_path / "b.ubj").read_bytes()


@pytest.mark.parametrize(("model", "name"), [(object(), "model.ubj"), ("booster", "model.bin")])
def test_save_refuses_what_is_no_model_and_other_suffixes(tmp_path: Path, model: object, name: str) -> None:
    with pytest.raises(WeightsError):
        adapter.save(train_booster() if model == "booster" else model, tmp_path / name)


def test_linear_boosters_are_refused(tmp_path: Path) -> None:
    import xgboost

    path, (features, labels) = tmp_path / "model.ubj", data()
    adapter.save(xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(features, label=labels), 2), path)

    with pytest.raises(WeightsError, match="gblinear"):
        load(path, CODEC, "xgboost")


def test_a_value_outside_its_categories_is_that_rows_error(tmp_path: Path) -> None:
    class Customer(Struct):
        plan: str
        charge: float

    path, codec = tmp_path / "model.ubj", RowCodec(Customer)
    adapter.save(train_booster(names=("plan", "charge")), path)
    weights = load(path, codec, "xgboost", categories={"plan": ["basic", "plus"]})

    with pytest.raises(RowError, match=r"`\$.plan` got 'gold', expected one of the categories 'basic', 'plus'"):
        weights(batch_of(codec, [Customer("plus", 1.0), Customer("gold", 1.0)]))["probability"]


def test_a_missing_library_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    libxgboost.library.cache_clear()

    with pytest.raises(MissingLibraryError, match="not installed") as caught:
        libxgboost.library()

    libxgboost.library.cache_clear()
    assert caught.value.exit_status == 3
    assert "xgboost" in str(caught.value.hint)


def test_the_whole_way_from_row_to_answer(churn: Path) -> None:
    class Risk(Struct):
        churn_probability: float

    answers, weights = RowCodec(Risk, floats="FP64"), load(churn, CODEC, "xgboost")
    bound = bind_outputs({"churn_probability": "probability"}, weights.outputs, ("churn_probability",))

    rows: Any = answers.rows(predict(weights, bound, batch_of(CODEC, samples(data(3)[0]))))

    assert [0 <= row.churn_probability <= 1 for row in rows] == [True] * 3
