"""Files into layers: what a layer is made of, and which files share one.

It decides and describes; `packing.py` reads and writes. The invariant: the plan depends on names and sizes only, so
two machines cut the same files into the same layers, and changing one big file never changes another file's layer.
Source: the thresholds are Cog's: one file per layer from 64 MiB on, bundles up to 256 MiB.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.errors import FileError
from slipway_bundle.oci import Descriptor
from slipway_bundle.tar import FILE_MODE, Member

OWN_LAYER_BYTES = 64 << 20
"""A file of this size or more is a layer by itself."""

BUNDLED_BYTES = 256 << 20
"""Smaller files share a layer up to this many bytes of data."""


class LayerFile(Struct, frozen=True):
    """A file that is to be packed."""

    path: str
    """Name inside the layer: relative, POSIX."""

    source: Path | bytes
    """Where the content is: a regular file, or the bytes themselves."""

    mode: int = FILE_MODE
    """0o644 or 0o755 (`tar.normal_mode`)."""


class LayerEntry(Struct, frozen=True, kw_only=True):
    """A file inside a layer. `offset` is where its data starts in the (uncompressed) blob, in bytes."""

    path: str
    offset: int
    size: int
    sha256: Digest
    mode: int


class Layer(Struct, frozen=True, kw_only=True):
    """A stored layer and its files, sorted by name; folders are not listed."""

    descriptor: Descriptor
    entries: tuple[LayerEntry, ...]


class StatKey(Struct, frozen=True, order=True):
    """What tells a file from a later version of itself without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "StatKey":
        """The key in `status`."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def status_of(source: Path) -> os.stat_result:
    """The status of a source file, links followed.

    Raises:
        FileError: There is no such file, it may not be looked at, or it is not a regular file.
    """
    try:
        status = source.stat()
    except OSError as error:
        raise unreadable(source, error.strerror or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise unreadable(source, "it is not a regular file")
    return status


def unreadable(source: Path, why: str) -> FileError:
    """The error for a source that cannot be packed."""
    return FileError(
        f"cannot read {str(source)!r}: {why}",
        hint="check the path and its permissions, then build again",
        path=str(source),
    )


def source_bytes(file: LayerFile) -> int:
    """The size of a file's content, in bytes.

    Raises:
        FileError: The source cannot be looked at.
    """
    return len(file.source) if isinstance(file.source, bytes) else status_of(file.source).st_size


def plan_layers(files: Sequence[LayerFile]) -> tuple[tuple[LayerFile, ...], ...]:
    """Cut `files` into layers: big ones alone, small ones together in the order of their names.

    Raises:
        FileError: A source cannot be looked at.
    """
    alone: list[tuple[LayerFile, ...]] = []
    shared: list[list[LayerFile]] = []
    room = 0
    for file in sorted(files, key=lambda file: file.path.encode("utf-8", "surrogateescape")):
        size = source_bytes(file)
        if size >= OWN_LAYER_BYTES:
            alone.append((file,))
            continue
        if not shared or size > room:
            shared.append([])
            room = BUNDLED_BYTES
        shared[-1].append(file)
        room -= size
    return (*(tuple(group) for group in shared), *alone)


def packed_bytes(files: Sequence[LayerFile]) -> int:
    """How many bytes of content `files` have: the total that their progress counts up to.

    Raises:
        FileError: A source cannot be looked at.
    """
    return sum(source_bytes(file) for file in files)


def layout_members(files: Sequence[LayerFile], sizes: Sequence[int]) -> tuple[Member, ...]:
    """`files` as the layout wants them."""
    return tuple(Member(path=file.path, size=size, mode=file.mode) for file, size in zip(files, sizes, strict=True))
