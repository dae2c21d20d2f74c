"""One row's array to its bytes: checked in every case, padded where the row type has buckets.

It packs nothing else. The invariants: every value is finite and of the declared datatype; a padded array holds the
row's own values at its start and zeros behind them on each axis. Source: `docs/service-api.md`.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.row_errors import RowError, row_error
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.row_sizes import filled, make_fit
from slipway_bundle.schema import TensorSpec

VIEW_BYTES: Final = 16 * 1024
"""Smaller arrays are copied: that costs no more than a view, and the caller may change them at once."""


def make_array(spec: TensorSpec) -> Callable[[object], NDArray[Any]]:
    """A function that checks one row's array and returns it, little-endian; RowError for another dtype or a NaN.

    A shape is checked only where it is fixed; `row_sizes` checks one that the row chooses.
    """
    dtype, path, shape = np.dtype(DTYPES[spec.datatype]), f"$.{spec.name}", None if spec.is_keyed else spec.shape
    expected = f"a {spec.datatype} array of shape {list(spec.dimensions)}"

    def checked(value: object) -> NDArray[Any]:
        if not isinstance(value, np.ndarray):
            raise row_error(path, value, expected)
        if (shape is not None and value.shape != shape) or value.dtype != dtype:
            got = f"shape {list(value.shape)} of {value.dtype}"
            raise RowError(f"`{path}` got {got}, expected {expected}", path=path, got=got, expected=expected)
        if spec.is_float and not np.isfinite(value).all():
            place = np.argwhere(~np.isfinite(value))[0].tolist()
            raise row_error(path + "".join(f"[{i}]" for i in place), float(value[tuple(place)]), "a finite number")
        return value.astype(dtype, copy=False)

    return checked


def make_raw(spec: TensorSpec) -> Callable[[object], bytes]:
    """A function from one row's array to its bytes in C order. Raises RowError as `make_array`, or for its shape."""
    checked = make_array(spec)
    return lambda value: checked(value).tobytes()


def make_view(spec: TensorSpec) -> Callable[[object], bytes | memoryview]:
    """As `make_raw`; a large contiguous array is not copied, its bytes are a read-only view of the caller's memory."""
    checked = make_array(spec)
    return lambda value: _view(checked(value))


def make_keyed(spec: TensorSpec) -> Callable[[object], tuple[bytes | memoryview, tuple[int, ...]]]:
    """A function from one row's array to its bytes, padded with zeros at the ends, and the sizes it chose."""
    checked, fit, dtype = make_array(spec), make_fit(spec), np.dtype(DTYPES[spec.datatype])

    def keyed(value: object) -> tuple[bytes | memoryview, tuple[int, ...]]:
        array = checked(value)
        sizes = fit(array.shape)
        shape = filled(spec, iter(sizes))
        if shape == array.shape:
            return _view(array), sizes
        padded = np.zeros(shape, dtype=dtype)
        padded[tuple(map(slice, array.shape))] = array
        return _view(padded), sizes

    return keyed


def _view(array: NDArray[Any]) -> bytes | memoryview:
    if array.nbytes < VIEW_BYTES or not array.flags.c_contiguous:
        return array.tobytes()
    return array.data.cast("B").toreadonly()
