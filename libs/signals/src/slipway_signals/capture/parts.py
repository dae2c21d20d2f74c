"""Parquet parts: tables of captured requests, with what is needed to read them in their footers.

This is the only module that imports pyarrow, when it is used: serving processes never do. The invariants: a part has
one format; its columns' types come from the format, never from the values; a part is complete and synced before
anybody can see it, and for its owner alone.
"""

import os
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from slipway_signals.capture.errors import CaptureExtraError, CaptureFolderError, LabelFileError
from slipway_signals.capture.private_files import create_file, open_own
from slipway_signals.capture.records import KEPT, Column, ModelFormat, Record
from slipway_signals.capture.sampling import ERROR_STATUS

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

__all__ = [
    "FEATURES",
    "PREDICTION",
    "Part",
    "column_names",
    "make_table",
    "places_of",
    "places_where",
    "read_part",
    "read_table",
    "require_pyarrow",
    "rows_of",
    "rows_with_ids",
    "take",
    "write_part",
]

FEATURES: Final = "features."
"""Before the names of the row's values."""
PREDICTION: Final = "prediction."
"""Before the names of the answer's values."""
_FORMAT_KEY: Final = b"slipway.format"
_SCHEMA_KEY: Final = b"slipway.schema"
_ANSWERED_KEY: Final = b"slipway.answered"


class Part(Struct, frozen=True, kw_only=True):
    """What the footer of a part says."""

    path: Path
    format: ModelFormat
    rows: int
    answered: int
    """Rows of the sample that ended below status 500: what labels can be expected for."""


def require_pyarrow() -> None:
    """Make sure that Parquet can be read and written.

    Raises:
        CaptureExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401 - whether it is there
    except ImportError as error:
        raise CaptureExtraError(
            f"pyarrow cannot be imported: {error}",
            hint="compaction, forgetting and labels need it: install `slipway-signals[capture]` where they run",
        ) from error


def make_table(model: ModelFormat, records: Sequence[Record]) -> "pa.Table":
    """The records of one format as a table, in their order."""
    import pyarrow as pa

    columns: list[list[Any]] = [
        [round(record.ts * 1e6) for record in records],
        *([getattr(record, name) for record in records] for name in ("request_id", "trace_id", "subject_key")),
        *([getattr(record, name) for record in records] for name in ("status", "latency_s")),
        [KEPT[record.kept] for record in records],
        *([getattr(record, name) for record in records] for name in ("sample_weight", "is_cut")),
        *_transposed([record.features for record in records], len(model.features)),
        *_transposed([record.prediction for record in records], len(model.prediction)),
    ]
    schema = _schema(model)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return _counted(pa.Table.from_arrays(arrays, schema=schema), model)


def write_part(path: Path, table: "pa.Table", *, compression: str = "zstd") -> None:
    """Write `table` to a new file, synced. OSError: the disk refused; then there is no file."""
    import pyarrow.parquet as pq

    with os.fdopen(create_file(path), "wb") as file:
        try:
            pq.write_table(table, file, compression=compression)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def read_part(path: Path) -> Part:
    """The footer of a part.

    Raises:
        CaptureFolderError: It is no part of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with os.fdopen(open_own(path), "rb") as file:
            footer = pq.read_metadata(file)
        found = footer.metadata or {}
        model = msgspec.json.decode(found[_FORMAT_KEY], type=ModelFormat)
        answered = int(found[_ANSWERED_KEY])
    except (OSError, KeyError, ValueError, msgspec.MsgspecError, pa.ArrowException) as error:
        raise CaptureFolderError(
            f"{str(path)!r} is no part of a capture: {error}",
            hint="move it out of the folder: nothing else is kept here",
        ) from error
    return Part(path=path, format=model, rows=footer.num_rows, answered=answered)


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """The rows of a part, or some of their columns."""
    import pyarrow.parquet as pq

    with os.fdopen(open_own(path), "rb") as file:
        return pq.ParquetFile(file).read(columns=None if columns is None else list(columns))


def rows_with_ids(path: Path, columns: Sequence[str], request_ids: Set[str]) -> list[dict[str, Any]]:
    """Some columns of the rows with one of these ids; `request_id` must be among the columns."""
    import pyarrow as pa

    table = read_table(path, columns)
    places = pa.array(places_of(table["request_id"], request_ids), pa.int64())
    rows: list[dict[str, Any]] = table.take(places).to_pylist()
    return rows


def places_of(column: "pa.ChunkedArray", wanted: Set[str | bytes]) -> list[int]:
    """The rows in which a value, or an item of a list, is one of `wanted`."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]  # it ships no types

    if pa.types.is_list(column.type):
        return places_where(column, wanted.__contains__)
    hits = pc.is_in(column, value_set=pa.array(list(wanted), column.type))
    return [place for place, is_hit in enumerate(hits.to_pylist()) if is_hit]


def places_where(column: "pa.ChunkedArray", is_meant: Callable[[Any], bool]) -> list[int]:
    """The rows in which a value, or an item of a list, is meant; nulls never are. A call for each value."""

    def holds(value: Any) -> bool:
        return any(map(holds, value)) if isinstance(value, list) else value is not None and is_meant(value)

    return [place for place, value in enumerate(column.to_pylist()) if holds(value)]


def column_names(path: Path) -> list[str]:
    """The columns of any Parquet file.

    Raises:
        LabelFileError: It is no Parquet.
        CaptureExtraError: pyarrow is not installed.
    """
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except pa.ArrowException as error:
        raise LabelFileError(f"{str(path)!r} is no Parquet file: {error}") from error


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Some columns of any Parquet file, row by row, without reading it at once.

    Raises:
        LabelFileError: It is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(columns=list(columns)):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise LabelFileError(f"{str(path)!r} cannot be read: {error}") from error


def take(table: "pa.Table", keep: Sequence[bool]) -> "pa.Table":
    """The rows of a part that are to be kept, with a footer that counts them."""
    import pyarrow as pa

    model = msgspec.json.decode(table.schema.metadata[_FORMAT_KEY], type=ModelFormat)
    return _counted(table.filter(pa.array(keep, pa.bool_())), model)


def _counted(table: "pa.Table", model: ModelFormat) -> "pa.Table":
    """`table` with its format, and how many labels it can get, in its footer."""
    kept, status = table["kept"].to_pylist(), table["status"].to_pylist()
    answered = sum(why == "sample" and code < ERROR_STATUS for why, code in zip(kept, status, strict=True))
    footer = {
        _FORMAT_KEY: msgspec.json.encode(msgspec.structs.replace(model, place=0)),
        _SCHEMA_KEY: model.digest.encode(),
        _ANSWERED_KEY: b"%d" % answered,
    }
    return table.replace_schema_metadata(footer)


def _schema(model: ModelFormat) -> "pa.Schema":
    import pyarrow as pa

    fixed = [
        ("ts", pa.timestamp("us", "UTC")), ("request_id", pa.string()), ("trace_id", pa.string()),
        ("subject_key", pa.string()), ("status", pa.int32()), ("latency_s", pa.float64()), ("kept", pa.string()),
        ("sample_weight", pa.float64()), ("is_cut", pa.bool_()),
    ]  # fmt: skip
    features = [(FEATURES + column.name, _type(column)) for column in model.features]
    return pa.schema([*fixed, *features, *((PREDICTION + column.name, _type(column)) for column in model.prediction)])


def _transposed(rows: list[list[Any] | None], width: int) -> list[list[Any]]:
    return [[None if row is None else row[place] for row in rows] for place in range(width)]


def _type(column: Column) -> "pa.DataType":
    import pyarrow as pa

    known = {
        "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64(), "string": pa.string(), "binary": pa.binary(),
    }  # fmt: skip
    found = known[column.type]
    for _ in range(column.depth):
        found = pa.list_(found)
    return found
