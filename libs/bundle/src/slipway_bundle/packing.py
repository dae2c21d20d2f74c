"""Packing: each source is read once, and every byte goes to two hashes and to the disk on the way.

It does not choose files or names, and gives the result no name. The invariant: the digests describe the bytes that
were written, whatever happens to the source meanwhile; a source that changes is refused.
hashlib and os.write release the GIL, so the sha256 of the file, that of the layer and the writing overlap.
"""

import hashlib
import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.disk import write_all
from slipway_bundle.layers import LayerFile, StatKey, unreadable
from slipway_bundle.progress import Progress
from slipway_bundle.store_errors import SourceChangedError
from slipway_bundle.tar import TRAILER, TarLayout

CHUNK_BYTES = 1 << 20
"""Handing it over (20 us) is little beside hashing it (0.7 ms), and all its readers find it in the cache."""

BUFFERS = 8
"""How far the reader may run ahead: 8 MiB of memory."""

INLINE_BYTES = 64 << 10
"""Less than this is hashed on the spot."""


class Packed(Struct, frozen=True, kw_only=True):
    """What was written: the digest of the layer, and of each file by its name."""

    digest: Digest
    files: dict[str, Digest]


class _Hash:
    """A sha256 that is computed on its own thread, in order."""

    def __init__(self) -> None:
        self._running = hashlib.sha256()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="slipway-hash")
        self._last: Future[None] | None = None

    def update(self, data: bytes | memoryview) -> Future[None] | None:
        """Add `data`, which must not change before the future is done."""
        if len(data) < INLINE_BYTES:
            self._wait()
            self._running.update(data)
            return None
        self._last = self._thread.submit(self._running.update, data)
        return self._last

    def take(self) -> Digest:
        """The digest of everything so far; the next byte begins a new one."""
        self._wait()
        digest = Digest("sha256:" + self._running.hexdigest())
        self._running = hashlib.sha256()
        return digest

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()
            self._last = None


class Packer:
    """Writes layers to open files. Use as a context manager; one thread at a time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._layer = _Hash()
        self._file = _Hash()
        self._busy: deque[tuple[memoryview, tuple[Future[None] | None, ...]]] = deque()

    def __enter__(self) -> "Packer":
        return self

    def __exit__(self, *_: object) -> None:
        self._layer.close()
        self._file.close()

    def write(
        self, layout: TarLayout, files: Mapping[str, LayerFile], expected: Mapping[str, StatKey], descriptor: int
    ) -> Packed:
        """Write the layer `layout` to `descriptor`.

        Args:
            layout: Where every byte goes.
            files: The file of each name in the layout.
            expected: The status of each file that is on disk, as the layout was made from it.
            descriptor: Open for writing, at its start.

        Raises:
            SourceChangedError: A source is not, or does not stay, what `expected` says.
            FileError: A source cannot be read.
            OSError: The target cannot be written.
        """
        digests: dict[str, Digest] = {}
        for segment in layout.segments:
            self._emit(segment.header, descriptor)
            if segment.is_directory:
                continue
            source = files[segment.path].source
            if isinstance(source, bytes):
                self._file.update(source)
                self._emit(source, descriptor)
                self._progress.advance(len(source))
            else:
                self._copy(source, expected[segment.path], descriptor)
            digests[segment.path] = self._file.take()
            self._emit(segment.padding, descriptor)
        self._emit(TRAILER, descriptor)
        return Packed(digest=self._layer.take(), files=digests)

    def _emit(self, data: bytes, descriptor: int) -> None:
        self._layer.update(data)
        write_all(descriptor, data)

    def _copy(self, source: Path, expected: StatKey, descriptor: int) -> None:
        try:
            # O_NONBLOCK: a FIFO that took the file's place must not hang the build.
            reader = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(source, error.strerror or str(error)) from error
        try:
            _require_same(source, expected, reader)
            left = expected.size
            while left:
                buffer = self._buffer()
                count = _read(reader, buffer[: min(left, CHUNK_BYTES)], source)
                if count == 0:
                    break
                chunk = buffer[:count]
                # First the hashes, which run elsewhere, then the write, which runs here.
                hashing = (self._layer.update(chunk), self._file.update(chunk))
                write_all(descriptor, chunk)
                self._busy.append((buffer, hashing))
                self._progress.advance(count)
                left -= count
            _require_same(source, expected, reader, missing=left)
        finally:
            os.close(reader)

    def _buffer(self) -> memoryview:
        if len(self._busy) < BUFFERS:
            return memoryview(bytearray(CHUNK_BYTES))
        buffer, hashing = self._busy.popleft()
        for future in hashing:
            if future is not None:
                future.result()
        return buffer


def _read(reader: int, buffer: memoryview, source: Path) -> int:
    try:
        return os.readv(reader, [buffer])
    except OSError as error:
        raise unreadable(source, error.strerror or str(error)) from error


def _require_same(source: Path, expected: StatKey, reader: int, *, missing: int = 0) -> None:
    now = StatKey.of(os.fstat(reader))
    if now != expected or missing:
        raise SourceChangedError(
            f"{str(source)!r} changed while it was packed: got {now.size - missing} bytes, expected {expected.size} "
            "and no change of inode or times",
            hint="let the training end, then build again",
            path=str(source),
        )
