"""Unpacking: layers into a new folder, all or nothing.

The strictness is in `tarreader.py`; this module only writes what came through it. The invariants: a folder that
exists under its final name is complete, synced and verified against the digests; nothing is ever written through a
name that was not made here (each step goes by folder descriptor, without following links).
Source: `docs/bundle-v1.md` (limits); openat(2).
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from slipway_bundle.digest import Digest, hex_of
from slipway_bundle.disk import disk_errors, require_space, sync_folder, write_all
from slipway_bundle.errors import UsageError
from slipway_bundle.gc import DOOMED_PREFIX, remove_tree
from slipway_bundle.layers import Layer, LayerEntry
from slipway_bundle.oci import Descriptor
from slipway_bundle.paths import NameSet, parents_of
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.store import Store
from slipway_bundle.store_errors import LayerUnsafeError
from slipway_bundle.tar import PROGRAM_MODE
from slipway_bundle.tarreader import LayerReader, TarMember

_READ_ONLY = 0o555
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def scan_layer(store: Store, layer: Descriptor, *, progress: Progress = QUIET) -> Layer:
    """Read a layer to its end: verify its digest and its safety, and hash every file in it.

    Raises:
        BlobMissingError, BlobCorruptError, LayerUnsafeError, LayerUnsupportedError: What is wrong with it.
        HostError: It cannot be read.
    """
    entries = []
    with disk_errors(store.root, f"reading layer {layer.digest}"), store.blob(layer.digest).open("rb") as file:
        reader = LayerReader(file, layer, progress=progress)
        for member in reader.members():
            running = hashlib.sha256()
            for chunk in reader.data():
                running.update(chunk)
            if not member.is_directory:
                entries.append(
                    LayerEntry(
                        path=member.path,
                        offset=member.offset,
                        size=member.size,
                        sha256=Digest("sha256:" + running.hexdigest()),
                        mode=member.mode,
                    )
                )
    return Layer(descriptor=layer, entries=tuple(entries))


def unpack(store: Store, layers: Sequence[Descriptor], destination: Path, *, progress: Progress = QUIET) -> None:
    """Unpack `layers` into the new folder `destination`; files can be written there afterwards.

    Args:
        store: Where the layers are.
        layers: Which; no two may have the same file.
        destination: Must not exist, or be an empty folder; its parent must exist.
        progress: Told the bytes that are read.

    Raises:
        UsageError: `destination` is taken.
        BlobMissingError, BlobCorruptError, LayerUnsafeError, LayerUnsupportedError: Nothing was left behind.
        HostError: Disk full, not allowed.
    """
    if not _is_free(destination):
        raise UsageError(
            f"cannot unpack into {str(destination)!r}: it exists, expected a new or an empty folder",
            hint="name another folder",
        )
    with disk_errors(destination.parent, "unpacking a bundle"):
        temporary = destination.parent / f".{destination.name}.{secrets.token_hex(8)}.tmp"
        _fill(store, layers, temporary, destination, progress=progress, read_only=False)


def _is_free(destination: Path) -> bool:
    if destination.is_symlink():
        return False
    return not destination.exists() or (destination.is_dir() and not any(destination.iterdir()))


def materialise(store: Store, layer: Descriptor, *, progress: Progress = QUIET) -> Path:
    """The folder with a layer's files, read-only; made on first use and shared by everyone afterwards.

    The folder belongs to the store: hold a `Store.pin` while using it. Python writes byte code beside sources as
    root in spite of the mode; give it another place (`sys.pycache_prefix`).

    Raises:
        BlobMissingError, BlobCorruptError, LayerUnsafeError, LayerUnsupportedError: Nothing was left behind.
        HostError: Disk full, not allowed, busy.
    """
    tree = store.layout.trees / hex_of(layer.digest)
    if tree.is_dir():
        return tree
    with store.lease(), disk_errors(store.root, "unpacking a layer"):
        # In the same folder: a folder that is read-only itself can be renamed, but not moved elsewhere.
        temporary = store.layout.trees / f"{DOOMED_PREFIX}{secrets.token_hex(8)}.tmp"
        _fill(store, (layer,), temporary, tree, progress=progress, read_only=True)
    return tree


def _fill(
    store: Store, layers: Sequence[Descriptor], temporary: Path, target: Path, *, progress: Progress, read_only: bool
) -> None:
    require_space(temporary.parent, sum(layer.size for layer in layers))
    temporary.mkdir(mode=0o700)
    try:
        names = NameSet()
        folder = os.open(temporary, _FOLDER)
        try:
            for layer in layers:
                _write_layer(store, layer, folder, names, progress=progress, read_only=read_only)
        finally:
            os.close(folder)
        _finish_folders(temporary, mode=_READ_ONLY if read_only else PROGRAM_MODE)
        try:
            temporary.rename(target)
        except OSError:
            if not (read_only and target.is_dir()):
                raise
            # Another process was faster, with the same content.
            remove_tree(temporary)
    except BaseException:
        if temporary.exists():
            remove_tree(temporary)
        raise
    sync_folder(target.parent)


def _write_layer(
    store: Store, layer: Descriptor, folder: int, names: NameSet, *, progress: Progress, read_only: bool
) -> None:
    with store.blob(layer.digest).open("rb") as file:
        reader = LayerReader(file, layer, progress=progress)
        for member in reader.members():
            _claim(member, names, layer)
            if member.is_directory:
                os.close(_open_folder(folder, (*parents_of(member.path), member.path)))
            else:
                _write_file(folder, member, reader.data(), read_only=read_only)


def _claim(member: TarMember, names: NameSet, layer: Descriptor) -> None:
    """Add a member to the names of the whole tree; within its own layer the reader has checked it."""
    path = member.path
    if defect := names.add_directory(path, may_repeat=True) if member.is_directory else names.add_file(path):
        raise LayerUnsafeError(
            f"layer {layer.digest} cannot be unpacked with the others: {member.path!r}: {defect}",
            hint="the layers are what their author made; do not use this bundle",
            layer=layer.digest,
            member=member.path,
        )


def _write_file(folder: int, member: TarMember, data: Iterable[bytes], *, read_only: bool) -> None:
    parent = _open_folder(folder, parents_of(member.path))
    try:
        name = member.path.rpartition("/")[2]
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            for chunk in data:
                write_all(file, chunk)
            os.fchmod(file, member.mode & _READ_ONLY if read_only else member.mode)
            os.fsync(file)
        finally:
            os.close(file)
    finally:
        os.close(parent)


def _open_folder(root: int, paths: Sequence[str]) -> int:
    """Go down from `root`, making what is not there. `paths` are the prefixes of the last one, outermost first."""
    folder = os.dup(root)
    try:
        for path in paths:
            name = path.rpartition("/")[2]
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
    except BaseException:
        os.close(folder)
        raise
    return folder


def _finish_folders(tree: Path, *, mode: int) -> None:
    """Give every folder its mode, whatever the umask is, and make its names durable; innermost first."""
    for _, _, _, folder in os.fwalk(tree, topdown=False):
        os.fchmod(folder, mode)
        os.fsync(folder)
