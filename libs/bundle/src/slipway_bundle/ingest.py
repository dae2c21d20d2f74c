"""A blob on its way into a store: hashed while it is written, kept when it is cut off, named only when it is whole.

It fetches nothing. The invariants: a blob gets its name only after its size and digest are right and it is synced; what
a cut-off transfer left (`slipway/ingest/<hex>.part`) is hashed again before anything is added to it, so nobody has to
trust it; two processes that fetch the same blob do not write into the same file.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from slipway_bundle.digest import CHUNK_BYTES, Digest, hex_of
from slipway_bundle.disk import Temporary, require_space, write_all
from slipway_bundle.locks import try_lock
from slipway_bundle.oci import Descriptor
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.store import BLOB_MODE, Store
from slipway_bundle.store_errors import BlobCorruptError

__all__ = ["PART_SUFFIX", "Incoming", "require_space_for"]

PART_SUFFIX = ".part"


class Incoming:
    """One blob that arrives. Use it as a context manager, inside `disk_errors` and a lease; one thread at a time."""

    def __init__(self, store: Store, descriptor: Descriptor, *, progress: Progress = QUIET) -> None:
        """Opens what an earlier transfer left, or an empty file.

        Raises:
            NoSpaceError: The rest would not fit.
            OSError: The file cannot be made.
        """
        self._expected = descriptor
        self._target = store.layout.blob(descriptor.digest)
        self._progress = progress
        self._told_bytes = 0
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="slipway-hash")
        self.size = 0
        """Bytes that are there and hashed."""
        self._file: _Part | Temporary = _Part.open(_part(store, descriptor)) or Temporary(store.layout.ingest)
        try:
            self._take_up()
            require_space(store.layout.ingest, descriptor.size - self.size)
        except BaseException:
            self._thread.shutdown()
            self._file.__exit__()
            raise

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._file.__exit__()

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end.

        Raises:
            BlobCorruptError: More came than the descriptor says.
            OSError: The disk does not take them.
        """
        if self.size + len(chunk) > self._expected.size:
            raise self._wrong(f"at least {self.size + len(chunk)} bytes")
        self._wait()
        self._hashing = self._thread.submit(self._hash.update, chunk)  # while the disk takes them
        write_all(self._file.descriptor, chunk)
        self._count(len(chunk))

    def restart(self) -> None:
        """Forget what is there: whoever sends cannot go on from it, or it was wrong."""
        self._wait()
        os.ftruncate(self._file.descriptor, 0)
        os.lseek(self._file.descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.size = 0

    def finish(self) -> None:
        """Give the blob its name, durably once the folder is synced.

        Raises:
            BlobCorruptError: Its size or digest is wrong; what arrived is thrown away.
            OSError: The disk failed.
        """
        self._wait()
        got = Digest("sha256:" + self._hash.hexdigest())
        if (got, self.size) != (self._expected.digest, self._expected.size):
            wrong = self._wrong(f"{got} of {self.size} bytes")
            self.restart()
            raise wrong
        self._file.move_to(self._target, mode=BLOB_MODE)

    def fill(self, chunks: Iterable[bytes]) -> None:
        """`write` each, then `finish`; raises like them."""
        for chunk in chunks:
            self.write(chunk)
        self.finish()

    def _take_up(self) -> None:
        """Hash what is there. More than there should be is no beginning of it."""
        if os.fstat(self._file.descriptor).st_size > self._expected.size:
            os.ftruncate(self._file.descriptor, 0)
        while chunk := os.read(self._file.descriptor, CHUNK_BYTES):
            self._hash.update(chunk)
            self._count(len(chunk))

    def _count(self, count_bytes: int) -> None:
        """Bytes that come a second time, after a restart, are not told again."""
        self.size += count_bytes
        if self.size > self._told_bytes:
            self._progress.advance(self.size - self._told_bytes)
            self._told_bytes = self.size

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def _wrong(self, got: str) -> BlobCorruptError:
        return BlobCorruptError(
            f"what arrived for blob {self._expected.digest} is wrong: got {got}, expected {self._expected.size} bytes",
            expected=self._expected.digest,
        )


def require_space_for(store: Store, descriptors: Iterable[Descriptor]) -> None:
    """Refuse before the first byte what cannot all fit beside each other.

    Raises:
        NoSpaceError: Less is free than they need, without what earlier transfers left of them.
    """
    require_space(store.layout.ingest, sum(each.size - _left_bytes(store, each) for each in descriptors))


def _left_bytes(store: Store, descriptor: Descriptor) -> int:
    try:
        return min(_part(store, descriptor).stat().st_size, descriptor.size)
    except FileNotFoundError:
        return 0


def _part(store: Store, descriptor: Descriptor) -> Path:
    return store.layout.ingest / f"{hex_of(descriptor.digest)}{PART_SUFFIX}"


class _Part(Temporary):
    """A file that outlives its process, so that the next one can go on; nobody else has it while this one is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self._is_open = True
        self._is_moved = True  # whatever happens, it stays

    @classmethod
    def open(cls, path: Path) -> "_Part | None":
        """The file, empty when it was not there; None while another process writes to it."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return cls(path, descriptor)
            os.close(descriptor)  # its last owner finished between our two steps, and gave it its name

    def move_to(self, target: Path, *, mode: int, sync: bool = True) -> None:
        """Like any temporary file, but renamed before it is unlocked: nobody may take up a file that is a blob."""
        os.fchmod(self.descriptor, mode)
        if sync:
            os.fsync(self.descriptor)
        self.path.replace(target)
        self._close()
