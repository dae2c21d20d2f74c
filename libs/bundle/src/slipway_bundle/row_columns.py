"""Columns from outside: the protocol's tensors on the way in, a model's arrays on the way out, checked and converted.

It makes no rows and no payloads. The invariant: what comes out has the spec's shape and datatype and passed its
check; a number never changes its kind on the way (a float is no integer, an integer no bool), and a value that the
datatype cannot hold is a fault, never a wrapped or infinite number. Source: `docs/service-api.md`.
"""

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.row_checks import Fault, make_check, make_word_check
from slipway_bundle.row_errors import OutputError, RowError, Said, place_path, row_error
from slipway_bundle.row_fields import DTYPES
from slipway_bundle.row_sizes import is_answer
from slipway_bundle.schema import Arrays, TensorSpec

_KINDS = {"BOOL": "b", "BYTES": "SUTO"}
"""numpy kinds that a datatype accepts; floats also take integers, as JSON does."""


class Column:
    """One tensor's intake: shape, kind, range, bounds."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.is_keyed = spec.is_keyed
        self.is_words = spec.datatype == "BYTES"
        self.kinds = _KINDS.get(spec.datatype, "fiu" if spec.is_float else "iu")
        self.dtype = None if self.is_words else np.dtype(DTYPES[spec.datatype])
        self._check = make_check(spec)
        self._check_words = make_word_check(spec)

    def shaped(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """The array as `[n, *shape]`, `[n, 1]` for a scalar included; None when it has another shape or kind.

        The sizes of an array whose rows choose them are not looked at: in and out, they follow different rules.
        """
        if array.dtype.kind not in self.kinds:
            return None
        if array.shape[1:] == self.spec.shape and array.ndim:
            return array
        if self.is_keyed:
            return array if array.ndim == len(self.spec.shape) + 1 else None
        return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 and not self.spec.shape else None

    def numbers(self, array: NDArray[Any]) -> tuple[NDArray[Any], dict[int, Fault]]:
        """The column in the spec's datatype, and the faults by row."""
        dtype = self.dtype
        if dtype is None or array.dtype == dtype:
            return array, self._check(array)
        if array.dtype.kind in "iu" and dtype.kind in "iu" and not np.can_cast(array.dtype, dtype):
            held = np.iinfo(dtype)
            wrong = (array < held.min) | (array > held.max)
            if wrong.any():
                said = f"a number that {self.spec.datatype} can hold"
                places = np.argwhere(wrong).tolist()
                return array, {row: Fault(tuple(at), array[(row, *at)].item(), said) for row, *at in reversed(places)}
        with np.errstate(over="ignore"):
            cast = array.astype(dtype)
        faults = self._check(cast)
        return cast, {row: fault._replace(got=array[(row, *fault.place)].item()) for row, fault in faults.items()}

    def checked(self, array: NDArray[Any]) -> dict[int, Fault]:
        """The faults of a column that is not converted."""
        if array.dtype.kind == "u" and array.dtype.itemsize == 8 and not self.spec.is_float:
            return self.numbers(array)[1]
        return self._check(array)

    def words(self, array: NDArray[Any]) -> tuple[list[Any], dict[int, Fault]]:
        """The column as `str` or `bytes`, and the faults by row."""
        words = array.tolist()
        if self.spec.text:
            words = [_decoded(word) if isinstance(word, bytes) else word for word in words]
        return words, self._check_words(words)


def take_in(columns: Iterable[Column], arrays: Arrays) -> tuple[int, list[NDArray[Any] | list[Any]]]:
    """Tensors of a request as checked columns in the order of `columns`, and the number of rows.

    Raises:
        RowError: A tensor is missing, unknown, of another datatype or shape, has another number of rows than the
            first, or holds a bad value; it names the tensor and the row.
    """
    columns = list(columns)
    names = [column.spec.name for column in columns]
    for name in arrays:
        if name not in names:
            raise row_error(f"$.{name}", Said("an unknown tensor"), f"one of {', '.join(names)}{_nearest(name, names)}")
    count: int | None = None
    taken: list[NDArray[Any] | list[Any]] = []
    for column in columns:
        spec = column.spec
        if spec.name not in arrays:
            raise row_error(f"$.{spec.name}", Said("nothing"), "a tensor of this name")
        array = column.shaped(arrays[spec.name])
        if array is None:
            raise _wrong_tensor(column, arrays[spec.name])
        count = len(array) if count is None else count
        if len(array) != count:
            raise row_error(f"$.{spec.name}", len(array), f"{count} rows, as in the tensor `{names[0]}`")
        values, faults = column.words(array) if column.is_words else column.numbers(array)
        if faults:
            row = min(faults)
            raise fault_error(spec, faults[row], f" in row {row} of the tensor `{spec.name}`", row)
        taken.append(values)
    return count or 0, taken


def hand_out(column: Column, arrays: Arrays, *, count: int | None) -> NDArray[Any]:
    """A model's array for one field of the answer, in the right shape and kind.

    Raises:
        OutputError: It is missing, or no row of it can be right.
    """
    spec = column.spec
    array = arrays.get(spec.name)
    if array is None:
        raise OutputError(
            f"the model's answer has no `{spec.name}`: got {', '.join(map(repr, arrays)) or 'nothing'}",
            hint="return it from `compute`, or map it in `outputs` of the model's table in slipway.toml",
        )
    array = np.asarray(array)
    shaped = column.shaped(array)
    if shaped is None or (column.is_keyed and not is_answer(spec, shaped.shape[1:])):
        expected = f"{spec.datatype} of shape {['n', *spec.dimensions]}"
        raise OutputError(
            f"the model's `{spec.name}` is {array.dtype} of shape {list(array.shape)}, expected {expected}"
        )
    if count is not None and len(shaped) != count:
        raise OutputError(f"the model's `{spec.name}` has {len(shaped)} rows, expected {count} as the fields before it")
    return shaped


def fault_error(spec: TensorSpec, fault: Fault, where: str, *rows: int) -> RowError:
    """The RowError for a fault of one row; `rows` starts the path when it goes into a tensor instead of a row."""
    return row_error(place_path(spec.name, (*rows, *fault.place)), fault.got, fault.expected, where=where)


def _wrong_tensor(column: Column, array: NDArray[Any]) -> RowError:
    spec = column.spec
    path, got = f"$.{spec.name}", f"{array.dtype} of shape {list(array.shape)}"
    expected = f"{spec.datatype} of shape {['n', *spec.dimensions]}"
    hint = None
    if array.dtype.kind == "f" and "f" not in column.kinds:
        hint = "1.0 is not an integer: send the tensor with an integer datatype"
    return RowError(f"`{path}` got {got}, expected {expected}", path=path, got=got, expected=expected, hint=hint)


def _decoded(word: bytes) -> str | bytes:
    try:
        return word.decode()
    except UnicodeDecodeError:
        return word


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean `{close[0]}`?)" if close else ""
