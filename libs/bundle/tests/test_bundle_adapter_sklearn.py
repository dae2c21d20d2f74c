"""scikit-learn estimators: canonical bytes, an explicit list of types, outputs under fixed names."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapter_models import NAMES, Sample, batch_of, data, load, samples
from msgspec import Struct
from sklearn.cluster import KMeans  # type: ignore[import-untyped]  # no stubs
from sklearn.ensemble import (  # type: ignore[import-untyped]  # no stubs
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge  # type: ignore[import-untyped]  # no stubs
from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]  # no stubs
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]  # no stubs
from sklearn.preprocessing import FunctionTransformer, StandardScaler  # type: ignore[import-untyped]  # no stubs

from slipway_bundle.adapters import sklearn as adapter
from slipway_bundle.adapters import skops_file
from slipway_bundle.rows import RowCodec
from slipway_bundle.weights import PredictError, WeightsError, WeightsFormatError

CODEC = RowCodec(Sample, floats="FP64", missing=False)
TOLERANCE = 1e-12
"""Between a batch of 1 and of 64: matrix products add in another order."""


def fitted(model: Any, *, names: bool = True) -> Any:
    features, labels = data()
    model.fit(features.astype(np.float64), labels)
    if names:  # as a DataFrame would have left them
        model.feature_names_in_ = np.array(NAMES, dtype=object)
    return model


def forest() -> Any:
    return fitted(RandomForestClassifier(5, random_state=0, n_jobs=-1))


def saved(path: Path, model: Any) -> Path:
    adapter.save(model, path / "model.skops")
    return path / "model.skops"


@pytest.mark.parametrize(
    ("model", "outputs", "first"),
    [
        (LogisticRegression(), ("probability", "probabilities", "margin", "label"), "predict_proba"),
        (RandomForestClassifier(5, random_state=0), ("probability", "probabilities", "label"), "predict_proba"),
        (
            HistGradientBoostingClassifier(max_iter=5, random_state=0),
            ("probability", "probabilities", "margin", "label"),
            "predict_proba",
        ),
        (
            VotingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(2, random_state=0))]),
            ("label",),
            "predict",
        ),
        (GradientBoostingRegressor(n_estimators=5, random_state=0), ("value",), "predict"),
        (Ridge(), ("value",), "predict"),
        (IsolationForest(n_estimators=5, random_state=0), ("margin", "label"), "decision_function"),
        (KMeans(3, random_state=0, n_init=1), ("label",), "predict"),
    ],
)
def test_outputs_are_the_estimators_own_methods(
    tmp_path: Path, model: Any, outputs: tuple[str, ...], first: str
) -> None:
    model = fitted(model, names=False)
    features = data(9)[0].astype(np.float64)
    expected = getattr(model, first)(features)

    weights = load(saved(tmp_path, model), CODEC, "sklearn", columns=NAMES)
    found = weights(batch_of(CODEC, samples(features)))

    assert weights.outputs == outputs
    assert found[outputs[0]].tolist() == (expected[:, 1] if outputs[0] == "probability" else expected).tolist()


def test_columns_go_by_the_names_of_training(tmp_path: Path) -> None:
    class Permuted(Struct):
        speed: float
        width: float
        depth: float
        age: float

    path, features = saved(tmp_path, forest()), data(20)[0]
    codec = RowCodec(Permuted, floats="FP64")

    straight = load(path, CODEC, "sklearn")(batch_of(CODEC, samples(features)))["probability"]
    permuted = load(path, codec, "sklearn")(batch_of(codec, samples(features[:, [3, 1, 0, 2]], Permuted)))[
        "probability"
    ]

    assert permuted.tolist() == straight.tolist()


@pytest.mark.parametrize(
    "make", [forest, lambda: fitted(make_pipeline(StandardScaler(), LogisticRegression()), names=False)]
)
def test_a_batch_of_one_equals_a_batch_of_64_within_the_tolerance(tmp_path: Path, make: Any) -> None:
    rows = samples(data(64)[0])
    weights = load(saved(tmp_path, make()), CODEC, "sklearn", columns=NAMES)

    together = weights(batch_of(CODEC, rows))["probability"]

    alone = [weights(batch_of(CODEC, [row]))["probability"].item() for row in rows]
    assert together.tolist() == pytest.approx(alone, rel=0, abs=TOLERANCE)


def test_string_labels_stay_strings(tmp_path: Path) -> None:
    features, labels = data()
    model = LogisticRegression().fit(features, np.where(labels == 1, "leave", "stay"))

    found = load(saved(tmp_path, model), CODEC, "sklearn", columns=NAMES)(batch_of(CODEC, samples(features[:9])))

    assert found["label"].tolist() == model.predict(features[:9].astype(np.float64)).tolist()


@pytest.mark.e2e
def test_the_same_training_gives_the_same_bytes_in_every_process_and_hash_seed(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from slipway_bundle.adapters import sklearn
draw = np.random.default_rng(0)
x = draw.normal(size=(80, 3)); y = (x[:, 0] > 0).astype(int)
forest = RandomForestClassifier(3, random_state=0)
boost = HistGradientBoostingClassifier(max_iter=2, random_state=0)
model = make_pipeline(StandardScaler(), VotingClassifier([("forest", forest), ("boost", boost)])).fit(x, y)
model.slipway_words = {"alpha", "beta", "gamma", "delta", "epsilon"}
sklearn.save(model, Path(sys.argv[1]))
"""
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script, str(tmp_path / seed)]
        subprocess.run(command, env=environment, timeout=100, check=True)

    first, second = (tmp_path / "1").read_bytes(), (tmp_path / "2").read_bytes()

    assert first == second
    assert skops_file.canonical(first) == first


def test_canonical_files_hold_plain_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(saved(tmp_path, forest())) as archive:
        members = archive.infolist()

    assert [member.filename for member in members[:2]] == ["schema.json", "000000.npy"]
    assert {(member.compress_type, member.date_time) for member in members} == {(0, (1980, 1, 1, 0, 0, 0))}


def rewritten(data: bytes, change: Any, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    members, schema = skops_file.open_file(data)
    members["schema.json"] = json.dumps(change(schema)).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def call_os(schema: Any) -> Any:
    """`os.system` in the place of the estimator."""
    return schema | {
        "__class__": "system",
        "__module__": "posix",
        "__loader__": "FunctionNode",
        "content": "posix.system",
    }


def test_a_type_that_is_not_on_the_list_is_never_constructed(tmp_path: Path) -> None:
    path = saved(tmp_path, forest())
    path.write_bytes(rewritten(path.read_bytes(), call_os))

    with pytest.raises(
        WeightsFormatError, match=r"types that may not be loaded: posix.system|is not a scikit-learn model"
    ):
        load(path, CODEC, "sklearn")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (KNeighborsClassifier(), "KDTree"),
        (make_pipeline(FunctionTransformer(np.log1p), FunctionTransformer(len), Ridge()), "len"),
    ],
)
def test_save_refuses_what_load_would_refuse(tmp_path: Path, model: Any, said: str) -> None:
    if isinstance(model, KNeighborsClassifier):
        model = fitted(model)

    with pytest.raises(WeightsError, match=said):
        saved(tmp_path, model)


def test_save_refuses_what_is_no_estimator(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a scikit-learn estimator"):
        saved(tmp_path, {"a": 1})


def test_another_minor_version_of_scikit_learn_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, forest())
    text = json.dumps(skops_file.open_file(path.read_bytes())[1])
    current = next(iter(skops_file.find_versions(json.loads(text))))
    path.write_bytes(rewritten(path.read_bytes(), lambda _: json.loads(text.replace(current, "1.0.2"))))

    with pytest.raises(WeightsError, match=r"trained with scikit-learn 1.0.2, expected"):
        load(path, CODEC, "sklearn")


def test_another_patch_version_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path, forest())
    text = json.dumps(skops_file.open_file(path.read_bytes())[1])
    current = next(iter(skops_file.find_versions(json.loads(text))))
    other = ".".join([*current.split(".")[:2], "999"])
    path.write_bytes(rewritten(path.read_bytes(), lambda _: json.loads(text.replace(current, other))))

    load(path, CODEC, "sklearn")

    assert other in caplog.text


@pytest.mark.parametrize("size", [0, 4, 40, 400, -400, -40, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = saved(tmp_path, forest())
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(WeightsFormatError):
        load(path, CODEC, "sklearn")


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = saved(tmp_path, forest())
    path.write_bytes(rewritten(path.read_bytes(), lambda schema: schema, compression=zipfile.ZIP_DEFLATED))

    with pytest.raises(WeightsFormatError, match="compressed"):
        load(path, CODEC, "sklearn")


@pytest.mark.parametrize(
    "make", [forest, lambda: fitted(HistGradientBoostingClassifier(max_iter=3, random_state=0))], ids=["forest", "hist"]
)
@pytest.mark.parametrize("field", ["left", "feature"])
def test_a_tree_with_an_index_outside_itself_is_refused(tmp_path: Path, make: Any, field: str) -> None:
    """scikit-learn walks such a tree into a segmentation fault."""
    path = saved(tmp_path, make())
    members, _ = skops_file.open_file(path.read_bytes())
    for name, content in members.items():
        if name.endswith(".npy") and (b"left" in content[:400]):
            nodes = np.load(io.BytesIO(content))
            key = next(key for key in nodes.dtype.names if key.startswith(field))
            nodes[key][0] = 10**6
            buffer = io.BytesIO()
            np.save(buffer, nodes)
            members[name] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    with pytest.raises(WeightsFormatError, match="a tree of the model"):
        load(path, CODEC, "sklearn")


def test_missing_values_are_refused_at_load(tmp_path: Path) -> None:
    class Partial(Struct):
        depth: float | None
        width: float
        age: float
        speed: float

    with pytest.raises(WeightsError, match="takes no missing values, but 'depth' may be missing"):
        load(saved(tmp_path, forest()), RowCodec(Partial, floats="FP64"), "sklearn")


def test_an_estimator_that_wants_a_data_frame_is_refused_at_load(tmp_path: Path) -> None:
    from sklearn.compose import ColumnTransformer  # type: ignore[import-untyped]  # no stubs

    model = fitted(make_pipeline(ColumnTransformer([("scale", StandardScaler(), [0, 1, 2, 3])]), Ridge()), names=False)
    model[0].transformers_ = [("scale", model[0].named_transformers_["scale"], ["depth", "width", "age", "speed"])]

    with pytest.raises(WeightsError, match="does not predict from a matrix of 4 numbers"):
        load(saved(tmp_path, model), CODEC, "sklearn", columns=NAMES)


def test_a_batch_that_scikit_learn_refuses_is_an_error_with_its_words(tmp_path: Path) -> None:
    weights = load(saved(tmp_path, fitted(LogisticRegression())), CODEC, "sklearn")
    found = weights({name: np.array([np.nan]) for name in NAMES})

    with pytest.raises(PredictError, match="NaN"):
        found["probability"]


def test_parallel_estimators_are_held_to_the_given_threads(tmp_path: Path) -> None:
    weights: Any = load(saved(tmp_path, forest()), CODEC, "sklearn")

    assert weights._model.n_jobs == 1


def test_the_identity_of_constants_does_not_reach_the_bytes(tmp_path: Path) -> None:
    """Which equal numbers are one object differs between processes."""
    path = saved(tmp_path, forest())

    def number(node: Any) -> Any:
        if isinstance(node, list):
            return [number(item) for item in node]
        if not isinstance(node, dict):
            return node
        extra = {"__id__": id(node)} if node.get("__loader__") == "JsonNode" else {}
        return {key: number(value) for key, value in node.items()} | extra

    renumbered = rewritten(path.read_bytes(), number)

    assert renumbered != path.read_bytes()
    assert skops_file.canonical(renumbered) == path.read_bytes()
