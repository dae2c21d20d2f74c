"""Shared memory for what is too large for a frame: one slab a process, written by it alone, read by others.

It does not know who reads or when that ends: whoever allocates frees, when the protocol says so (`docs/pools.md`). The
invariants: places that are in use never overlap; what is freed joins its free neighbours, so a slab that is empty is
one hole again; a view never reads outside the slab, and a slab never shrinks under its readers (it is sealed where the
system can), so reading a place cannot end in SIGBUS.

The memory is a memfd, or an unlinked temporary file where there is none (macOS); it is sparse, so a capacity costs
nothing until it is used, and it is gone with the last process that maps it, however that ends.
"""

import fcntl
import mmap
import os
import tempfile
from bisect import bisect_left
from typing import Final

from slipway_runtime.wire.frames import Place, WireError

__all__ = ["SLAB_BYTES", "FirstFit", "Slab", "SlabView"]

SLAB_BYTES: Final = 256 * 1024 * 1024
"""Capacity unless configured."""
_ALIGNMENT: Final = 64
"""A cache line, and what vector loads and array libraries want."""


class FirstFit:
    """Which parts of `capacity` bytes are in use. Pure; O(number of holes), usually few."""

    __slots__ = ("_ends", "_starts", "_used", "capacity", "used_bytes")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity - capacity % _ALIGNMENT
        self.used_bytes = 0
        """In use, rounded up to whole cache lines."""
        self._starts = [0] if self.capacity else []
        self._ends = [self.capacity] if self.capacity else []
        self._used: dict[int, int] = {}

    def allocate(self, size: int) -> int | None:
        """The offset of `size` bytes (at least 1), a multiple of 64; None when no hole is that large."""
        size = _round_up(size)
        for index, start in enumerate(self._starts):
            left = self._ends[index] - start - size
            if left < 0:
                continue
            if left:
                self._starts[index] = start + size
            else:
                del self._starts[index], self._ends[index]
            self._used[start] = size
            self.used_bytes += size
            return start
        return None

    def free(self, offset: int) -> None:
        """Give back what `allocate` returned.

        Raises:
            WireError: nothing that is in use begins there.
        """
        size = self._used.pop(offset, None)
        if size is None:
            raise WireError(f"a place in a slab was freed twice, or never was one: got offset {offset}")
        self.used_bytes -= size
        starts, ends = self._starts, self._ends
        index = bisect_left(starts, offset)
        joins_next = index < len(starts) and starts[index] == offset + size
        if index and ends[index - 1] == offset:
            if joins_next:
                ends[index - 1] = ends[index]
                del starts[index], ends[index]
            else:
                ends[index - 1] = offset + size
        elif joins_next:
            starts[index] = offset
        else:
            starts.insert(index, offset)
            ends.insert(index, offset + size)

    @property
    def places(self) -> int:
        """How many are in use."""
        return len(self._used)

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """Start and end of every hole, in order."""
        return tuple(zip(self._starts, self._ends, strict=True))


class Slab:
    """The memory that this process writes and others map. Not thread-safe: one owner.

    Raises:
        WireError: when the system has no place for `capacity` bytes.
    """

    def __init__(self, capacity: int = SLAB_BYTES) -> None:
        self.capacity = capacity
        self._places = FirstFit(capacity)
        try:
            self._fd = _open_memory(capacity)
            self._map = mmap.mmap(self._fd, capacity)
        except OSError as error:
            raise WireError(f"shared memory of {capacity} bytes cannot be had: {error}") from error
        self._view = memoryview(self._map)

    def fileno(self) -> int:
        """The descriptor to share."""
        return self._fd

    @property
    def used_bytes(self) -> int:
        """In use, rounded up to whole cache lines."""
        return self._places.used_bytes

    @property
    def places(self) -> int:
        """How many places are in use."""
        return self._places.places

    def write(self, data: bytes | bytearray | memoryview) -> Place | None:
        """Copy `data` (at least one byte) in; None when there is no room."""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        offset = self._places.allocate(size)
        if offset is None:
            return None
        self._view[offset : offset + size] = data
        return Place(offset, size)

    def free(self, offset: int) -> None:
        """Let the place that begins there be written again.

        Raises:
            WireError: no place in use begins there.
        """
        self._places.free(offset)

    def close(self) -> None:
        """Let go; views of other processes stay readable. Idempotent."""
        if self._fd >= 0:
            self._view.release()
            self._map.close()
            os.close(self._fd)
            self._fd = -1


class SlabView:
    """Another process's slab, read-only. It takes over `fd` and closes it at once; the mapping stays.

    The memory is let go when the view and all that was read from it are gone; there is nothing to close.

    Raises:
        WireError: when `fd` does not hold `capacity` bytes.
    """

    def __init__(self, fd: int, capacity: int) -> None:
        self.capacity = capacity
        try:
            if os.fstat(fd).st_size < capacity:
                raise WireError(
                    f"a slab is smaller than announced: expected {capacity} bytes, got {os.fstat(fd).st_size}"
                )
            self._view = memoryview(mmap.mmap(fd, capacity, prot=mmap.PROT_READ))
        except (OSError, ValueError) as error:
            raise WireError(f"a slab of {capacity} bytes cannot be mapped: {error}") from error
        finally:
            os.close(fd)

    def read(self, place: Place) -> memoryview:
        """The bytes at `place`, not copied: valid until its writer is told that it is free.

        Raises:
            WireError: when the place is not inside the slab.
        """
        end = place.offset + place.size
        if place.offset < 0 or place.size < 0 or end > self.capacity:
            raise WireError(
                f"a place lies outside its slab: expected within {self.capacity} bytes, got {place.offset} to {end}"
            )
        return self._view[place.offset : end]


def _round_up(size: int) -> int:
    return -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT


def _open_memory(capacity: int) -> int:
    """A descriptor of `capacity` zero bytes that no path leads to and no child inherits."""
    if not hasattr(os, "memfd_create"):
        return _open_unlinked(capacity)
    fd = os.memfd_create("slipway-slab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, capacity)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def _open_unlinked(capacity: int) -> int:
    with tempfile.TemporaryFile(prefix="slipway-slab-") as file:  # unlinked at once, closed on exec
        os.ftruncate(file.fileno(), capacity)
        return os.dup(file.fileno())  # not inheritable either
