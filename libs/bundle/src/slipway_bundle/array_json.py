"""Array fields in JSON: nested lists of numbers, both ways, as hooks for msgspec.

It checks no shape and no bound: the row codec does. The invariant: the dtype is the annotation's, never guessed from
the numbers. Source: https://jcristharif.com/msgspec/extending.html.
"""

from typing import Any, get_args

import numpy as np

__all__ = ["decode_array", "encode_array"]

_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
"""numpy's kind of a dtype -> the kinds of JSON numbers that it takes; a float is no integer, text is no number."""

_WORDS = {"f": "numbers", "i": "integers", "u": "integers", "b": "booleans"}


def decode_array(kind: Any, value: object) -> Any:  # msgspec calls it with any type that it does not know
    """Nested lists as an array of the annotated dtype; a float too large for it is infinite, for the codec to refuse.

    Raises:
        ValueError: The lists are ragged, or hold something else than the dtype's kind of number in its range; msgspec
            reports it with the path.
    """
    arguments = get_args(getattr(kind, "__value__", kind))
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError("Expected lists of equal length") from error
    if len(arguments) != 2 or not get_args(arguments[1]):
        return array
    dtype = np.dtype(get_args(arguments[1])[0])
    if array.dtype.kind not in _KINDS[dtype.kind] and array.size:
        raise ValueError(f"Expected lists of {_WORDS[dtype.kind]}")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise ValueError(f"Expected integers that {dtype.name} can hold")
    return cast


def encode_array(value: object) -> object:
    """An array as nested lists.

    Raises:
        NotImplementedError: the value is no array; msgspec then reports its type.
    """
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"values of type {type(value).__name__!r} have no JSON form")
