"""The C library inside the xgboost wheel, without the Python package around it.

Importing `xgboost` costs seconds and 100 MB in every process (numpy, scipy and pandas glue); prediction needs four
functions of the documented C API. It knows no schema. The invariant: every call is checked, no pointer of the
library outlives the call that returned it, and each thread has its own proxy matrix, because a proxy is state (and
making a new one costs 22 µs a call).
Source: https://xgboost.readthedocs.io/en/stable/c.html ("Booster", "Prediction").
"""

import ctypes
import functools
import importlib.util
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.weights import MissingLibraryError, PredictError, WeightsFormatError

_HINT = "install the extra: `uv add 'slipway-bundle[xgboost]'` (the wheel is xgboost-cpu)"
_FILES = {"darwin": "libxgboost.dylib", "win32": "xgboost.dll"}
_DISTRIBUTED = "libxgboost.so"


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library. Raises MissingLibraryError when it is not installed or does not load."""
    found = importlib.util.find_spec("xgboost")
    name = _FILES.get(sys.platform, _DISTRIBUTED)
    paths = [Path(place, "lib", name) for place in (found.submodule_search_locations or ())] if found else []
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise MissingLibraryError(f"the xgboost library is not installed: no {name!r} in the package", hint=_HINT)
    try:
        lib = ctypes.CDLL(str(path))
        lib.XGBGetLastError.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:
        raise MissingLibraryError(
            f"{str(path)!r} does not load: {error}", hint="is an OpenMP runtime installed?"
        ) from error
    return lib


def last_error(lib: ctypes.CDLL) -> str:
    """The message of the call that failed in this thread, its first line without the library's source position."""
    text: str = lib.XGBGetLastError().decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line and not line.startswith("Stack trace")]
    return lines[0].rpartition(": ")[2] if lines else "no message"


class Booster:
    """One model in the library's memory. Prediction may be called from several threads at once.

    Args:
        data: The bytes of a `.ubj` or `.json` model.
        threads: OpenMP threads of one prediction.

    Raises:
        WeightsFormatError: The library does not read the bytes.
        MissingLibraryError: There is no library.
    """

    def __init__(self, data: bytes, *, threads: int) -> None:
        self._lib = library()
        self._handle = ctypes.c_void_p()
        self._local = threading.local()
        self._made(self._lib.XGBoosterCreate(None, ctypes.c_uint64(0), ctypes.byref(self._handle)))
        self._made(self._lib.XGBoosterLoadModelFromBuffer(self._handle, data, ctypes.c_uint64(len(data))))
        self._made(self._lib.XGBoosterSetParam(self._handle, b"nthread", str(threads).encode()))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._lib.XGBoosterFree(self._handle)

    def predict(self, matrix: NDArray[np.float32], config: bytes) -> tuple[NDArray[np.float32], tuple[int, ...]]:
        """One prediction: the values of all rows, flat, and their shape. `matrix` is `[n, k]`, C-contiguous.

        Raises:
            PredictError: The library refused the batch.
        """
        try:
            call: _Call = self._local.call
        except AttributeError:
            call = self._local.call = _Call(self._lib)
        interface = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (
            matrix.__array_interface__["data"][0],
            *matrix.shape,
        )
        if self._lib.XGBoosterPredictFromDense(self._handle, interface, config, call.proxy, *call.out):
            raise PredictError(f"xgboost refused the batch: {last_error(self._lib)}")
        shape = tuple(call.shape[: call.dimensions.value])
        size = 4
        for length in shape:
            size *= length
        # the buffer belongs to the booster and this thread: copy it before anything else runs here
        return np.frombuffer(bytearray(ctypes.string_at(call.result, size)), dtype=np.float32), shape

    def _made(self, status: int) -> None:
        if status:
            raise WeightsFormatError(f"xgboost does not read the model: {last_error(self._lib)}")


class _Call:
    """What one thread needs for a call: a proxy matrix and the places that the library writes to."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self._lib = lib
        self.proxy = ctypes.c_void_p()
        if lib.XGProxyDMatrixCreate(ctypes.byref(self.proxy)):
            raise PredictError(f"xgboost made no proxy matrix: {last_error(lib)}")
        self.shape = ctypes.POINTER(ctypes.c_uint64)()
        self.dimensions = ctypes.c_uint64()
        self.result = ctypes.POINTER(ctypes.c_float)()
        self.out = (ctypes.byref(self.shape), ctypes.byref(self.dimensions), ctypes.byref(self.result))

    def __del__(self) -> None:
        if getattr(self, "proxy", None):
            self._lib.XGDMatrixFree(self.proxy)
