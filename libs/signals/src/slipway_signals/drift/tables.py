"""Reads a table of rows from a file into columns: CSV, JSON lines, Parquet or NumPy.

It knows no schema: `building` judges the values. The invariant: the file is data; nothing in it is executed
(NumPy files with pickled objects are refused). pyarrow is imported when a Parquet file is read, and only then.
"""

import csv
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from slipway_bundle.errors import FileError, HostError
from slipway_signals.drift.building import Column, TableError

__all__ = ["TableLibraryError", "read_table"]


class TableLibraryError(HostError):
    """A package that reads this format is not installed."""

    code = "table_library_missing"


def read_table(path: Path) -> dict[str, Column]:
    """Column -> values of the table in `path`; the suffix names its format.

    `.csv`: the first line has the names, an empty cell is missing. `.jsonl`: an object a line; nested objects become
    `outer.inner`, a key that a line lacks is missing. `.npz`: an array a column. `.parquet`: flat columns.

    Raises:
        TableError: The suffix is unknown, or the content is not what it promises; the message names the line.
        FileError: The file cannot be read.
        TableLibraryError: Parquet, and pyarrow is not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TableError(f"{str(path)!r} ends in {path.suffix!r}, expected one of {', '.join(_READERS)}")
    try:
        return reader(path)
    except UnicodeDecodeError as error:
        raise TableError(f"{str(path)!r} is not UTF-8: {error}", path=str(path)) from error
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror or error}", path=str(path)) from error


def _read_csv(path: Path) -> dict[str, Column]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            names = next(lines, [])
            if len(set(names)) != len(names) or not names:
                raise TableError(f"{str(path)!r} begins with {names!r}, expected the names of its columns, each once")
            columns: list[list[str | None]] = [[] for _ in names]
            for line in lines:
                if not line:
                    continue
                if len(line) != len(names):
                    raise TableError(
                        f"{path}:{lines.line_num} has {len(line)} values, expected {len(names)}", path=str(path)
                    )
                for column, value in zip(columns, line, strict=True):
                    column.append(value or None)
        except csv.Error as error:
            raise TableError(f"{path}:{lines.line_num} is not CSV: {error}", path=str(path)) from error
    return dict(zip(names, columns, strict=True))


def _read_lines(path: Path) -> dict[str, Column]:
    columns: dict[str, list[Any]] = {}
    rows = 0
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise TableError(f"{path}:{number} is not a JSON object: {error}", path=str(path)) from error
        for name, value in _flat(row):
            columns.setdefault(name, [None] * rows).append(value)
        rows += 1
        for column in columns.values():
            if len(column) < rows:
                column.append(None)
    return dict(columns)


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in row.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return pairs


def _read_arrays(path: Path) -> dict[str, Column]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise TableError(
            f"{str(path)!r} is not a NumPy archive of plain arrays: {error}",
            hint="write it with `numpy.savez_compressed(path, **columns)`; arrays of objects are pickles",
            path=str(path),
        ) from error


def _read_parquet(path: Path) -> dict[str, Column]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        raise TableLibraryError(
            f"{str(path)!r} is Parquet, and pyarrow is not installed here",
            hint="install `slipway-signals[capture]`, or write the table as .npz, .csv or .jsonl",
        ) from error
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise TableError(f"{str(path)!r} is not Parquet: {error}", path=str(path)) from error
    return {name: _parquet_column(table.column(name)) for name in table.column_names}


def _parquet_column(column: Any) -> Column:  # pyarrow has no types
    if column.null_count == 0:
        array: np.ndarray[Any, Any] = column.to_numpy()
        if array.dtype.kind in "fiub":
            return array
    values: list[Any] = column.to_pylist()
    return values


_READERS: Final[dict[str, Callable[[Path], dict[str, Column]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_lines,
    ".npz": _read_arrays,
    ".parquet": _read_parquet,
}
