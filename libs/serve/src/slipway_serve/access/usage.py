"""What clients have used, in memory that all API workers of a server share, or in a file that outlives it.

A table of fixed size: a client has one of eight places in its row, found by a keyed hash of its id. The invariants: a
row is read and written under a lock of its own on the file, which the kernel lets go when a process dies, so counts are
exact over all processes of a machine that have the file open; when a row is full the client who has used least gives
its place; callers without a name have rows of their own, so that however many addresses come, no named client loses
its count. The file is written through memory: a killed server loses nothing, a machine that loses power up to about
half a minute of counts.
"""

import fcntl
import mmap
import os
import secrets
import struct
from hashlib import blake2b
from pathlib import Path
from typing import Final

from slipway_serve.access.errors import QuotaFileError
from slipway_serve.access.limits import Limit, Taken, Usage

MAGIC: Final = b"slwusage"
VERSION: Final = 1
HEADER: Final = struct.Struct("=8sQQ32s")
"""Magic, version, rows, key of the hash."""
HEADER_BYTES: Final = 512
WAYS: Final = 8
ENTRY_WORDS: Final = 8
"""Hash (two words), `full_at`, day, count; three to spare."""
ROW_BYTES: Final = WAYS * ENTRY_WORDS * 8
ROWS: Final = 8_192
"""Of clients with a name, and as many of others: 65,536 clients each; 8 MiB, of which what is used takes memory."""
UNNAMED: Final = "address:"


def open_usage(path: Path | None) -> int:
    """The table's file, made when it is not there; the caller owns the descriptor.

    Args:
        path: where it is kept; None: in memory, for as long as somebody has it open.

    Raises:
        QuotaFileError: it cannot be opened, or is something else.
    """
    if path is None:
        fd = os.memfd_create("slipway-usage", os.MFD_CLOEXEC)
        _make(fd)
        _check(fd, "memory")
        return fd
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise QuotaFileError(
            f"the file of the day's counts `{path}` cannot be opened: {error.strerror or error}",
            hint="`runtime.access.state` is a file that the server may write",
            path=str(path),
        ) from error
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX, HEADER_BYTES)
        if os.fstat(fd).st_size == 0:
            _make(fd)
        _check(fd, str(path))
        fcntl.lockf(fd, fcntl.LOCK_UN, HEADER_BYTES)
    except OSError as error:
        os.close(fd)
        raise QuotaFileError(f"the file of the day's counts `{path}` cannot be made: {error.strerror}") from error
    except QuotaFileError:
        os.close(fd)
        raise
    return fd


class UsageTable:
    """The table, seen by one process. Not thread-safe: one lock a process and row.

    Args:
        fd: as `open_usage` gave it; stays the caller's and open, because closing it lets all locks go.
    """

    def __init__(self, fd: int) -> None:
        _check(fd, f"descriptor {fd}")
        self._fd = fd
        mapped = mmap.mmap(fd, 0)
        _, _, self._rows, self._key = HEADER.unpack_from(mapped)
        self._words = memoryview(mapped).cast("Q")
        self._cells = memoryview(mapped).cast("d")

    def take(self, client: str, limit: Limit, now: float, unix: float) -> Taken:
        """Count one request of a client, if its limits take it. HOT where there are limits: 6 us.

        Blocks as long as another process counts in the same row, which is microseconds.

        Args:
            client: its id.
            limit: its limits.
            now: `time.monotonic()`.
            unix: `time.time()`.
        """
        high, low = struct.unpack("=QQ", blake2b(client.encode(), digest_size=16, key=self._key).digest())
        row = high % self._rows + (self._rows if client.startswith(UNNAMED) else 0)
        at = HEADER_BYTES + row * ROW_BYTES
        fcntl.lockf(self._fd, fcntl.LOCK_EX, ROW_BYTES, at)
        try:
            place = self._place(at // 8, high, low, now)
            taken = limit.take(self._usage(place, high, low), now, unix)
            words = self._words
            words[place], words[place + 1] = high, low
            self._cells[place + 2] = taken.usage.full_at
            words[place + 3], words[place + 4] = taken.usage.day, taken.usage.taken
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, ROW_BYTES, at)
        return taken

    def _place(self, row: int, high: int, low: int, now: float) -> int:
        """The client's place in its row; a free one, or that of who has used least, when it has none."""
        words = self._words
        places = range(row, row + WAYS * ENTRY_WORDS, ENTRY_WORDS)
        for place in places:
            if words[place] == high and words[place + 1] == low:
                return place
        return min(places, key=lambda place: (words[place + 3], words[place + 4], max(now, self._cells[place + 2])))

    def _usage(self, place: int, high: int, low: int) -> Usage:
        words = self._words
        if words[place] != high or words[place + 1] != low:
            return Usage()
        return Usage(self._cells[place + 2], words[place + 3], words[place + 4])


def _make(fd: int) -> None:
    """Write the header, in one step; `_check` lets the file grow to its size."""
    os.pwrite(fd, HEADER.pack(MAGIC, VERSION, ROWS, secrets.token_bytes(32)), 0)


def _check(fd: int, name: str) -> None:
    header = os.pread(fd, HEADER.size, 0)
    size = os.fstat(fd).st_size
    if len(header) == HEADER.size:
        magic, version, rows, _ = HEADER.unpack(header)
        expected = HEADER_BYTES + 2 * rows * ROW_BYTES
        if magic == MAGIC and version == VERSION and rows == ROWS and size in {HEADER.size, expected}:
            os.ftruncate(fd, expected)
            return
    raise QuotaFileError(
        f"`{name}` is no file of the day's counts, got {size} bytes that begin with {header[:8]!r}",
        hint="name another file in `runtime.access.state`; nothing was changed",
    )
