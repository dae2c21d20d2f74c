"""Segments: files that records are appended to, and that survive the death of their writer at any byte.

It knows nothing of models. A segment is a magic number and frames: length, CRC-32, body. The invariants: a frame is
read back whole or not at all; a torn tail ends the reading and nothing else; what could not be written whole is cut
off again. When `append` returns, the bytes are the kernel's: the death of the process loses nothing, the death of the
machine what was written since the last sync (`log`: at most 5 s, and never a closed segment).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

from slipway_bundle.disk import sync_folder, write_all
from slipway_signals.capture.private_files import create_file, read_own

__all__ = ["SegmentReader", "SegmentWriter", "frame_of"]

MAGIC: Final = b"SLIPSEG1"
MAX_BODY_BYTES: Final = 16_000_000
_HEAD: Final = struct.Struct("<II")


def frame_of(body: bytes) -> bytes:
    """`body` with its length and checksum before it."""
    return _HEAD.pack(len(body), crc32(body)) + body


class SegmentWriter:
    """One open segment. Not thread-safe.

    Args:
        path: Where it is while it is written; nothing may be there.
        closed: Where it goes when it is closed, on the same file system.
        now: `time.monotonic()`.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path, closed: Path, now: float) -> None:
        self._path = path
        self._closed = closed
        self.opened = now
        self.size = len(MAGIC)
        """Bytes in it."""
        self._descriptor = create_file(path, os.O_RDWR)
        try:
            write_all(self._descriptor, MAGIC)
        except OSError:
            os.close(self._descriptor)
            path.unlink(missing_ok=True)
            raise

    def append(self, frames: bytes) -> None:
        """Write whole frames behind what is there.

        Raises:
            OSError: The disk refused; the segment is as it was before.
        """
        try:
            write_all(self._descriptor, frames)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += len(frames)

    def sync(self) -> None:
        """Make what was written survive the machine; OSError when the disk refuses."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Sync it and give it its final name, in one step; OSError when the disk refuses, and it may be tried again."""
        os.fsync(self._descriptor)
        if self.size == len(MAGIC):
            self._path.unlink(missing_ok=True)
        else:
            self._path.replace(self._closed)
            sync_folder(self._closed.parent)
        os.close(self._descriptor)

    def abandon(self) -> None:
        """Let go of a segment whose file is gone."""
        os.close(self._descriptor)


class SegmentReader:
    """The frames of a segment that was closed, or left open by a process that died."""

    def __init__(self, path: Path) -> None:
        self._data = read_own(path)
        self.lost_bytes = 0
        """Bytes behind the last whole frame, once all were read."""

    def bodies(self) -> Iterator[memoryview]:
        """Each whole frame's body, in the order of writing."""
        data = memoryview(self._data)
        at = len(MAGIC) if self._data.startswith(MAGIC) else 0
        while at and at + _HEAD.size <= len(data):
            size, checksum = _HEAD.unpack_from(data, at)
            body = data[at + _HEAD.size : at + _HEAD.size + size]
            if size > MAX_BODY_BYTES or len(body) < size or crc32(body) != checksum:
                break
            yield body
            at += _HEAD.size + size
        self.lost_bytes = len(data) - at
