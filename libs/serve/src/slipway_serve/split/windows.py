"""The file of windows: one line for each, whole or not at all; moved aside when it is full or another run begins.

It counts nothing. The invariant: the lines of one file are one run: indices from 0 without gaps, under one
configuration; so a file is judged as it is.
"""

import os
from pathlib import Path
from typing import Final

from slipway_bundle.disk import write_all
from slipway_signals.gate.records import Window, encode_window

__all__ = ["WindowFile"]

MEBIBYTE: Final = 1 << 20


class WindowFile:
    """Where windows go. Blocks: used from one thread at a time.

    Args:
        path: of the file; its folder is made when it is not there.
        max_mb: its size at most, in MiB.
    """

    def __init__(self, path: Path, max_mb: int) -> None:
        self._path = path
        self._max_bytes = max_mb * MEBIBYTE
        self._has_begun = False

    def write(self, window: Window) -> None:
        """Append one window; the first one, and one of index 0, begins a new file, and the last one is kept as `.1`.

        Raises:
            OSError: it cannot be written; nothing of the window is in the file.
        """
        line = encode_window(window) + b"\n"
        if not self._has_begun or window.index == 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._has_begun = True
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, line)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def is_full(self) -> bool:
        """Whether the next window should be the first of a new file."""
        try:
            return self._path.stat().st_size >= self._max_bytes
        except OSError:
            return False
