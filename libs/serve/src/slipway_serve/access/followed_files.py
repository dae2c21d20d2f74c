"""Reads files again when they change: keys, certificates. Asked about once a second; starts no thread.

The invariant: what was read last and was right stays until the next reading is right. A file that is broken, half
written or gone changes nothing, is told once in the log, and shows in `slipway_access_stale_files` until it is mended.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from slipway_bundle import SlipwayError

logger = logging.getLogger(__name__)

Mark: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]
"""Of each file: device, inode, size, time of the last change in nanoseconds; None: it is not there."""


class FollowedFiles:
    """Files that belong together, and what is to be done with them.

    Args:
        paths: all of them; links are followed, so that a Kubernetes Secret that is replaced counts as a change.
        read: reads them and takes effect; raises SlipwayError or OSError and has no effect when they are not right.

    Raises:
        SlipwayError: they are not right at the start.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], None]) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._seen = self._mark()
        self.is_stale = False
        """Whether the files are not what is in use, because they are not right."""
        read()

    def look(self) -> None:
        """Read again if something changed; never raises. Costs a `stat` for each file."""
        mark = self._mark()
        if mark == self._seen:
            return
        self._seen = mark
        names = ", ".join(map(str, self._paths))
        try:
            self._read()
        except (SlipwayError, OSError) as error:
            self.is_stale = True
            logger.error(  # noqa: TRY400  # it is said in full
                "not read again, what was read before stays: %s: %s", names, error
            )
        else:
            self.is_stale = False
            logger.info("read again: %s", names)

    def _mark(self) -> Mark:
        return tuple(map(_state_of, self._paths))


def _state_of(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
