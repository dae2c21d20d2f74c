"""Reads label files: CSV, JSON lines or Parquet with `request_id`, `label` and `observed_at`.

It knows nothing of what was captured. The invariant: a line that is not a label becomes a complaint with its number,
and the lines after it are read; only a file that is no table at all is refused.
"""

import contextlib
import csv
import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from slipway_signals.capture.errors import LabelFileError

__all__ = ["BadLine", "LabelLine", "read_labels"]

COLUMNS: Final = ("request_id", "label", "observed_at")
_LATEST_S: Final = 4_102_444_800.0


class LabelLine(Struct, frozen=True, kw_only=True):
    """One label, as somebody observed it."""

    line: int
    """From 1; of Parquet, the row."""
    request_id: str
    label: str
    observed_s: float
    """Seconds since the epoch."""


class BadLine(Struct, frozen=True, kw_only=True):
    """A line that is no label, or one that fits no prediction."""

    line: int
    problem: str


def read_labels(path: Path) -> Iterator[LabelLine | BadLine]:
    """The lines of a label file; what kind of file it is, its suffix says.

    Raises:
        LabelFileError: It cannot be opened, has another suffix, or has not the three columns.
        CaptureExtraError: It is Parquet, and pyarrow is not installed.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise LabelFileError(f"{str(path)!r} ends with {path.suffix!r}, expected one of {', '.join(readers)}")
    try:
        for line, found in reader(path):
            yield found if isinstance(found, BadLine) else _label(line, found)
    except OSError as error:
        raise LabelFileError(f"the label file {str(path)!r} cannot be read: {error.strerror or error}") from error


def _csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadLine]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, restkey="…", strict=True)
        try:
            _require_columns(path, rows.fieldnames or ())
        except csv.Error as error:
            raise LabelFileError(f"the label file {str(path)!r} is no CSV: {error}") from error
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, BadLine(line=line, problem=f"is no CSV: {error}")
            else:
                yield line, row if "…" not in row else BadLine(line=line, problem="has more cells than the first line")


def _jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadLine]]:
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                found = json.loads(text)
            except ValueError as error:
                yield line, BadLine(line=line, problem=f"is no JSON: {error}")
                continue
            yield line, found if isinstance(found, dict) else BadLine(line=line, problem="is no JSON object")


def _parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadLine]]:
    from slipway_signals.capture.parts import column_names, rows_of

    _require_columns(path, column_names(path))
    yield from enumerate(rows_of(path, COLUMNS), 1)


def _require_columns(path: Path, names: Any) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise LabelFileError(
            f"the label file {str(path)!r} has no column {missing[0]!r}, expected {', '.join(COLUMNS)}"
        )


def _label(line: int, row: Mapping[str, Any]) -> LabelLine | BadLine:
    request_id, label, observed = (row.get(name) for name in COLUMNS)
    if not isinstance(request_id, str | int) or isinstance(request_id, bool) or not str(request_id):
        return BadLine(line=line, problem=f"has the request_id {request_id!r}, expected a text")
    if label is None or isinstance(label, dict | list) or str(label) == "":
        return BadLine(line=line, problem=f"has the label {label!r}, expected a text, number or bool")
    if not str(request_id).isprintable() or not str(label).isprintable():
        return BadLine(line=line, problem="has characters that cannot be printed, expected UTF-8 text")
    try:
        observed_s = _time(observed)
    except ValueError as error:
        return BadLine(line=line, problem=f"has the observed_at {observed!r}: {error}")
    return LabelLine(line=line, request_id=str(request_id), label=str(label), observed_s=observed_s)


def _time(value: object) -> float:
    """Seconds since the epoch, of a number or of ISO 8601 with its zone."""
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        value = _moment(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("expected seconds since the epoch, or `2026-11-21T17:00:00Z`")  # noqa: TRY004 - one answer
    if not math.isfinite(value) or not 0 <= value < _LATEST_S:
        raise ValueError("it is not between 1970 and 2100")
    return float(value)


def _moment(text: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected seconds since the epoch, or `2026-11-21T17:00:00Z`") from None
    if at.tzinfo is None:
        raise ValueError("it has no time zone, expected `Z` or `+01:00` at its end")
    return at.timestamp()
