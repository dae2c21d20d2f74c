"""The folder of captured requests: what is where in it, who writes, and how a forget reaches those who do.

It reads and writes no records. The invariants: every file has one writer at a time; what a living process has open is
touched by nobody else; what a dead one left open is taken over. A forget raises the epoch; each writer that sees a new
epoch takes what was offered before, closes its segment and says so in its file, so that afterwards everything from
before the forget is in closed files. A writer is alive while it holds the lock of its file.

    FOLDER/                                                     mode 0700
    ├── epoch                      how many forgets there were
    ├── writers/ID                 one for each process that captures, locked while it lives; the epoch it has seen
    ├── open/ID-000001.segment     being written
    ├── closed/ID-000001.segment   complete, not yet Parquet
    ├── staging/                   Parquet being written; nobody reads it
    ├── commit.json                what is being made visible now (`transactions`)
    ├── data/model=…/version=…/dt=…/hour=…/part-HOST-000001.parquet
    ├── receipts/                  of forgets
    ├── labels.db, labels.prom     labels and what they count to
    ├── clock                      what the clock said when compaction ran last (`clock`)
    └── lock                       of compaction, forgetting, labels
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from slipway_bundle.disk import sync_folder, write_all
from slipway_signals.capture.errors import CaptureBusyError, CaptureFolderError
from slipway_signals.capture.private_files import (
    create_file,
    is_locked,
    locked,
    make_folder,
    read_own,
    replace_file,
)

__all__ = ["CaptureFolder", "Partition", "WriterFile", "host_name"]

SEGMENT_SUFFIX: Final = ".segment"
_PARTS: Final = ("writers", "open", "closed", "staging", "data", "receipts")
_NAME_BYTES: Final = 150
"""A folder's name has 255 bytes on most file systems; a longer model name is cut and told apart by its hash."""
_POLL_S: Final = 0.05


class Partition(tuple[str, str, str, str]):
    """model, version, day and hour (UTC) as they stand in folder names."""

    __slots__ = ()

    @classmethod
    def of(cls, model: str, version: str, ts: float) -> "Partition":
        """Where a request of `ts` (seconds since the epoch) belongs."""
        at = datetime.fromtimestamp(ts, UTC)
        return cls((segment_name(model), segment_name(version), f"{at:%Y-%m-%d}", f"{at:%H}"))

    @property
    def path(self) -> Path:
        """Relative to `data/`."""
        model, version, day, hour = self
        return Path(f"model={model}", f"version={version}", f"dt={day}", f"hour={hour}")


def segment_name(text: str) -> str:
    """`text` as part of a folder's name: percent-encoded, so that no model name can leave the folder."""
    quoted = quote(text, safe="", errors="replace") or "none"
    if len(quoted) <= _NAME_BYTES:
        return quoted

    return f"{quoted[:_NAME_BYTES]}~{hashlib.sha256(quoted.encode()).hexdigest()[:16]}"


def host_name() -> str:
    """The name of this host as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64] or "host"


class CaptureFolder:
    """The folder `root`, made when it is not there.

    Raises:
        CaptureFolderError: It, or a folder in it, cannot be made, is a link, or is open to other users.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        make_folder(self.root)
        for part in _PARTS:
            make_folder(self.root / part)
        self.open_segments = self.root / "open"
        self.closed_segments = self.root / "closed"
        self.staging = self.root / "staging"
        self.data = self.root / "data"
        self.receipts = self.root / "receipts"
        self.writers = self.root / "writers"
        self.commit = self.root / "commit.json"
        self.clock = self.root / "clock"

    @classmethod
    def existing(cls, root: Path) -> "CaptureFolder":
        """The folder `root`, which must be there.

        Raises:
            CaptureFolderError: It is not, or is no capture folder.
        """
        if not (root / "closed").is_dir():
            raise CaptureFolderError(
                f"{str(root)!r} is no capture folder", hint="it is the `folder` of `[runtime.capture]`"
            )
        return cls(root)

    @contextlib.contextmanager
    def exclusive(self, timeout_s: float) -> Iterator[None]:
        """Be the only process that compacts, forgets or counts labels here; blocks for at most `timeout_s`.

        Raises:
            CaptureBusyError: Another one still is.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            with locked(self.root / "lock") as is_ours:
                if is_ours:
                    yield
                    return
            if time.monotonic() >= give_up:
                raise CaptureBusyError(
                    f"another process is at work in {str(self.root)!r}, for {timeout_s:.0f} s by now",
                    hint="a compaction takes seconds; try again, and look for one that hangs",
                )
            time.sleep(_POLL_S)  # flock has no deadline of its own

    @property
    def epoch(self) -> int:
        """How many forgets there were."""
        try:
            return int(read_own(self.root / "epoch"))
        except (FileNotFoundError, ValueError):
            return 0

    def next_epoch(self, timeout_s: float) -> None:
        """Raise the epoch and wait until every living writer has closed what it wrote before. Call it locked.

        Raises:
            CaptureBusyError: A writer did not within `timeout_s`.
        """
        epoch = self.epoch + 1
        replace_file(self.root / "epoch", b"%d\n" % epoch, through=self.staging)
        give_up = time.monotonic() + timeout_s
        while waiting := [path.name for path in self._living() if _epoch_of(path) < epoch]:
            if time.monotonic() >= give_up:
                raise CaptureBusyError(
                    f"the process {waiting[0]!r} captures and did not close its segment within {timeout_s:.0f} s",
                    hint="it hangs, or its disk does; end it and try again: nothing was forgotten yet",
                )
            time.sleep(_POLL_S)  # other processes, which share no event with this one

    def take_over(self) -> int:
        """Close the segments that dead writers left open, and forget those writers; gives how many. Call it locked."""
        found = files_in(self.open_segments, SEGMENT_SUFFIX)  # before asking who lives: writers may start meanwhile
        living = {path.name for path in self._living()}
        left = [path for path in found if path.name.rpartition("-")[0] not in living]
        for path in left:
            path.replace(self.closed_segments / path.name)
        if left:
            sync_folder(self.closed_segments)
        for path in files_in(self.writers):
            if not is_locked(path):
                path.unlink(missing_ok=True)
        return len(left)

    def closed(self) -> list[Path]:
        """The closed segments, oldest first by name."""
        return sorted(files_in(self.closed_segments, SEGMENT_SUFFIX))

    def partition(self, partition: Partition) -> Path:
        """The folder of a partition, made when it is not there; no step of the way may be a link."""
        path = self.data
        for step in partition.path.parts:
            path /= step
            make_folder(path)
        return path

    def parts(self) -> Iterator[Path]:
        """Every Parquet file that can be read, in the order of their names; links are not followed."""
        yield from _walk(self.data, ".parquet")

    def _living(self) -> list[Path]:
        return [path for path in files_in(self.writers) if is_locked(path)]


class WriterFile:
    """The claim of one process to write segments under a name of its own; the lock ends with the process."""

    def __init__(self, folder: CaptureFolder) -> None:
        self.name = f"{host_name()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._path = folder.writers / self.name
        hidden = folder.writers / f".{self.name}"
        self._descriptor = create_file(hidden, os.O_RDWR)

        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # before others can see it: unlocked, it would count as dead
        write_all(self._descriptor, b"%d\n" % folder.epoch)
        hidden.rename(self._path)

    def acknowledge(self, epoch: int) -> None:
        """Say that nothing from before `epoch` is open or waiting here any more."""
        os.pwrite(self._descriptor, b"%d\n" % epoch, 0)

    def close(self) -> None:
        """Give the name up."""
        with contextlib.suppress(OSError):  # the folder may be gone; without the lock the file is dead anyway
            self._path.unlink()
        os.close(self._descriptor)


def files_in(folder: Path, suffix: str = "") -> list[Path]:
    """The plain files in `folder` whose names end with `suffix`; hidden ones and links are passed over."""
    with os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.name.endswith(suffix) and not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
        ]


def _walk(folder: Path, suffix: str) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), suffix)
        elif entry.is_file(follow_symlinks=False) and entry.name.endswith(suffix) and not entry.name.startswith("."):
            yield Path(entry.path)


def _epoch_of(writer: Path) -> int:
    try:
        return int(read_own(writer))
    except (OSError, ValueError):
        return 1 << 62  # gone meanwhile
