"""Where the demo keeps what only it needs; a demo that was killed leaves its folders, and the next one removes them.

Each folder is locked for as long as its demo lives: the operating system lets go of the lock however the demo ends. A
process id in the name would say less, because another process may have it by now. Standard library only.
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

PREFIX: Final = "slipway-demo-"
FRESH_S: Final = 60.0
"""A folder so young may belong to a demo that is about to lock it."""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this demo's own, removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, _opened(Path(folder)) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Path(folder)


def remove_leftovers() -> list[Path]:
    """Remove the folders of our demos that are gone; returns them. One that cannot be removed stays."""
    removed = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, or another demo was quicker
            found = folder.stat(follow_symlinks=False)
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < FRESH_S:
                continue
            with _opened(folder) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            removed.append(folder)
    return removed


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Its descriptor, which no child inherits. Raises OSError when it is no folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
