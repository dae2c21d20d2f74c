"""Folders of one process's own: removed at the end of a block, and after `kill -9` by the next process that looks.

A folder is locked for as long as its process lives: the operating system lets go of the lock however the process ends.
A process id in the name would say less, because another process may have it by now. The invariants: a folder whose
process lives is never removed, nor one of another user; no symbolic link is followed.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["FRESH_S", "remove_leftovers", "scratch_folder"]

FRESH_S: Final = 60.0
"""A folder so young may belong to a process that is about to lock it."""


@contextlib.contextmanager
def scratch_folder(prefix: str, folder: Path | None = None) -> Iterator[Path]:
    """A new folder, removed at the end of the block; what cannot be removed then is left to `remove_leftovers`.

    Args:
        prefix: With which its name begins.
        folder: In which it is made; None: that of all temporary files.

    Raises:
        OSError: It cannot be made or locked.
    """
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True) as made,
        _opened(Path(made)) as descriptor,
    ):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Path(made)


def remove_leftovers(prefix: str, folder: Path | None = None) -> list[Path]:
    """Remove folders of `scratch_folder` whose process is gone; gives them. One that cannot be removed stays."""
    removed = []
    for found in Path(folder or tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # in use, or another process was quicker
            seen = found.stat(follow_symlinks=False)
            if seen.st_uid != os.getuid() or time.time() - seen.st_mtime < FRESH_S:
                continue
            with _opened(found) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found)
            removed.append(found)
    return removed


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Its descriptor, which no child inherits. Raises OSError when it is no folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
