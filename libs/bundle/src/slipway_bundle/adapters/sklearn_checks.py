"""What a scikit-learn file may hold: the types beside skops' own list, and trees that are trees.

skops trusts public estimators; the types here are what fitted common estimators hold besides. The invariant: a type is
listed only when its content cannot lead outside memory, or when that content is checked here before the first
prediction. Left out on purpose: `KDTree`, `BallTree` and sparse matrices (raw indices that nobody checks).
Source: skops `io/_trusted_types.py`, `io/exceptions.py`.
"""

import importlib
import logging
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from slipway_bundle.adapters.trees import walk_fault
from slipway_bundle.weights import MissingLibraryError, WeightsError, WeightsFormatError

logger = logging.getLogger(__name__)

_TREE = "sklearn.tree._tree.Tree"
_PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"

_ENSEMBLES = ("sklearn.ensemble._forest", "sklearn.ensemble._gb", "sklearn.ensemble._hist_gradient_boosting")

TRUSTED: frozenset[str] = frozenset(
    (
        _TREE,
        _PREDICTOR,
        "numpy.dtype",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.utils._bunch.Bunch",
    )
)
"""In addition to what skops trusts by itself."""


def load_skops() -> ModuleType:
    """The module `skops.io`; importing it takes seconds. Raises MissingLibraryError when it is not installed."""
    try:
        return importlib.import_module("skops.io")
    except ImportError as error:
        hint = "install the extra: `uv add 'slipway-bundle[sklearn]'`"
        raise MissingLibraryError(f"scikit-learn with skops is not installed: {error}", hint=hint) from error


def refuse_untrusted(skops: ModuleType, data: bytes, kind: type[WeightsError] | type[WeightsFormatError]) -> None:
    """Raises `kind` when a skops file holds a type that neither skops nor `TRUSTED` lists."""
    unknown = [name for name in skops.get_untrusted_types(data=data) if name not in TRUSTED]
    if unknown:
        raise kind(
            f"the model holds types that may not be loaded: {', '.join(unknown)}",
            hint="use estimators of scikit-learn itself (neighbours with `algorithm='brute'`), or export to ONNX",
        )


def check_version(versions: set[str]) -> None:
    """Raises WeightsError when a model comes from another minor version; a patch version is a warning."""
    installed = str(importlib.import_module("sklearn").__version__)
    for version in sorted(versions):
        if version.split(".")[:2] != installed.split(".")[:2]:
            raise WeightsError(
                f"the model was trained with scikit-learn {version}, expected {installed} as installed",
                hint="install the version of training, or train again: results between versions are not promised",
            )
        if version != installed:
            logger.warning("scikit-learn %s loads a model of %s", installed, version)


def check_trees(model: object) -> None:
    """Walks everything that a loaded model holds and checks each tree in it.

    Raises:
        WeightsFormatError: A tree has an index that leads outside it, or outside the features of its estimator.
    """
    seen: set[int] = set()
    waiting: list[tuple[object, int]] = [(model, 0)]
    while waiting:
        item, features = waiting.pop()
        if id(item) in seen or isinstance(item, str | bytes | int | float | None):
            continue
        seen.add(id(item))
        module, name = type(item).__module__, type(item).__name__
        if not (
            features and module == "sklearn.tree._classes"
        ):  # an ensemble hands its own rows to its trees, unchecked
            features = getattr(item, "n_features_in_", features)
        check = _CHECKS.get(f"{module}.{name}")
        why = check(item, features) if check is not None else None
        if why is not None:
            raise WeightsFormatError(f"a tree of the model {why}")
        if not module.startswith(_ENSEMBLES) and hasattr(item, "n_features_in_") and module != "sklearn.tree._classes":
            features = 0
        waiting.extend((part, features) for part in _parts(item))


def _parts(item: object) -> Iterable[object]:
    """What an object holds."""
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, list | tuple | set | frozenset):
        return item
    if isinstance(item, np.ndarray):
        return item.ravel().tolist() if item.dtype == np.object_ else ()
    values: Iterable[object] = getattr(item, "__dict__", {}).values()
    return values


def _tree_fault(tree: Any, features: int) -> str | None:
    left = tree.children_left.astype(np.int64)
    inner = np.flatnonzero(left != -1)
    return walk_fault(left, tree.children_right.astype(np.int64), tree.feature.astype(np.int64), inner, features)


def _predictor_fault(predictor: Any, features: int) -> str | None:
    nodes = predictor.nodes
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    bitsets = nodes["bitset_idx"][inner][nodes["is_categorical"][inner] != 0]
    if len(bitsets) and bitsets.max() >= len(predictor.raw_left_cat_bitsets):
        return "has a category set outside its own"
    left, right, splits = (nodes[key].astype(np.int64) for key in ("left", "right", "feature_idx"))
    return walk_fault(left, right, splits, inner, features)


_CHECKS = {_TREE: _tree_fault, _PREDICTOR: _predictor_fault}
