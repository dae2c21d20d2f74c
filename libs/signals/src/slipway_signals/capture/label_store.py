"""Labels that came, one for each request, and what they counted to: SQLite, because it keeps both true together.

It joins nothing and reads no Parquet (`labels`). The invariants: a label counts once, however often it is told; totals
only grow, also when labels are forgotten or too old to be kept; what is deleted is overwritten in the file.
"""

import os
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from slipway_signals.capture.errors import CaptureFolderError
from slipway_signals.capture.private_files import create_file, require_private
from slipway_signals.metrics_capture import LAG_SECONDS

__all__ = ["Cohort", "LabelStore", "Standing", "Stored"]

Standing = Literal["new", "again", "corrected", "outdated", "contradicts"]
"""How a label stands beside what is stored of its request."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS label (
    request_id TEXT PRIMARY KEY, value TEXT NOT NULL, observed REAL NOT NULL, model TEXT NOT NULL,
    version TEXT NOT NULL, day TEXT NOT NULL, outcome TEXT NOT NULL, counts INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    request_id TEXT PRIMARY KEY, value TEXT NOT NULL, observed REAL NOT NULL, since REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (
    what TEXT NOT NULL, model TEXT NOT NULL, name TEXT NOT NULL, n REAL NOT NULL, PRIMARY KEY (what, model, name)
) WITHOUT ROWID;
"""


class Stored(Struct, frozen=True, kw_only=True):
    """A label and the prediction that it is about."""

    request_id: str
    value: str
    observed_s: float
    model: str
    version: str
    day: str
    """Of the prediction, UTC."""
    outcome: str
    counts: bool
    """Whether the prediction is of the sample; errors and unsure ones that were always kept are not representative."""
    lag_s: float = 0.0


class Cohort(Struct, frozen=True, kw_only=True):
    """The predictions of one version on one day, as far as their labels are known."""

    model: str
    version: str
    day: str
    captured: int
    labelled: int
    outcomes: dict[str, int]


class LabelStore:
    """The labels of one capture folder; made by `opened`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator["LabelStore"]:
        """The store in the file `path`, made when it is not there; the body is one transaction.

        Raises:
            CaptureFolderError: It is a link, open to others, damaged, or its disk is full.
        """
        if not os.path.lexists(path):
            os.close(create_file(path))
        require_private(path)
        try:
            database = sqlite3.connect(path, isolation_level=None)
            try:
                database.execute("PRAGMA secure_delete = ON")
                database.execute("PRAGMA journal_mode = DELETE")
                database.execute("PRAGMA synchronous = FULL")
                database.executescript(_TABLES)
                database.execute("BEGIN IMMEDIATE")
                yield cls(database)
                database.execute("COMMIT")
            finally:
                database.close()
        except sqlite3.Error as error:
            raise CaptureFolderError(
                f"the labels in {str(path)!r} cannot be used: {error}",
                hint="nothing of this run was counted; look at the disk, or restore the file from a backup",
            ) from error

    def put(self, label: Stored) -> Standing:
        """Count a label, or find that it was counted, or that it corrects one that was."""
        found = self._database.execute(
            "SELECT value, observed, outcome, counts FROM label WHERE request_id = ?", (label.request_id,)
        ).fetchone()
        if found is not None:
            value, observed, outcome, counted = found
            if value == label.value:
                return "again"
            if observed >= label.observed_s:
                return "contradicts" if observed == label.observed_s else "outdated"
            if counted:
                self._add("retracted", label.model, outcome)
        self._database.execute(
            "INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(label.request_id, label.value, label.observed_s),
                *(label.model, label.version, label.day, label.outcome, label.counts),
            ),
        )
        if label.counts:
            self._add("realized", label.model, label.outcome)
        if found is None and label.counts:
            bucket = bisect_left(LAG_SECONDS, label.lag_s)
            self._add("lag", label.model, str(bucket))
            self._add("lag_sum", label.model, "", label.lag_s)
        return "new" if found is None else "corrected"

    def wait(self, request_id: str, value: str, observed_s: float, now: float) -> None:
        """Keep a label whose request is not known, until it is."""
        self._database.execute(
            "INSERT INTO waiting VALUES (?, ?, ?, ?) ON CONFLICT (request_id) DO UPDATE "
            "SET value = excluded.value, observed = excluded.observed WHERE excluded.observed > observed",
            (request_id, value, observed_s, now),
        )

    def waiting(self) -> list[tuple[str, str, float]]:
        """The labels that wait: request_id, label, observed (seconds since the epoch)."""
        return self._database.execute("SELECT request_id, value, observed FROM waiting ORDER BY request_id").fetchall()

    def found(self, request_ids: Iterable[str]) -> None:
        """These labels do not wait any more."""
        self._database.executemany("DELETE FROM waiting WHERE request_id = ?", ((one,) for one in request_ids))

    def forget(self, request_ids: Iterable[str]) -> int:
        """Delete the labels of these requests; gives how many there were. What they counted to stays."""
        gone = 0
        for one in request_ids:
            for table in ("label", "waiting"):
                gone += self._database.execute(f"DELETE FROM {table} WHERE request_id = ?", (one,)).rowcount  # noqa: S608
        return gone

    def count(self, request_ids: Iterable[str]) -> int:
        """How many labels of these requests there are."""
        query = "SELECT count(*) FROM (SELECT request_id FROM label UNION ALL SELECT request_id FROM waiting) "
        query += "WHERE request_id = ?"
        return sum(self._database.execute(query, (one,)).fetchone()[0] for one in request_ids)

    def expire(self, before_day: str, before_s: float) -> None:
        """Delete the labels of predictions before a day, and those that have waited since before `before_s`."""
        self._database.execute("DELETE FROM label WHERE day < ?", (before_day,))
        self._database.execute("DELETE FROM waiting WHERE since < ?", (before_s,))

    def cohorts(self, captured: Mapping[tuple[str, str, str], int]) -> list[Cohort]:
        """Outcomes by model, version and day; `captured`: how many predictions of the sample each has."""
        counted: dict[tuple[str, str, str], dict[str, int]] = {}
        query = "SELECT model, version, day, outcome, count(*) FROM label WHERE counts GROUP BY 1, 2, 3, 4 ORDER BY 4"
        for model, version, day, outcome, n in self._database.execute(query):
            counted.setdefault((model, version, day), {})[outcome] = n
        return [
            Cohort(
                model=key[0],
                version=key[1],
                day=key[2],
                captured=captured.get(key, 0),
                labelled=sum(counted.get(key, {}).values()),
                outcomes=counted.get(key, {}),
            )
            for key in sorted({*captured, *counted})
        ]

    def totals(self, what: str) -> dict[tuple[str, str], float]:
        """(model, name) → the sum so far, of "realized", "retracted", "lag" or "lag_sum"."""
        query = "SELECT model, name, n FROM total WHERE what = ? ORDER BY model, name"
        return {(model, name): n for model, name, n in self._database.execute(query, (what,))}

    def _add(self, what: str, model: str, name: str, n: float = 1.0) -> None:
        self._database.execute(
            "INSERT INTO total VALUES (?, ?, ?, ?) ON CONFLICT (what, model, name) DO UPDATE SET n = n + excluded.n",
            (what, model, name, n),
        )
