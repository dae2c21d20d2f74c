"""Whether the trees of an XGBoost model are trees: what the C library does not ask before it walks them.

It decodes nothing and knows one tree at a time. The invariant: a tree that passes has one root, every other node has
one parent, splits are on features that exist, and every array is as long as the walk will read it.
Source: XGBoost `src/tree/tree_model.cc` (`LoadModelImpl`), `src/tree/multi_target_tree_model.cc`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.adapters.trees import walk_fault
from slipway_bundle.weights import WeightsFormatError

_SMALL = 2**24
"""More features, classes or categories than this are a lie; the library would allocate them."""


_NODE_ARRAYS = (
    "left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left", "split_type",
    "loss_changes", "sum_hessian",
)  # fmt: skip
_NO_CHILD = -1
_NO_PARENT = (2**31 - 1, -1)
"""What a root has for a parent (`RegTree::kInvalidNodeId`, written with its sign bit cleared)."""


def tree_fault(tree: dict[str, Any], features: int, groups: int) -> str | None:
    """Why the library must not walk this tree, or None."""
    parameters = tree["tree_param"]
    nodes, width = len(tree["left_children"]), count(parameters.get("size_leaf_vector", "1"))
    if nodes == 0 or count(parameters["num_nodes"]) != nodes:
        return f"has {nodes} nodes, expected {parameters['num_nodes']}"
    if count(parameters["num_feature"]) != features:
        return f"has {parameters['num_feature']} features, expected {features}"
    if width > 1 and width != groups:
        return f"has leaves of {width} values, expected {groups}"
    if len(tree["base_weights"]) != nodes * max(1, width):
        return f"has {len(tree['base_weights'])} weights, expected {nodes * max(1, width)}"
    for key in _NODE_ARRAYS:
        if len(tree[key]) != nodes:
            return f"has {len(tree[key])} `{key}`, expected {nodes}"
    if width > 1:  # a leaf of several values keeps, as its right child, the index of its values
        leaves = integers(tree["right_children"])[integers(tree["left_children"]) == _NO_CHILD]
        if leaves.min(initial=0) < 0 or (leaves.max(initial=0) + 1) * width > len(tree["leaf_weights"]):
            return "has a leaf without values"
    return _walk_fault(tree, nodes, features) or _category_fault(tree, nodes)


def _walk_fault(tree: dict[str, Any], nodes: int, features: int) -> str | None:
    left, right = integers(tree["left_children"]), integers(tree["right_children"])
    parents, inner = integers(tree["parents"]), np.flatnonzero(left != _NO_CHILD)
    if ((parents < 0) | (parents >= nodes))[1:].any() or parents[0] not in _NO_PARENT:
        return "has a parent outside its nodes"
    fault = walk_fault(left, right, integers(tree["split_indices"]), inner, features)
    if fault is None and (parents[np.concatenate((left[inner], right[inner]))] != np.tile(inner, 2)).any():
        return "has a child that names another parent"
    return fault


def _category_fault(tree: dict[str, Any], nodes: int) -> str | None:
    """Why the categorical splits of a tree are not whole, or None."""
    at, starts, sizes, found = (
        integers(tree.get(key, ()))
        for key in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    if not len(at) == len(starts) == len(sizes):
        return "has categories for another number of nodes"
    split_type = integers(tree.get("split_type", ()))
    if (np.flatnonzero(split_type == 1).tolist() if len(split_type) else []) != sorted(at.tolist()):
        return "has categories for other nodes than those that split on one"
    if len(at) and (
        (at < 0).any() or (at >= nodes).any() or (np.diff(at) <= 0).any() or (starts < 0).any() or (sizes < 0).any()
    ):
        return "has categories for a node that it does not have"
    if (starts + sizes > len(found)).any():
        return "has categories beyond their end"
    return "has a category that no data has" if ((found < 0) | (found >= _SMALL)).any() else None


def count(text: object) -> int:
    """A parameter that counts; XGBoost stores them as decimal text."""
    value = int(text) if isinstance(text, str) and text.isascii() else -1
    if not 0 <= value < _SMALL:
        raise WeightsFormatError(f"the model counts {text!r}, expected a number below {_SMALL}")
    return value


def integers(values: Any) -> NDArray[np.int64]:
    """A list or typed array as integers. Raises ValueError for anything else."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
        raise ValueError("integers")
    return array.astype(np.int64)
