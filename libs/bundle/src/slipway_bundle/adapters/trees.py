"""Whether stored trees are trees: no library asks before it walks them, and a bad index reads outside memory.

It knows arrays, no format. The invariant: a tree that passes has one root, every child is inside the tree and has one
parent, and every split is on a feature that exists; so a walk from the root ends, inside.
Source: skops `io/exceptions.py` (why tree types are not trusted), scikit-learn #34558.
"""

import numpy as np
from numpy.typing import NDArray


def walk_fault(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    splits: NDArray[np.int64],
    inner: NDArray[np.int64],
    features: int,
) -> str | None:
    """Why a walk from node 0 would not end at a leaf, or None.

    Args:
        left: `[nodes]` index of the left child.
        right: `[nodes]` index of the right child.
        splits: `[nodes]` feature of the split.
        inner: Indices of the nodes that have children.
        features: How many features there are.
    """
    if not len(left):
        return "has no nodes"
    if not len(inner):
        return None
    children = np.concatenate((left[inner], right[inner]))
    if children.min() < 1 or children.max() >= len(left):
        return "has a child outside its nodes"
    if np.bincount(children, minlength=len(left)).max() > 1:
        return "has a node with two parents"
    if splits[inner].min() < 0 or splits[inner].max() >= features:
        return f"splits on a feature that the model does not have, expected below {features}"
    return None
