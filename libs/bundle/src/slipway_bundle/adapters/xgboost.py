"""XGBoost models (`.ubj`, `.json`): saved by the Python package, served by the C library alone.

Loading never imports `xgboost` (see `libxgboost`). The invariant: columns are taken by the feature names in the model,
and the outputs are what the model's own objective means: a margin is never called a probability.
Source: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.adapters.libxgboost import Booster
from slipway_bundle.adapters.xgboost_model import read_model
from slipway_bundle.config import ModelConfig
from slipway_bundle.schema import Arrays, Floats, TensorSpec
from slipway_bundle.tabular import Matrix, choose_columns
from slipway_bundle.weights import LazyOutputs, MissingLibraryError, WeightsError, WeightsFile, refuse_device

FORMAT = "xgboost"
FLOATS: Floats = "FP32"
TAKES_MISSING = True

_PROBABILITY = ("binary:logistic", "reg:logistic")
_LABEL = ("binary:hinge",)
_MARGIN = ("binary:logitraw",)


def save(model: Any, path: Path) -> None:
    """Writes a trained `Booster` or `XGBModel` as `.ubj` (or `.json`, by the name); equal models, equal bytes.

    A scikit-learn style model predicts with its best iteration, so the file holds the trees up to that one only.

    Raises:
        WeightsError: `model` is neither, or `path` has another suffix.
        MissingLibraryError: xgboost is not installed.
    """
    try:
        import xgboost
    except ImportError as error:
        raise MissingLibraryError(f"xgboost is not installed: {error}", hint="install `xgboost-cpu`") from error
    booster = model
    if isinstance(model, xgboost.XGBModel):
        booster = model.get_booster()
        best = booster.attr("best_iteration")
        if best is not None:
            booster = booster[: int(best) + 1]
    if not isinstance(booster, xgboost.Booster):
        raise WeightsError(f"{type(model).__name__!r} is not an xgboost model, expected a Booster or an XGBModel")
    if path.suffix not in {".ubj", ".json"}:
        raise WeightsError(f"the file {path.name!r} has the suffix {path.suffix!r}, expected '.ubj' or '.json'")
    path.write_bytes(booster.save_raw(raw_format=path.suffix[1:]))


def sniff(head: bytes, name: str) -> bool:
    """Whether this is an XGBoost model: an object whose first key is `learner` or `version`, in UBJSON or JSON."""
    if head.startswith(b"{L"):
        return b"\x07learner" in head[:64] or b"\x07version" in head[:64]
    return name.endswith(".json") and head.lstrip()[:1] == b"{" and b'"learner"' in head[:256]


def load(
    file: WeightsFile,
    config: ModelConfig,
    inputs: tuple[TensorSpec, ...],
    *,
    threads: int = 1,
    device: str = "cpu",
) -> "XgboostWeights":
    """Loads a model for rows with these tensors; 20 ms for 100 trees. See `weights.Adapter.load`."""
    refuse_device(device, FORMAT)
    return XgboostWeights(file.read(), config, inputs, threads=threads)


class XgboostWeights:
    """A loaded model: `weights(batch)` gives the outputs that are read from it, `[n]` or `[n, classes]` FP32."""

    outputs: tuple[str, ...]

    def __init__(self, data: bytes, config: ModelConfig, inputs: tuple[TensorSpec, ...], *, threads: int) -> None:
        model = read_model(data)
        self._booster = Booster(data, threads=threads)
        columns = choose_columns(model.names, config.columns, inputs, model.features)
        categories = _merge(config, inputs, dict(zip(columns, model.categories, strict=True)))
        self._matrix = Matrix(inputs, columns, floats=FLOATS, categories=categories)
        self._plan = _plan(model.objective)
        self.outputs = tuple(self._plan)
        probe = np.zeros(
            (1, model.features), dtype=np.float32
        )  # the first call configures the booster: do it in one thread
        self._tails = {margin: self._booster.predict(probe, _CONFIGS[margin])[1][1:] for margin in (False, True)}

    def __call__(self, batch: Arrays) -> Arrays:
        """The outputs of a batch; each is computed when it is read. Raises RowError, PredictError."""
        matrix = self._matrix(batch)
        return LazyOutputs({name: functools.partial(self._output, matrix, name) for name in self.outputs})

    def _output(self, matrix: NDArray[np.float32], name: str) -> NDArray[Any]:
        margin = self._plan[name]
        if not len(matrix):
            values, shape = np.empty(0, dtype=np.float32), (0, *self._tails[margin])
        else:
            values, shape = self._booster.predict(matrix, _CONFIGS[margin])
        if len(shape) == 2 and shape[1] == 1 and name != "probabilities":
            shape = shape[:1]
        values = values.reshape(shape)
        if name != "label":
            return values
        return (values.argmax(axis=1) if values.ndim == 2 else values).astype(np.int64)


def _merge(
    config: ModelConfig, inputs: tuple[TensorSpec, ...], stored: dict[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The categories that the model kept, with those of the configuration for features whose it did not keep."""
    text = {spec.name for spec in inputs if spec.datatype == "BYTES"}
    kept = {name: words for name, words in stored.items() if words and (name in text or not inputs)}
    for name, words in kept.items():
        if config.categories.get(name, words) != words:
            got = list(config.categories[name])
            raise WeightsError(
                f"`categories.{name}` differs from the categories in the weights: got {got}, expected {list(words)}",
                hint="remove it from the model's table: this model keeps its own",
            )
    return config.categories | kept


def _plan(objective: str) -> dict[str, bool]:
    """The closed set of an objective: output -> whether it is read from the margins."""
    if objective in _PROBABILITY:
        return {"probability": False, "margin": True}
    if objective == "multi:softprob":
        return {"probabilities": False, "label": False, "margin": True}
    if objective == "multi:softmax" or objective in _LABEL:
        return {"label": False, "margin": True}
    if objective in _MARGIN:
        return {"margin": True}
    return {"value": False, "margin": True}


def _config(*, margin: bool) -> bytes:
    """The prediction options; 0 to 0 is every tree."""
    options = {"type": int(margin), "training": False, "iteration_begin": 0, "iteration_end": 0}
    return json.dumps(options | {"missing": float("nan"), "strict_shape": True}).encode()


_CONFIGS = {margin: _config(margin=margin) for margin in (False, True)}
