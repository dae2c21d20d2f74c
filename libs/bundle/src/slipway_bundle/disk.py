"""Durable writing: temporary file, fsync, rename, fsync of the folder; and the disk's errors in words.

It knows neither blobs nor references. The invariant: a name that other processes look at only ever changes by one
rename of a file that has already been synced; whatever fails or is killed leaves a temporary file at most.
Source: "Files are hard" (danluu.com/file-consistency); Pillai et al., OSDI 2014, "All File Systems Are Not Created
Equal", section 5. On macOS `fsync` does not empty the drive's own cache; that needs F_FULLFSYNC and is not done.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_bundle.errors import HostError
from slipway_bundle.store_errors import NoSpaceError, StoreDiskError, StorePermissionError

TEMPORARY_SUFFIX = ".tmp"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_SPARE_BYTES = 1 << 20
"""Folders, the index and the cache grow too."""


@contextmanager
def disk_errors(folder: Path, doing: str) -> Iterator[None]:
    """Turn an `OSError` of the body into an error with a code.

    Args:
        folder: Where it happened, for the message.
        doing: What was being done, "storing a layer".

    Raises:
        NoSpaceError: Disk or quota full, or beyond the file-size limit.
        StorePermissionError: No permission, or a read-only file system.
        StoreDiskError: Anything else.
    """
    try:
        yield
    except OSError as error:
        raise _named(error, folder, doing) from error


def _named(error: OSError, folder: Path, doing: str) -> HostError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return NoSpaceError(
            f"no space left in {str(folder)!r} while {doing}: {reason}",
            hint="nothing was published; free space (`slipway bundle gc`) or choose another disk with SLIPWAY_HOME",
            path=str(folder),
        )
    if error.errno in _FORBIDDEN:
        return StorePermissionError(
            f"not allowed in {str(folder)!r} while {doing}: {reason}",
            hint="check owner and permissions, or choose another folder with SLIPWAY_HOME",
            path=str(error.filename or folder),
        )
    return StoreDiskError(
        f"the disk failed in {str(folder)!r} while {doing}: {reason}",
        hint="`dmesg` may say more; nothing was published",
        path=str(error.filename or folder),
    )


def require_space(folder: Path, needed_bytes: int) -> None:
    """Refuse before the first byte what cannot fit; only a forecast, others write too.

    Raises:
        NoSpaceError: Less is free than `needed_bytes` and a spare megabyte.
    """
    status = os.statvfs(folder)
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes < needed_bytes + _SPARE_BYTES:
        raise NoSpaceError(
            f"no space left in {str(folder)!r}: got {free_bytes} bytes free, expected at least "
            f"{needed_bytes + _SPARE_BYTES}",
            hint="nothing was written; free space (`slipway bundle gc`) or choose another disk with SLIPWAY_HOME",
            path=str(folder),
            got=free_bytes,
            expected=needed_bytes + _SPARE_BYTES,
        )


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`; the kernel may take it in several bites."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Temporary:
    """A file nobody else looks at, open for writing, until `move_to` gives it a name."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._is_open = True
        self._is_moved = False

    def __enter__(self) -> "Temporary":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if not self._is_moved:
            self.path.unlink(missing_ok=True)

    def move_to(self, target: Path, *, mode: int, sync: bool = True) -> None:
        """Give the file its name at once and for good; what was there before is replaced.

        `sync=False` is for files that may be lost. The name itself is durable after `sync_folder(target.parent)`.
        """
        os.fchmod(self.descriptor, mode)
        if sync:
            os.fsync(self.descriptor)
        self._close()
        self.path.replace(target)
        self._is_moved = True

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self.descriptor)


def write_file(target: Path, data: bytes, *, through: Path, mode: int, sync: bool = True) -> None:
    """Replace `target` by `data` in one step, through a temporary file in the folder `through` (same file system)."""
    with Temporary(through) as temporary:
        write_all(temporary.descriptor, data)
        temporary.move_to(target, mode=mode, sync=sync)
