"""Garbage collection: what no reference and no pin reaches goes, and what refers to it.

It chooses no versions to drop (that is the caller's, by `Store.delete`). The invariants: it runs only while no lease
is held, so nothing that is being built is looked at; it deletes nothing at all when one document cannot be read,
because what that document refers to is unknown; stopped at any point it has only deleted garbage.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from slipway_bundle.canonical import decode_json
from slipway_bundle.digest import Digest, hex_of
from slipway_bundle.disk import disk_errors
from slipway_bundle.locks import locked, try_lock
from slipway_bundle.oci import Descriptor
from slipway_bundle.referrers import referrers_among

if TYPE_CHECKING:
    from slipway_bundle.store import Store

_HEX = re.compile(r"^[0-9a-f]{64}\Z")

DOOMED_PREFIX = "."
"""Trees that are being made or removed; never a digest, so never found by a reader."""


class GcReport(Struct, frozen=True, kw_only=True):
    """What was deleted, or would be."""

    dry_run: bool
    removed: tuple[Digest, ...]
    """Blobs, sorted."""

    kept: int
    """Number of blobs that stay."""

    trees: int
    """Number of unpacked layers removed."""

    leftovers: int
    """Number of unfinished files and trees of killed processes removed."""

    freed_bytes: int
    """Sum of the sizes of all removed files."""


def collect(store: "Store", *, dry_run: bool, lock_timeout_s: float) -> GcReport:
    """Delete what nothing reaches; blocks up to `lock_timeout_s` while builds hold leases.

    Raises:
        StoreBusyError: A build holds a lease all the time.
        IntegrityError: An index or manifest is missing or damaged; nothing was deleted.
        HostError: Not allowed, or the disk failed.
    """
    layout = store.layout
    if not layout.is_made():
        return GcReport(dry_run=dry_run, removed=(), kept=0, trees=0, leftovers=0, freed_bytes=0)
    with (
        disk_errors(store.root, "collecting garbage"),
        locked(layout.lease_lock, shared=False, timeout_s=lock_timeout_s),
    ):
        entries = store.entries()
        kept, live = _live(store, entries, remove_pins=not dry_run)
        blobs = [path for path in sorted(layout.blobs.iterdir()) if _HEX.match(path.name)]
        dead_blobs = [path for path in blobs if path.name not in live]
        leftovers = [*_folder(layout.ingest), *_folder(layout.trees, DOOMED_PREFIX)]
        dead_trees = [path for path in _folder(layout.trees) if _HEX.match(path.name) and path.name not in live]
        freed_bytes = sum(_size(path) for path in (*dead_blobs, *leftovers, *dead_trees))
        if not dry_run:
            if len(kept) < len(entries):
                # Before the blobs: an entry whose blobs are gone would stop every later collection. Nobody else
                # writes the index now, as writers hold a lease.
                layout.write_index(kept)
            _remove(dead_blobs, leftovers, dead_trees)
    return GcReport(
        dry_run=dry_run,
        removed=tuple(Digest("sha256:" + path.name) for path in dead_blobs),
        kept=len(blobs) - len(dead_blobs),
        trees=len(dead_trees),
        leftovers=len(leftovers),
        freed_bytes=freed_bytes,
    )


def _live(store: "Store", entries: Sequence[Descriptor], *, remove_pins: bool) -> tuple[list[Descriptor], set[str]]:
    """The entries that stay, and the blobs that they and the pins reach."""
    waiting = list(referrers_among(store, entries))
    listed = {entry.digest for entry, _ in waiting}
    live = _reach(store, (entry for entry in entries if entry.digest not in listed))
    live |= _reach(store, _pinned(store.layout.pins, remove=remove_pins))
    # A referrer does not keep its subject; it stays with it. One may refer to another, so again until nothing changes.
    while ready := [(entry, subject) for entry, subject in waiting if hex_of(subject) in live]:
        live |= _reach(store, (entry for entry, _ in ready))
        waiting = [pair for pair in waiting if pair not in ready]
    gone = {entry.digest for entry, _ in waiting}
    return [entry for entry in entries if entry.digest not in gone], live


def _reach(store: "Store", roots: Iterable[Descriptor]) -> set[str]:
    return {hex_of(reached.digest) for root in roots for reached in store.walk(root, check_leaves=False)}


def _pinned(pins: Path, *, remove: bool) -> Iterator[Descriptor]:
    """The bundles in use; pins whose process has ended are removed."""
    for path in _folder(pins):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if try_lock(descriptor):
                if remove:
                    path.unlink()
            else:
                yield decode_json(path.read_bytes(), Descriptor, what=f"pin {str(path)!r}")
        finally:
            os.close(descriptor)


def _folder(folder: Path, prefix: str = "") -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith(prefix))


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())


def _remove(blobs: list[Path], leftovers: list[Path], trees: list[Path]) -> None:
    for path in (*blobs, *leftovers):
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()
    for path in trees:
        # Renamed first: a tree under its digest is whole, always.
        doomed = path.with_name(DOOMED_PREFIX + path.name)
        path.rename(doomed)
        remove_tree(doomed)


def remove_tree(tree: Path) -> None:
    """Delete a tree whose folders may be read-only."""
    for folder, _, _ in os.walk(tree):
        Path(folder).chmod(0o700)
    shutil.rmtree(tree)
