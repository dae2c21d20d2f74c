"""How each input of an ONNX graph is made from a batch.

It runs nothing. The invariant: a tensor goes to the input of its own name in the input's own datatype, or the fields
go to the columns of the graph's one matrix; a float never becomes an integer, and an integer that the graph's type
cannot hold is that row's error.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.config import ModelConfig
from slipway_bundle.row_errors import row_error
from slipway_bundle.row_fields import DATATYPES
from slipway_bundle.schema import Arrays, Floats, TensorSpec
from slipway_bundle.tabular import Matrix, choose_columns
from slipway_bundle.weights import PredictError, WeightsError, nearest

Feed = Callable[[Arrays], NDArray[Any]]

_NUMPY_NAMES = {"float": "float32", "double": "float64"}
_FLOATS = {"tensor(float)": "FP32", "tensor(double)": "FP64"}
_STRING = "tensor(string)"
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "SUTO"}
"""Kind of the graph's input -> kinds of columns that may feed it."""


def make_feeds(graph: Sequence[Any], config: ModelConfig, inputs: tuple[TensorSpec, ...]) -> dict[str, Feed]:
    """Input name -> how to make it from a batch.

    Args:
        graph: onnxruntime's `NodeArg`s: `name`, `type`, `shape`.
        config: The model's table: `columns` and `categories`, for a graph with one matrix.
        inputs: The tensors of the row; empty when a `compute` function makes the arrays.

    Raises:
        WeightsError: Row and graph do not fit.
    """
    for found in graph:
        if not found.shape or isinstance(found.shape[0], int):
            raise WeightsError(
                f"the graph's input {found.name!r} has the shape {found.shape}, expected a free batch axis first",
                hint="export with a dynamic batch axis",
            )
    specs = {spec.name: spec for spec in inputs}
    if len(graph) == 1 and graph[0].name not in specs and len(graph[0].shape) == 2 and (inputs or config.columns):
        return {graph[0].name: _matrix(graph[0], config, inputs)}
    names = [found.name for found in graph]
    for name in specs:
        if name not in names:
            hint = _naming(specs, names) or nearest(name, names) or "remove the field, or rename the graph's input"
            raise WeightsError(f"the graph has no input {name!r}: expected {', '.join(names)}", hint=hint)
    for name in names if inputs else ():
        if name not in specs:
            hint = nearest(name, tuple(specs)) or "add the field, or give the graph's input a default"
            raise WeightsError(
                f"the row has no field {name!r}, which the graph needs: got {', '.join(specs)}", hint=hint
            )
    return {found.name: _column(found, specs.get(found.name)) for found in graph}


def _naming(specs: Mapping[str, TensorSpec], names: Sequence[str]) -> str | None:
    """How to give the row's one tensor the name of the graph's one input, which need not be a Python identifier."""
    if len(specs) != 1 or len(names) != 1:
        return None
    attribute = next(iter(specs)).rpartition(".")[2]
    return f'name the tensor as the graph does: `class Row(Struct, eq=False, rename={{"{attribute}": "{names[0]}"}})`'


def _matrix(found: Any, config: ModelConfig, inputs: tuple[TensorSpec, ...]) -> Feed:
    floats = _FLOATS.get(found.type)
    if floats is None:
        raise WeightsError(f"the graph's matrix {found.name!r} is {found.type}, expected float or double")
    width = found.shape[1] if isinstance(found.shape[1], int) else None
    columns = choose_columns((), config.columns, inputs, width)
    return Matrix(inputs, columns, floats=cast("Floats", floats), categories=config.categories)


def _column(found: Any, spec: TensorSpec | None) -> Feed:
    """One input from the column of its name, in the graph's datatype; a scalar may feed `[n, 1]`."""
    name, tail = found.name, tuple(found.shape[1:])
    dtype = _dtype(found)
    if spec is not None:
        _check_spec(spec, dtype, tail, found.type)
    held = np.iinfo(dtype) if dtype.kind in "iu" else None

    def read(batch: Arrays) -> NDArray[Any]:
        array = batch.get(name)
        if array is None:
            raise PredictError(f"the graph needs the input {name!r}: got {', '.join(map(repr, batch))}")
        if array.dtype.kind not in _KINDS[dtype.kind]:
            raise PredictError(f"the input {name!r} is {array.dtype}, expected {found.type}")
        if dtype.kind == "O":
            array = np.array([_text(word) for word in array.tolist()], dtype=np.object_)
        elif held is not None and array.dtype != dtype and array.size:
            outside = (array < held.min) | (array > held.max)
            if outside.any():
                raise row_error(f"$.{name}", array[outside].flat[0].item(), f"an integer that {dtype.name} can hold")
        array = np.ascontiguousarray(array, dtype=dtype)
        return array.reshape(-1, 1) if tail == (1,) and array.ndim == 1 else array

    return read


def _dtype(found: Any) -> np.dtype[Any]:
    """numpy's type for an input of the graph."""
    if found.type == _STRING:
        return np.dtype(np.object_)
    code = found.type.removeprefix("tensor(").removesuffix(")")
    code = _NUMPY_NAMES.get(code, code)
    if code not in DATATYPES:
        raise WeightsError(f"the graph's input {found.name!r} is {found.type}, expected numbers, bools or strings")
    dtype: np.dtype[Any] = np.dtype(code)
    return dtype


def _check_spec(spec: TensorSpec, dtype: np.dtype[Any], tail: tuple[object, ...], type_name: str) -> None:
    fits = tail in {spec.shape, (1,) if not spec.shape else spec.shape} or (
        len(tail) == len(spec.shape)
        and all(size == want or not isinstance(want, int) for size, want in zip(spec.shape, tail, strict=True))
    )
    if not fits:
        raise WeightsError(
            f"the field {spec.name!r} has the shape {list(spec.dimensions)}, expected {list(tail)} as the graph's input"
        )
    kind = "f" if spec.is_float else {"BOOL": "b", "BYTES": "U" if spec.text else "-"}.get(spec.datatype, "i")
    if kind not in _KINDS[dtype.kind]:
        raise WeightsError(f"the field {spec.name!r} is {spec.datatype}, expected {type_name} as the graph's input")


def _text(word: str | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else word
