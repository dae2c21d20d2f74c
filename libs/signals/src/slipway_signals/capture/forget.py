"""The right to forget: everything that was captured of one person, or one request, is taken out and written anew.

Rewriting, not shredding of keys: that what is left holds nothing can be shown by reading it, with any tool; a key for
each person would be a second store of personal data, make every column unreadable to the tools it is kept for, and its
deletion prove nothing about the values that a policy keeps. What rewriting cannot reach (copies, backups) ends with
the retention. The invariants: the new files and the receipt become visible in one step; the receipt does not say who.
Source: GDPR, article 17; `docs/capture.md`.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from slipway_bundle.errors import UsageError
from slipway_signals.capture.compact import WAIT_S, disk_words, pack_segments
from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.label_state import LABELS_DB
from slipway_signals.capture.label_store import LabelStore
from slipway_signals.capture.parts import (
    FEATURES,
    PREDICTION,
    places_of,
    read_part,
    read_table,
    require_pyarrow,
    take,
    write_part,
)
from slipway_signals.capture.private_files import read_own, replace_file
from slipway_signals.capture.pseudonyms import KeyRing, key_path
from slipway_signals.capture.records import Column, ModelFormat
from slipway_signals.capture.transactions import Transaction, recover

__all__ = ["Changed", "Receipt", "forget"]

WRITERS_S: Final = 30.0
"""For serving processes to close what they have open; they look four times a second."""


class Changed(Struct, frozen=True, kw_only=True):
    """A file that held something of the person."""

    path: str
    rows: int
    """Rows that were taken out."""
    before: str
    """SHA-256 of the file as it was."""
    after: str | None
    """And as it is; None when nothing was left to keep."""


class Receipt(Struct, frozen=True, kw_only=True):
    """What was forgotten, without saying of whom."""

    id: str
    what: Literal["subject", "request"]
    at: str
    rows: int
    labels: int
    files: tuple[Changed, ...]
    searched: int
    """Files that were read through, changed or not."""
    digest: str = ""
    """SHA-256 of this receipt as JSON, keys sorted, with this field empty."""


class _Person(Struct, frozen=True):
    """What stands for the person or the request in a file."""

    plain: str
    pseudonyms: frozenset[str]
    is_request: bool


def forget(
    root: Path,
    now: float,
    *,
    subject: str | None = None,
    request: str | None = None,
    key_file: str | None = None,
    dry_run: bool = False,
    timeout_s: float = WRITERS_S,
    compression: str = "zstd",
) -> Receipt:
    """Take out every captured row of one subject, or of one request, and its labels; and write a receipt.

    A row belongs to a subject when its subject key, a hashed value or a kept text is the subject, or an id of it is.

    Args:
        root: A capture folder; processes may be capturing into it.
        now: Seconds since the epoch, for the receipt.
        subject: As the service was given it, not a pseudonym.
        request: The id of a request.
        key_file: As in `[runtime.capture]`.
        dry_run: Find, count, and change nothing but what compaction would.
        timeout_s: How long to wait for the processes that capture.
        compression: Of the rewritten files.

    Returns:
        The receipt, also kept in `receipts/`; of a dry run, what it would say.

    Raises:
        UsageError: Neither or both of `subject` and `request` were given.
        CaptureBusyError: Another process is at work in the folder, or one that captures does not answer. Nothing was
            forgotten.
        CaptureFolderError: The folder or its keys cannot be used, or the disk is full. Nothing was forgotten.
        CaptureExtraError: pyarrow is not installed.
    """
    if (subject is None) == (request is None) or not (subject or request):
        raise UsageError("who is to be forgotten is not clear, expected either a subject or a request")
    require_pyarrow()
    folder = CaptureFolder.existing(root)
    with folder.exclusive(max(timeout_s, WAIT_S)), disk_words(folder):
        recover(folder)
        person = _person(folder, subject, request, key_file)
        folder.next_epoch(timeout_s)
        pack_segments(folder, compression=compression)
        found = [(path, _rows_to_keep(path, person)) for path in folder.parts()]
        hit = [(path, keep) for path, keep in found if not all(keep)]
        labels = _forget_labels(folder, person, hit, dry_run=dry_run)
        draft = Receipt(
            id=secrets.token_hex(8),
            what="subject" if request is None else "request",
            at=f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}",
            rows=sum(keep.count(False) for _, keep in hit),
            labels=labels,
            files=(),
            searched=len(found),
        )
        return draft if dry_run else _rewrite(folder, draft, hit, compression)


def _person(folder: CaptureFolder, subject: str | None, request: str | None, key_file: str | None) -> _Person:
    if subject is None:
        return _Person(request or "", frozenset(), is_request=True)
    return _Person(subject, KeyRing(key_path(folder.root, key_file)).all_of(subject), is_request=False)


def _rewrite(
    folder: CaptureFolder, draft: Receipt, hit: Sequence[tuple[Path, list[bool]]], compression: str
) -> Receipt:
    """Write the parts anew, and the receipt, and make them visible together."""
    changed = []
    with Transaction(folder) as change:
        for path, keep in hit:
            after = None
            if any(keep):
                staged = change.stage(path)
                write_part(staged, take(read_table(path), keep), compression=compression)
                after = _digest(staged)
            else:
                change.delete([path])
            name = str(path.relative_to(folder.root))
            changed.append(Changed(path=name, rows=keep.count(False), before=_digest(path), after=after))
        receipt = msgspec.structs.replace(draft, files=tuple(changed))
        receipt = msgspec.structs.replace(receipt, digest=sha256(_canonical(receipt)).hexdigest())
        staged = change.stage(folder.receipts / f"{receipt.id}.json")
        replace_file(staged, msgspec.json.format(_canonical(receipt), indent=2) + b"\n")
    return receipt


def _canonical(receipt: Receipt) -> bytes:
    return msgspec.json.encode(receipt, order="sorted")


def _rows_to_keep(path: Path, person: _Person) -> list[bool]:
    """For each row of a part, whether it stays."""
    columns = _suspects(read_part(path).format, person)
    table = read_table(path, list(columns))
    gone = [False] * table.num_rows
    for name, wanted in columns.items():
        for place in places_of(table[name], wanted):
            gone[place] = True
    return [not each for each in gone]


def _suspects(model: ModelFormat, person: _Person) -> dict[str, frozenset[str | bytes]]:
    """The columns in which the person can be, and what it is called there."""
    plain: frozenset[str | bytes] = frozenset({person.plain})
    found: dict[str, frozenset[str | bytes]] = {"request_id": plain}
    if person.is_request:
        return found
    found |= {"trace_id": plain, "subject_key": frozenset(person.pseudonyms)}
    for prefix, columns in ((FEATURES, model.features), (PREDICTION, model.prediction)):
        found |= {prefix + column.name: wanted for column in columns if (wanted := _called(column, person))}
    return found


def _called(column: Column, person: _Person) -> frozenset[str | bytes]:
    if column.action == "hash":
        return frozenset(person.pseudonyms)
    if column.action == "keep" and column.kind == "text":
        return frozenset({person.plain})
    if column.action == "keep" and column.kind == "bytes":
        return frozenset({person.plain.encode("utf-8", "surrogatepass")})
    return frozenset()


def _forget_labels(
    folder: CaptureFolder, person: _Person, hit: Sequence[tuple[Path, list[bool]]], *, dry_run: bool
) -> int:
    """Before the rows go, because they say which labels are meant: a forget that was killed can be repeated."""
    requests = {person.plain}
    for path, keep in hit:
        ids = read_table(path, ["request_id"])["request_id"].to_pylist()
        requests |= {one for one, stays in zip(ids, keep, strict=True) if not stays}
    database = folder.root / LABELS_DB
    if not database.exists():
        return 0
    with LabelStore.opened(database) as store:
        return store.count(requests) if dry_run else store.forget(requests)


def _digest(path: Path) -> str:
    return sha256(read_own(path)).hexdigest()
