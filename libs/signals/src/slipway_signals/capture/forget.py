"""The right to forget: everything that was captured of one person, or one request, is taken out and written anew.

Rewriting, not shredding of keys: that what is left holds nothing can be shown by reading it, with any tool; a key for
each person would be a second store of personal data, make every column unreadable to the tools it is kept for, and its
deletion prove nothing about the values that a policy keeps. What rewriting cannot reach (copies, backups) ends with
the retention. The invariants: the new files and the receipt become visible in one step; the receipt does not say who.
Source: GDPR, article 17; `docs/capture.md`.
"""

import secrets
import unicodedata
from collections.abc import Iterator, Sequence
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
    Part,
    places_of,
    places_where,
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
    what: Literal["subject", "request", "text"]
    at: str
    rows: int
    labels: int
    files: tuple[Changed, ...]
    searched: int
    """Files that were read through, changed or not."""
    kept_text: tuple[str, ...] = ()
    """Columns of text as it was written. Inside such a text a person is found by `text` only."""
    digest: str = ""
    """SHA-256 of this receipt as JSON, keys sorted, with this field empty."""


class _Wanted(Struct, frozen=True):
    """What stands for the person or the request in a file."""

    what: Literal["subject", "request", "text"]
    plain: str = ""
    """The subject, or the id of the request."""
    pseudonyms: frozenset[str] = frozenset()
    """Of the subject."""
    texts: tuple[str, ...] = ()
    """Folded."""


def forget(
    root: Path,
    now: float,
    *,
    subject: str | None = None,
    request: str | None = None,
    texts: Sequence[str] = (),
    key_file: str | None = None,
    dry_run: bool = False,
    timeout_s: float = WRITERS_S,
    compression: str = "zstd",
) -> Receipt:
    """Take out every captured row of one subject, one request, or some texts, with its labels, and write a receipt.

    A row belongs to a subject when its subject key, a hashed value or a kept text is the subject, or an id of it is.
    It has a text when a kept text or bytes, or the id of its request, contains it; of letters the case is ignored.

    Args:
        root: A capture folder; processes may be capturing into it.
        now: Seconds since the epoch, for the receipt.
        subject: As the service was given it, not a pseudonym.
        request: The id of a request.
        texts: What the person is called in texts that were kept as they were.
        key_file: As in `[runtime.capture]`.
        dry_run: Find, count, and change nothing but what compaction would.
        timeout_s: How long to wait for the processes that capture.
        compression: Of the rewritten files.

    Returns:
        The receipt, also kept in `receipts/`; of a dry run, what it would say.

    Raises:
        UsageError: None, or more than one, of `subject`, `request` and `texts` were given, or a text is blank.
        CaptureBusyError: Another process is at work here, or one that captures does not answer; nothing was forgotten.
        CaptureFolderError: The folder or its keys cannot be used, or the disk is full; nothing was forgotten.
        CaptureExtraError: pyarrow is not installed.
    """
    if sum(map(bool, (subject, request, texts))) != 1 or not all(text.strip() for text in texts):
        raise UsageError("who is to be forgotten is not clear, expected either a subject, or a request, or texts")
    require_pyarrow()
    folder = CaptureFolder.existing(root)
    with folder.exclusive(max(timeout_s, WAIT_S)), disk_words(folder):
        recover(folder)
        wanted = _wanted(folder, subject, request, texts, key_file)
        folder.next_epoch(timeout_s)
        pack_segments(folder, compression=compression)
        parts = [read_part(path) for path in folder.parts()]
        found = [(part.path, _rows_to_keep(part, wanted)) for part in parts]
        hit = [(path, keep) for path, keep in found if not all(keep)]
        draft = Receipt(
            id=secrets.token_hex(8),
            what=wanted.what,
            at=f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}",
            rows=sum(keep.count(False) for _, keep in hit),
            labels=_forget_labels(folder, wanted, hit, dry_run=dry_run),
            files=(),
            searched=len(found),
            kept_text=tuple(sorted({name for part in parts for name in _texts_in(part.format)})),
        )
        return draft if dry_run else _rewrite(folder, draft, hit, compression)


def _wanted(
    folder: CaptureFolder, subject: str | None, request: str | None, texts: Sequence[str], key_file: str | None
) -> _Wanted:
    if request:
        return _Wanted("request", request)
    if subject:
        return _Wanted("subject", subject, KeyRing(key_path(folder.root, key_file)).all_of(subject))
    return _Wanted("text", texts=tuple(map(_folded, texts)))


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


def _rows_to_keep(part: Part, wanted: _Wanted) -> list[bool]:
    """For each row of a part, whether it stays."""
    gone = [False] * part.rows
    for place in _places_with(part, wanted.texts) if wanted.texts else _places_called(part, wanted):
        gone[place] = True
    return [not each for each in gone]


def _places_called(part: Part, wanted: _Wanted) -> Iterator[int]:
    """The rows in which a value is what the subject or the request is called in its column."""
    plain: frozenset[str | bytes] = frozenset({wanted.plain})
    names: dict[str, frozenset[str | bytes]] = {"request_id": plain}
    if wanted.what == "subject":
        names |= {"trace_id": plain, "subject_key": frozenset(wanted.pseudonyms)}
        names |= {name: called for name, column in _columns(part.format) if (called := _called(column, wanted))}
    table = read_table(part.path, list(names))
    for name, called in names.items():
        yield from places_of(table[name], called)


def _places_with(part: Part, texts: Sequence[str]) -> Iterator[int]:
    """The rows in which a text contains one of these, which are folded."""

    def has(value: str | bytes) -> bool:
        words = _folded(value if isinstance(value, str) else value.decode("utf-8", "replace"))
        return any(text in words for text in texts)

    names = ["request_id", *_texts_in(part.format)]
    table = read_table(part.path, names)
    for name in names:
        yield from places_where(table[name], has)


def _columns(model: ModelFormat) -> Iterator[tuple[str, Column]]:
    yield from ((FEATURES + column.name, column) for column in model.features)
    yield from ((PREDICTION + column.name, column) for column in model.prediction)


def _texts_in(model: ModelFormat) -> list[str]:
    """The columns that hold texts, or bytes, as they were written."""
    return [name for name, column in _columns(model) if column.action == "keep" and column.kind in {"text", "bytes"}]


def _called(column: Column, wanted: _Wanted) -> frozenset[str | bytes]:
    if column.action == "hash":
        return frozenset(wanted.pseudonyms)
    if column.action == "keep" and column.kind == "text":
        return frozenset({wanted.plain})
    if column.action == "keep" and column.kind == "bytes":
        return frozenset({wanted.plain.encode("utf-8", "surrogatepass")})
    return frozenset()


def _folded(text: str) -> str:
    """Without case, and in one way of writing each character: `é` may be one or two."""
    return unicodedata.normalize("NFKC", text).casefold()


def _forget_labels(
    folder: CaptureFolder, wanted: _Wanted, hit: Sequence[tuple[Path, list[bool]]], *, dry_run: bool
) -> int:
    """Before the rows go, because they say which labels are meant: a forget that was killed can be repeated."""
    requests = {wanted.plain} - {""}
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
