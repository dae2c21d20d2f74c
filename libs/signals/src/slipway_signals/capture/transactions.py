"""Changes many files of a capture folder as if in one step: all of it, or nothing, wherever the process is killed.

It does not know what is in the files. New files are written to `staging/`, where nobody reads; then `commit.json` says
which of them go where and what is deleted. That file is the decision: before it exists, nothing has happened; from then
on, whoever holds the folder's lock next carries out what is left of it. Each step may be repeated. The invariant:
after `recover` a request is in exactly one place.
Source: Gray, Reuter, "Transaction Processing" (1992), 10.3 (redo log); one process writes, so one record is enough.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from slipway_bundle.disk import sync_folder
from slipway_signals.capture.errors import CaptureFolderError
from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.private_files import make_folder, read_own, replace_file

__all__ = ["Transaction", "recover"]


class _Commit(Struct, frozen=True, kw_only=True):
    """What is being made true; paths are relative to the folder."""

    moves: tuple[tuple[str, str], ...] = ()
    deletes: tuple[str, ...] = ()


class Transaction:
    """One change: `with Transaction(folder) as change: …`, which commits at its end, or leaves nothing behind.

    The caller holds the folder's lock, and has called `recover`.
    """

    def __init__(self, folder: CaptureFolder) -> None:
        self._folder = folder
        self._moves: list[tuple[Path, Path]] = []
        self._deletes: list[Path] = []

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._commit()
        elif not os.path.lexists(self._folder.commit):
            for staged, _target in self._moves:
                staged.unlink(missing_ok=True)

    def stage(self, target: Path) -> Path:
        """Where to write, synced, what shall become `target`."""
        staged = self._folder.staging / f"{secrets.token_hex(8)}{target.suffix}"
        self._moves.append((staged, target))
        return staged

    def delete(self, paths: Iterable[Path]) -> None:
        """Delete these when it commits."""
        self._deletes += paths

    def _commit(self) -> None:
        """Make it true. OSError: the disk refused; then nothing has happened, or `recover` completes it."""
        if not self._moves and not self._deletes:
            return
        root = self._folder.root
        sync_folder(self._folder.staging)
        commit = _Commit(
            moves=tuple(
                (str(staged.relative_to(root)), str(target.relative_to(root))) for staged, target in self._moves
            ),
            deletes=tuple(str(path.relative_to(root)) for path in self._deletes),
        )
        replace_file(self._folder.commit, msgspec.json.encode(commit), through=self._folder.staging)
        _carry_out(self._folder, commit)


def recover(folder: CaptureFolder) -> None:
    """Complete what was decided, and remove what was not. Call it when the folder's lock was just taken.

    Raises:
        CaptureFolderError: `commit.json` is damaged, which only a failing disk or a person can do.
    """
    try:
        commit = msgspec.json.decode(read_own(folder.commit), type=_Commit)
    except FileNotFoundError:
        pass
    except msgspec.MsgspecError as error:
        raise CaptureFolderError(
            f"{str(folder.commit)!r} is damaged: {error}",
            hint="it lists what was to be moved from staging/; complete it by hand, then delete it",
        ) from error
    else:
        _carry_out(folder, commit)
    for path in folder.staging.iterdir():
        path.unlink()


def _carry_out(folder: CaptureFolder, commit: _Commit) -> None:
    touched: set[Path] = set()
    for staged, target in commit.moves:
        final = folder.root / target
        _make_folders(folder.root, final.parent)
        with contextlib.suppress(FileNotFoundError):  # moved before the kill
            (folder.root / staged).replace(final)
        touched.add(final.parent)
    for name in commit.deletes:
        path = folder.root / name
        path.unlink(missing_ok=True)
        touched.add(path.parent)
    for parent in touched:
        if parent.is_dir():
            sync_folder(parent)
    folder.commit.unlink()
    sync_folder(folder.root)
    for parent in sorted(touched):
        _prune(folder.data, parent)


def _make_folders(root: Path, wanted: Path) -> None:
    """Every step from `root` to `wanted`, none of them a link; their names are durable."""
    path = root
    for step in wanted.relative_to(root).parts:
        above, path = path, path / step
        if not os.path.lexists(path):
            make_folder(path)
            sync_folder(above)
        else:
            make_folder(path)


def _prune(data: Path, folder: Path) -> None:
    """Remove `folder` and those above it that are empty now, up to `data`."""
    while folder != data and data in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
