"""Joins labels that come later with the predictions that were captured: true accuracy.

It does not parse files (`label_files`) or compare values (`outcomes`). The invariants: a label counts once, whoever
tells it how often, in whatever order; each line of a file ends in exactly one number of the report; a label whose
request is not captured yet waits for it, one whose request was left out by sampling does not.
"""

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct

from slipway_signals.capture.clock import look_at_clock
from slipway_signals.capture.compact import WAIT_S, disk_words, pack_segments
from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.label_files import BadLine, LabelLine, read_labels
from slipway_signals.capture.label_state import LABELS_DB, captured_by_day, write_state
from slipway_signals.capture.label_store import Cohort, LabelStore, Stored
from slipway_signals.capture.outcomes import BadLabelError, outcome_of
from slipway_signals.capture.parts import PREDICTION, read_part, require_pyarrow, rows_with_ids
from slipway_signals.capture.records import Judge
from slipway_signals.capture.sampling import ERROR_STATUS, is_sampled, threshold_of
from slipway_signals.capture.transactions import recover

__all__ = ["IngestReport", "ingest"]

CHUNK: Final = 200_000
"""Labels that are looked up together; each look-up reads the ids of everything that is kept."""
LATE_S: Final = 30 * 86_400.0
_BAD_SHOWN: Final = 100
"""Bad lines that a report names; it counts all."""


class IngestReport(Struct, kw_only=True):
    """Where the lines of a label file went; but for `found_later`, `late` and `early` they sum to `lines`."""

    lines: int = 0
    new: int = 0
    """Counted for the first time."""
    again: int = 0
    """Told before, with the same label."""
    corrected: int = 0
    """Replaced an earlier label."""
    outdated: int = 0
    """Older than the label that is known."""
    waiting: int = 0
    """Of requests that are not known (yet): they are tried again with the next file."""
    sampled_out: int = 0
    """Of requests that capture left out on purpose."""
    unanswered: int = 0
    """Of requests that ended without a prediction, or whose model has no rule in `[runtime.capture.models]`."""
    bad: int = 0
    """See `bad_lines`."""
    found_later: int = 0
    """Labels of earlier files whose request has been captured since."""
    late: int = 0
    """New ones that were observed more than 30 days after their prediction."""
    early: int = 0
    """New ones that were observed before their prediction: a clock is wrong, or the label is."""
    bad_lines: list[BadLine] = []
    """The first hundred."""
    cohorts: list[Cohort] = []
    """What is known now, by model, version and day of the prediction."""


class _Row(Struct, frozen=True):
    """What is known of a captured request."""

    ts: float
    model: str
    version: str
    judge: Judge | None
    prediction: object
    is_counted: bool


def ingest(root: Path, path: Path, now: float, *, timeout_s: float = WAIT_S) -> IngestReport:
    """Count the labels in the file `path` that belong to requests captured in the folder `root`.

    Args:
        root: A capture folder.
        path: CSV, JSON lines or Parquet; see `label_files`.
        now: Seconds since the epoch.
        timeout_s: How long to wait for another process that is at work in the folder.

    Raises:
        LabelFileError: The file cannot be read at all; nothing was counted.
        CaptureExtraError: pyarrow is not installed.
        CaptureFolderError: The folder cannot be used; nothing was counted.
        CaptureBusyError: Another process has been at work for `timeout_s`.
    """
    require_pyarrow()
    folder = CaptureFolder.existing(root)
    with folder.exclusive(timeout_s), disk_words(folder):
        recover(folder)
        pack_segments(folder)
        now = look_at_clock(folder, now).age_s
        with LabelStore.opened(folder.root / LABELS_DB) as store:
            book = _Book(folder, store, now)
            for chunk in _chunks(read_labels(path)):
                book.add(chunk)
            book.retry()
            book.report.cohorts = store.cohorts(captured_by_day(folder))
            write_state(folder, store, now)
    return book.report


class _Book:
    """One run of ingestion: its report, and the store that it writes to."""

    def __init__(self, folder: CaptureFolder, store: LabelStore, now: float) -> None:
        self.report = IngestReport()
        self._folder = folder
        self._store = store
        self._now = now
        self._waited = store.waiting()
        self._parts = [read_part(part) for part in folder.parts()]
        self._threshold = threshold_of(max((part.format.rate for part in self._parts), default=1.0))

    def add(self, chunk: list[LabelLine | BadLine]) -> None:
        """Look up and count a chunk of lines."""
        known = self._look_up({line.request_id for line in chunk if isinstance(line, LabelLine)})
        for line in chunk:
            self.report.lines += 1
            if isinstance(line, BadLine):
                self._bad(line)
            elif (row := known.get(line.request_id)) is not None:
                self._count(line, row)
            elif is_sampled(line.request_id, self._threshold):
                self.report.waiting += 1
                self._store.wait(line.request_id, line.label, line.observed_s, self._now)
            else:
                self.report.sampled_out += 1

    def retry(self) -> None:
        """Count the labels of earlier files whose requests are known by now."""
        known = self._look_up({request_id for request_id, _, _ in self._waited})
        for request_id, value, observed_s in self._waited:
            row = known.get(request_id)
            stored = None if row is None else _stored(request_id, value, observed_s, row)
            if isinstance(stored, Stored):
                self.report.found_later += self._store.put(stored) == "new"
        self._store.found(known)

    def _count(self, line: LabelLine, row: _Row) -> None:
        stored = _stored(line.request_id, line.label, line.observed_s, row)
        if stored is None:
            self.report.unanswered += 1
        elif isinstance(stored, str):
            self._bad(BadLine(line=line.line, problem=stored))
        else:
            standing = self._store.put(stored)
            if standing == "contradicts":
                self._bad(BadLine(line=line.line, problem="says another label at the same time as one that is known"))
                return
            setattr(self.report, standing, getattr(self.report, standing) + 1)
            if standing == "new":
                self.report.late += stored.lag_s > LATE_S
                self.report.early += line.observed_s < row.ts

    def _bad(self, line: BadLine) -> None:
        self.report.bad += 1
        if len(self.report.bad_lines) < _BAD_SHOWN:
            self.report.bad_lines.append(line)

    def _look_up(self, request_ids: set[str]) -> dict[str, _Row]:
        """The captured rows of these requests; of several with one id, the first in time."""
        found: dict[str, _Row] = {}
        if not request_ids:
            return found
        for part in self._parts:
            judge = part.format.judge
            model, version = part.format.model, part.format.version
            columns = ["request_id", "ts", "kept", "status"] + (
                [PREDICTION + judge.column] if judge is not None else []
            )
            for row in rows_with_ids(part.path, columns, request_ids):
                ts, known = row["ts"].timestamp(), found.get(row["request_id"])
                if known is None or ts < known.ts:
                    is_counted = row["kept"] == "sample" and row["status"] < ERROR_STATUS
                    prediction = None if judge is None else row[PREDICTION + judge.column]
                    found[row["request_id"]] = _Row(ts, model, version, judge, prediction, is_counted)
        return found


def _stored(request_id: str, value: str, observed_s: float, row: _Row) -> Stored | str | None:
    """The label as it is counted; why it cannot be, in words; or None when there is nothing to compare it with."""
    if row.judge is None or row.prediction is None:
        return None
    try:
        outcome = outcome_of(row.judge, row.prediction, value)
    except BadLabelError as error:
        return str(error)
    return Stored(
        request_id=request_id,
        value=value,
        observed_s=observed_s,
        model=row.model,
        version=row.version,
        day=f"{datetime.fromtimestamp(row.ts, UTC):%Y-%m-%d}",
        outcome=outcome,
        counts=row.is_counted,
        lag_s=max(0.0, observed_s - row.ts),
    )


def _chunks(lines: Iterable[LabelLine | BadLine]) -> Iterator[list[LabelLine | BadLine]]:
    source = iter(lines)
    while chunk := list(itertools.islice(source, CHUNK)):
        yield chunk
