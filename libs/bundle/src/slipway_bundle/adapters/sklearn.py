"""scikit-learn estimators as canonical skops files: no pickle, an explicit list of types, checked trees.

Rows travel as FP64, because that is what estimators compute in. The invariant: nothing is constructed whose type is
not on a list, columns are taken by name, and the outputs are the estimator's own methods under fixed names.
Source: skops `io`, scikit-learn "Model persistence".
"""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.adapters import skops_file
from slipway_bundle.adapters.sklearn_checks import TRUSTED, check_trees, check_version, load_skops, refuse_untrusted
from slipway_bundle.config import ModelConfig
from slipway_bundle.schema import Arrays, Floats, TensorSpec
from slipway_bundle.tabular import Matrix, choose_columns
from slipway_bundle.weights import (
    LazyOutputs,
    PredictError,
    WeightsError,
    WeightsFile,
    WeightsFormatError,
    refuse_device,
    refuse_missing,
)

FORMAT = "sklearn"
FLOATS: Floats = "FP64"
TAKES_MISSING = False

_BROKEN = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    ImportError,
    RuntimeError,
    EOFError,
    MemoryError,
)
"""What skops and `__setstate__` raise on a file that is not what it says."""


def save(model: Any, path: Path) -> None:
    """Writes a fitted estimator or pipeline; the same model gives the same bytes in every process.

    Raises:
        WeightsError: It is not an estimator, or has a type that may not be loaded again.
        MissingLibraryError: scikit-learn or skops is not installed.
    """
    skops = load_skops()
    if not hasattr(model, "get_params"):
        raise WeightsError(f"{type(model).__name__!r} is not a scikit-learn estimator")
    data = skops_file.canonical(skops.dumps(model))
    refuse_untrusted(skops, data, WeightsError)
    path.write_bytes(data)


def sniff(head: bytes, name: str) -> bool:
    """Whether this is a skops file: a zip whose first member is the schema, or a zip of that suffix."""
    return head.startswith(b"PK\x03\x04") and (head[30:41] == b"schema.json" or name.endswith(".skops"))


def load(
    file: WeightsFile,
    config: ModelConfig,
    inputs: tuple[TensorSpec, ...],
    *,
    threads: int = 1,
    device: str = "cpu",
) -> "SklearnWeights":
    """Loads an estimator for rows with these tensors. See `weights.Adapter.load`."""
    refuse_device(device, FORMAT)
    refuse_missing(inputs, "sklearn")
    skops, data = load_skops(), file.read()
    _, schema = skops_file.open_file(data)
    try:
        refuse_untrusted(skops, data, WeightsFormatError)
        check_version(skops_file.find_versions(schema))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions are checked above, with a message of ours
            model = skops.loads(data, trusted=list(TRUSTED))
    except _BROKEN as error:
        raise WeightsFormatError(f"{config.file!r} is not a scikit-learn model: {error}") from error
    if not hasattr(model, "get_params") or not hasattr(model, "predict"):
        raise WeightsError(f"{type(model).__name__!r} in {config.file!r} does not predict, expected an estimator")
    check_trees(model)
    model.set_params(**{key: threads for key in model.get_params() if key.endswith("n_jobs")})
    return SklearnWeights(model, config, inputs)


class SklearnWeights:
    """A loaded estimator: `weights(batch)` gives the outputs that are read from it, FP64 or the labels' own type."""

    outputs: tuple[str, ...]

    def __init__(self, model: Any, config: ModelConfig, inputs: tuple[TensorSpec, ...]) -> None:
        names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
        columns = choose_columns(names, config.columns, inputs, getattr(model, "n_features_in_", None))
        self._matrix = Matrix(inputs, columns, floats=FLOATS, categories=config.categories)
        self._model = model
        self._plan = _plan(model)
        self.outputs = tuple(self._plan)
        try:
            self._predict(np.zeros((1, len(columns))), self.outputs[0])
        except PredictError as error:
            raise WeightsError(
                f"{config.file!r} does not predict from a matrix of {len(columns)} numbers: {error.message}",
                hint="train the pipeline on numbers in columns; categories become indices by `categories`",
            ) from error

    def __call__(self, batch: Arrays) -> Arrays:
        """The outputs of a batch; each is computed when it is read. Raises RowError, PredictError."""
        matrix = self._matrix(batch)
        return LazyOutputs({name: functools.partial(self._predict, matrix, name) for name in self.outputs})

    def _predict(self, matrix: NDArray[np.float64], name: str) -> NDArray[Any]:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "X does not have valid feature names")  # they are, see Matrix
                found = np.asarray(self._plan[name](matrix))
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise PredictError(f"scikit-learn refused the batch: {error}") from error
        return found


def _plan(model: Any) -> dict[str, Callable[[NDArray[Any]], Any]]:
    """The closed set of an estimator: output -> the method that gives it. `probability` is of the second class."""
    plan: dict[str, Callable[[NDArray[Any]], Any]] = {}
    classes = getattr(model, "classes_", None)
    if isinstance(classes, np.ndarray) and classes.ndim == 1 and hasattr(model, "predict_proba"):
        if len(classes) == 2:
            plan["probability"] = lambda matrix: model.predict_proba(matrix)[:, 1]
        plan["probabilities"] = model.predict_proba
    if hasattr(model, "decision_function"):
        plan["margin"] = model.decision_function
    plan["label" if classes is not None or hasattr(model, "fit_predict") else "value"] = model.predict
    return plan
