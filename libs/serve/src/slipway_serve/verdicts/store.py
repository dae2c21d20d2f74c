"""Verdicts, the evidence they rest on and what is frozen, in one SQLite file. What was put is there after a crash.

It judges nothing and knows no HTTP. The invariants: `put` returns when verdict and evidence are on the disk, in one
transaction, or raises and neither is there; the same evidence is kept once, however often it is put; nothing that was
judged is changed or deleted, only the bodies of old evidence are.
Source: sqlite.org/wal.html; sqlite.org/pragma.html#pragma_synchronous: in WAL mode only FULL waits for the disk at each
commit.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec
from msgspec import Struct

from slipway_serve.verdicts.answers import EVERY, Freeze, Recorded, Stage
from slipway_serve.verdicts.errors import StoreError, StoreFullError, StoreVersionError
from slipway_signals.gate.plan_policy import Terms
from slipway_signals.gate.verdict import Verdict

__all__ = ["Kept", "VerdictStore"]

VERSION: Final = 2
"""`PRAGMA user_version`. A later version adds a step to `STEPS`; a file is never read by an older slipway."""
APPLICATION: Final = 0x736C7677
"""`PRAGMA application_id`: `slvw`; another program's file is not written into."""
BUSY_S: Final = 5.0
TABLES: Final = (
    """CREATE TABLE verdict (
    number INTEGER PRIMARY KEY AUTOINCREMENT, evidence TEXT NOT NULL UNIQUE,
    rollout TEXT NOT NULL, pod_hash TEXT NOT NULL, stage TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('pass', 'fail', 'inconclusive')), reason TEXT NOT NULL,
    finished_s REAL NOT NULL, received_s REAL NOT NULL, caller TEXT NOT NULL
)""",
    "CREATE INDEX verdict_stage ON verdict (rollout, pod_hash, stage)",
    "CREATE INDEX verdict_received ON verdict (received_s)",
    "CREATE TABLE evidence (digest TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION}",
)
STEPS: Final = {
    1: (
        "ALTER TABLE verdict ADD COLUMN terms TEXT",
        """CREATE TABLE freeze (
    rollout TEXT PRIMARY KEY, reason TEXT NOT NULL, until_s REAL, since_s REAL NOT NULL, caller TEXT NOT NULL
) WITHOUT ROWID""",
    ),
}
"""From a version to the next."""
COLUMNS: Final = "number, rollout, pod_hash, stage, verdict, reason, evidence, finished_s, received_s, caller, terms"


class Kept(Struct, frozen=True, kw_only=True):
    """How much there is."""

    verdicts: dict[Verdict, int]
    """As they were judged."""
    oldest_s: float | None
    """When the first verdict was received, seconds since 1970; None: there is none."""
    newest_s: float | None
    store_bytes: int
    """Of the file, without its log."""


class VerdictStore:
    """The file of one service; made by `opened`. Thread-safe: one statement or transaction at a time."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database = database
        self._path = path
        self._lock = Lock()

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, max_bytes: int | None = None) -> Iterator["VerdictStore"]:
        """The store in the file `path`, made when it is not there, readable by its owner only.

        Args:
            path: Of the file; SQLite keeps `-wal` and `-shm` beside it.
            max_bytes: Size that the file may grow to; None: that of the disk.

        Raises:
            StoreError: The file cannot be opened or made.
            StoreVersionError: A later slipway wrote it, or another program.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            database = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the verdicts in {str(path)!r} cannot be opened: {error}",
                hint="`--store` names a file in a folder that is there and may be written",
                path=str(path),
            ) from error
        store = cls(database, path)
        try:
            with store._transaction():
                store._prepare()
            with store._answering():
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                if max_bytes is not None:
                    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
                    database.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_bytes)}")
            yield store
        finally:
            database.close()

    def put(self, judged: Recorded, body: bytes) -> Recorded:
        """Keep a verdict and its evidence; returns when both are on the disk. `judged.number` is not looked at.

        Args:
            judged: What was found.
            body: The evidence as it was posted; its digest is `judged.evidence`.

        Returns:
            What is kept: the earlier verdict when this evidence was put before.

        Raises:
            StoreFullError: There is no space; nothing of it is kept.
            StoreError: The file cannot be written now; nothing of it is kept.
        """
        packed = zlib.compress(body, 1)
        stage = judged.stage
        row = (judged.evidence, stage.rollout, stage.pod_hash, stage.stage, judged.verdict, judged.reason)
        terms = None if judged.terms is None else msgspec.json.encode(judged.terms).decode()
        rest = (judged.finished_s, judged.received_s, judged.by, terms)
        with self._transaction():
            self._database.execute(
                "INSERT INTO verdict (evidence, rollout, pod_hash, stage, verdict, reason, finished_s, received_s, "
                "caller, terms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (evidence) DO NOTHING",
                (*row, *rest),
            )
            self._database.execute(
                "INSERT INTO evidence VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", (judged.evidence, packed)
            )
            found = self._rows("WHERE evidence = ?", judged.evidence)
        return found[0]

    def find(self, evidence: str) -> Recorded | None:
        """The verdict that rests on this evidence; None: it was never put."""
        with self._answering():
            return next(iter(self._rows("WHERE evidence = ?", evidence)), None)

    def of_stage(self, stage: Stage) -> list[Recorded]:
        """Every verdict of a stage, oldest first."""
        with self._answering():
            where = "WHERE rollout = ? AND pod_hash = ? AND stage = ? ORDER BY number"
            return self._rows(where, stage.rollout, stage.pod_hash, stage.stage)

    def newest(self, rollout: str | None, count: int) -> list[Recorded]:
        """The last `count` verdicts, of one rollout or of all, newest first."""
        with self._answering():
            if rollout is None:
                return self._rows("ORDER BY number DESC LIMIT ?", count)
            return self._rows("WHERE rollout = ? ORDER BY number DESC LIMIT ?", rollout, count)

    def body(self, evidence: str) -> bytes | None:
        """The evidence as it was posted; None: it was never put, or is too old to be kept."""
        with self._answering():
            found = self._database.execute("SELECT body FROM evidence WHERE digest = ?", (evidence,)).fetchone()
        return None if found is None else zlib.decompress(found[0])

    def forget(self, before_s: float) -> int:
        """Delete the bodies of evidence that was received before `before_s`; their verdicts stay. Gives how many."""
        with self._transaction():
            return self._database.execute(
                "DELETE FROM evidence WHERE digest IN (SELECT evidence FROM verdict WHERE received_s < ?)", (before_s,)
            ).rowcount

    def freeze(self, wanted: Freeze) -> None:
        """Keep it, in place of what was frozen under this name; returns when it is on the disk. Raises as `put`."""
        until_s = None if wanted.until is None else wanted.until.timestamp()
        row = (wanted.rollout, wanted.reason, until_s, wanted.since.timestamp(), wanted.by)
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO freeze VALUES (?, ?, ?, ?, ?)", row)

    def unfreeze(self, rollout: str) -> bool:
        """Forget what was frozen under exactly this name; whether there was anything. Raises as `put`."""
        with self._transaction():
            return self._database.execute("DELETE FROM freeze WHERE rollout = ?", (rollout,)).rowcount > 0

    def frozen(self, now_s: float, rollout: str | None = None) -> list[Freeze]:
        """What holds at `now_s`: for one rollout, its own first; or all there is."""
        about = "SELECT * FROM freeze WHERE (until_s IS NULL OR until_s > ?)"
        with self._answering():
            if rollout is None:
                found = self._database.execute(f"{about} ORDER BY rollout", (now_s,)).fetchall()
            else:
                named = (now_s, rollout, EVERY)
                found = self._database.execute(f"{about} AND rollout IN (?, ?) ORDER BY rollout DESC", named).fetchall()
        return [
            Freeze(rollout=name, reason=reason, until=until_s and _time(until_s), since=_time(since_s), by=by)
            for name, reason, until_s, since_s, by in found
        ]

    def kept(self) -> Kept:
        """How much there is. `O(verdicts)`, some milliseconds for a hundred thousand."""
        with self._answering():
            counts = dict(self._database.execute("SELECT verdict, count(*) FROM verdict GROUP BY verdict"))
            ends = self._database.execute("SELECT min(received_s), max(received_s) FROM verdict").fetchone()
            (pages,) = self._database.execute("PRAGMA page_count").fetchone()
            (page_bytes,) = self._database.execute("PRAGMA page_size").fetchone()
        return Kept(verdicts=counts, oldest_s=ends[0], newest_s=ends[1], store_bytes=pages * page_bytes)

    def check(self) -> None:
        """Whether it answers, for a probe; raises StoreError."""
        with self._answering():
            self._database.execute("SELECT 1 FROM verdict LIMIT 1").fetchone()

    def _rows(self, where: str, *values: object) -> list[Recorded]:
        found = self._database.execute(f"SELECT {COLUMNS} FROM verdict {where}", values)  # noqa: S608  # ours
        return [
            Recorded(
                number=number,
                stage=Stage(rollout=rollout, pod_hash=pod_hash, stage=stage),
                verdict=verdict,
                reason=reason,
                evidence=evidence,
                finished_s=finished_s,
                received_s=received_s,
                by=by,
                terms=None if terms is None else msgspec.json.decode(terms, type=Terms),
            )
            for number, rollout, pod_hash, stage, verdict, reason, evidence, finished_s, received_s, by, terms in found
        ]

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not version:
            for statement in TABLES:
                self._database.execute(statement)
            version = 1
        elif application != APPLICATION:
            raise StoreVersionError(f"{str(self._path)!r} is another program's database", path=str(self._path))
        elif not 1 <= version <= VERSION:
            raise StoreVersionError(
                f"the verdicts in {str(self._path)!r} have version {version}, expected {VERSION}",
                hint="a later slipway wrote them; start that one",
                path=str(self._path),
            )
        for step in range(version, VERSION):
            for statement in STEPS[step]:
                self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version = {step + 1}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the body or nothing; it is on the disk when this ends."""
        with self._answering():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """One thread at a time, and SQLite's errors as ours."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise self._told(error) from error

    def _told(self, error: sqlite3.Error) -> StoreError | StoreFullError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says which of several places
        if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            return StoreFullError(
                f"the verdicts in {str(self._path)!r} have no space left: {error}",
                hint="make space, or raise `--max-store-mb`; what was posted was not kept, post it again",
                path=str(self._path),
            )
        return StoreError(f"the verdicts in {str(self._path)!r} cannot be used: {error}", path=str(self._path))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
