"""The matrix of a tabular model: columns of a batch, by feature name, as `[n, k]` in the order of training.

It predicts nothing. The invariant: a feature takes its column by name and never by position, because a matrix with
permuted columns predicts without an error (0.89 became 0.10); a category is its index in the order of training.
A batch that is packed in the right order and type already is the matrix, and is not copied.
Source: `docs/service-api.md`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.row_batch import Packed
from slipway_bundle.row_errors import row_error
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.schema import Arrays, Floats, TensorSpec
from slipway_bundle.weights import PredictError, WeightsError, nearest

logger = logging.getLogger(__name__)

_EXACT = 2**24
"""The largest range in which FP32 holds every integer."""

Column = Callable[[Arrays], Any]


class Matrix:
    """Assembles `[n, k]` of one floating datatype from a batch.

    Args:
        inputs: The tensors of the row; empty when a `compute` function makes the columns, which are then found by
            name when they come.
        columns: The features in the order of training; a vector field `x` of length 3 has `x.0`, `x.1`, `x.2`.
        floats: The datatype of the matrix.
        categories: Field -> its values in the order of training.

    Raises:
        WeightsError: A feature has no field, a field no feature, or a field cannot become a number.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        columns: Sequence[str],
        *,
        floats: Floats,
        categories: Mapping[str, Sequence[str]],
    ) -> None:
        self.columns = tuple(columns)
        self._dtype = np.dtype(DTYPES[floats])
        self._packed = np.dtype([(name, self._dtype) for name in dict.fromkeys(self.columns)])
        if inputs:
            sources = _sources(inputs, categories)
            _check_names(self.columns, tuple(sources))
            _check_categories(inputs, categories)
            if floats == "FP32":
                _warn_about_integers(inputs)
        else:
            sources = {name: _named(name, categories) for name in self.columns}
        self._read = tuple(sources[name] for name in self.columns)

    def __call__(self, batch: Arrays) -> NDArray[Any]:
        """The matrix of a batch, C-contiguous.

        Raises:
            RowError: A value is outside its categories.
            PredictError: `compute` gave no column of a name, or one that is not `[n]` numbers.
        """
        if isinstance(batch, Packed):
            dtype = batch.records.dtype
            if dtype is self._packed:
                return batch.matrix(self._dtype)
            if dtype == self._packed:
                self._packed = dtype  # the codec's own object: the next comparison is by identity
                return batch.matrix(self._dtype)
        first = self._read[0](batch)
        matrix = np.empty((len(first), len(self._read)), dtype=self._dtype)
        matrix[:, 0] = first
        for index in range(1, len(self._read)):
            matrix[:, index] = self._read[index](batch)
        return matrix


def choose_columns(
    found: Sequence[str], configured: Sequence[str], inputs: Sequence[TensorSpec], count: int | None
) -> tuple[str, ...]:
    """The feature names: the weights' own, or the configured ones when the weights carry none.

    Args:
        found: Names out of the weights; empty when there are none.
        configured: `columns` of the model's table.
        inputs: The tensors of the row, for the message.
        count: How many features the weights take, when they say so.

    Raises:
        WeightsError: Neither has names, they differ, or there are too many or too few.
    """
    if found and configured and tuple(found) != tuple(configured):
        raise WeightsError(
            f"`columns` differs from the names in the weights: got {list(configured)}, expected {list(found)}",
            hint="remove `columns` from the model's table: it is only for weights that carry no names",
        )
    columns = tuple(found or configured)
    if not columns:
        fields = ", ".join(repr(name) for name in _sources(inputs, {}, strict=False))
        raise WeightsError(
            f"the weights carry no feature names, expected `columns` in the model's table; the row has {fields}",
            hint="list the fields in the order of training, or train with named columns and save again",
        )
    if count is not None and len(columns) != count:
        raise WeightsError(f"`columns` has {len(columns)} names, expected {count} as the weights were trained on")
    return columns


def _computed(columns: Sequence[str], floats: Floats, categories: Mapping[str, Sequence[str]]) -> list[TensorSpec]:
    """One tensor a feature, for a batch that `compute` makes."""
    return [
        TensorSpec(name=name, datatype="BYTES", shape=(), values=tuple(categories[name]))
        if name in categories
        else TensorSpec(name=name, datatype=floats, shape=())
        for name in columns
    ]


def _sources(
    inputs: Sequence[TensorSpec], categories: Mapping[str, Sequence[str]], *, strict: bool = True
) -> dict[str, Column]:
    """Feature name -> how to read it from a batch, in the order of the row."""
    sources: dict[str, Column] = {}
    for spec in inputs:
        if len(spec.shape) > 1:
            if strict:
                shape = list(spec.shape)
                raise WeightsError(f"the field {spec.name!r} has the shape {shape}, expected a number or a vector")
        elif spec.shape:
            sources |= {f"{spec.name}.{index}": _element(spec.name, index) for index in range(spec.shape[0])}
        elif spec.datatype != "BYTES":
            sources[spec.name] = _plain(spec.name)
        else:
            if strict and spec.name not in categories:
                example = ", ".join(f'"{value}"' for value in spec.values) or "…"
                raise WeightsError(
                    f"the field {spec.name!r} is text, expected its categories in the model's table",
                    hint=f"write `categories = {{ {spec.name} = [{example}] }}`, in the order of training",
                )
            sources[spec.name] = _category(spec.name, tuple(categories.get(spec.name, ())))
    return sources


def _plain(name: str) -> Column:
    return lambda batch: batch[name]


def _element(name: str, index: int) -> Column:
    return lambda batch: batch[name][:, index]


def _named(name: str, categories: Mapping[str, Sequence[str]]) -> Column:
    """Reads a column that a `compute` function made; nothing is known of it before."""
    if name in categories:
        return _category(name, tuple(categories[name]))
    vector, _, index = name.rpartition(".")

    def read(batch: Arrays) -> NDArray[Any]:
        array = batch.get(name)
        if array is None and vector in batch and index.isdecimal():
            array = batch[vector][:, int(index)]
        if array is None:
            raise PredictError(f"the weights need the column {name!r}: got {', '.join(map(repr, batch))}")
        if array.ndim != 1 or array.dtype.kind not in "fiub":
            raise PredictError(f"the column {name!r} is {array.dtype} of shape {list(array.shape)}, expected n numbers")
        return array

    return read


def _category(name: str, values: tuple[str, ...]) -> Column:
    """Reads a text column as indices; text arrives as `str` or as UTF-8."""
    indices: dict[object, int] = {value: index for index, value in enumerate(values)}
    indices |= {value.encode(): index for index, value in enumerate(values)}
    expected = f"one of the categories {', '.join(map(repr, values))}"

    def read(batch: Arrays) -> list[int]:
        words = batch[name].tolist()
        try:
            return [indices[word] for word in words]
        except KeyError:
            bad = next(word for word in words if word not in indices)
            got = bad.decode(errors="replace") if isinstance(bad, bytes) else bad
            raise row_error(f"$.{name}", got, expected) from None

    return read


def _check_names(columns: tuple[str, ...], fields: tuple[str, ...]) -> None:
    if len(set(columns)) != len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise WeightsError(f"the weights name {', '.join(map(repr, twice))} twice, expected each feature once")
    for name in columns:
        if name not in fields:
            raise WeightsError(
                f"the weights need the feature {name!r}, which the row does not have: got {', '.join(fields)}",
                hint=nearest(name, fields),
            )
    for name in fields:
        if name not in columns:
            raise WeightsError(
                f"the row has the field {name!r}, which the weights do not use: expected {', '.join(columns)}",
                hint=nearest(name, columns) or "remove the field: a client would send a value that changes nothing",
            )


def _check_categories(inputs: Sequence[TensorSpec], categories: Mapping[str, Sequence[str]]) -> None:
    specs = {spec.name: spec for spec in inputs}
    for name, values in categories.items():
        spec = specs.get(name)
        if spec is None or spec.datatype != "BYTES":
            text = [spec.name for spec in inputs if spec.datatype == "BYTES"]
            raise WeightsError(
                f"`categories` names {name!r}, expected a text field of the row: {', '.join(text) or 'there is none'}",
                hint=nearest(name, text),
            )
        if len(set(values)) != len(values):
            raise WeightsError(f"`categories.{name}` names a value twice: {list(values)}")
        unknown = [value for value in spec.values if value not in values]
        if unknown:
            raise WeightsError(
                f"`categories.{name}` lacks {', '.join(map(repr, unknown))}, which the row allows: got {list(values)}",
                hint="list every value in the order of training, or take it out of the Literal",
            )


def _warn_about_integers(inputs: Sequence[TensorSpec]) -> None:
    wide = [spec.name for spec in inputs if spec.datatype == "INT64" and not _is_exact(spec)]
    if wide:
        logger.warning(
            "integer fields go to FP32 weights, which round beyond 2**24; bound them with Meta(ge=, le=): %s",
            ", ".join(wide),
            extra={"fields": wide},
        )


def _is_exact(spec: TensorSpec) -> bool:
    """Whether the bounds keep every value inside the integers that FP32 holds."""
    lowest = max((bound for bound in (spec.ge, spec.gt) if bound is not None), default=None)
    highest = min((bound for bound in (spec.le, spec.lt) if bound is not None), default=None)
    return lowest is not None and highest is not None and lowest >= -_EXACT and highest <= _EXACT
