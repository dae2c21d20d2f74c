"""A disk that is full while bundles travel: words with a code, no name in the store, and the next run goes on."""

import os
from pathlib import Path

import pytest
from registry_fakes import fetch, send
from registry_process import FaultProxy
from store_fakes import Hog, names, require_whole

from slipway_bundle import build
from slipway_bundle.digest import digest_bytes, hex_of
from slipway_bundle.ingest import PART_SUFFIX, require_space_for
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.store_errors import NoSpaceError

DISK_BYTES = 6 << 20


def pushed(proxy: FaultProxy, folder: Path, size_bytes: int) -> str:
    """A bundle in the registry with one layer of about that size; its reference."""
    (folder / "src" / "tiny_service" / "table.bin").write_bytes(os.urandom(size_bytes))
    store = Store.open(folder.parent / "from")
    ref = build(folder, store, environ={}).ref
    return send(store, ref, f"{proxy.host}/{folder.parent.name}:1", folder.parent, chunk_bytes=1 << 20).ref


def largest_in(store: Store) -> int:
    """Bytes of the largest file below it."""
    return max(path.stat().st_size for path in store.root.rglob("*") if path.is_file())


class LateHog(Hog):
    """Fills the disk when a megabyte is there."""

    come_bytes = 0

    def advance(self, count_bytes: int, /) -> None:
        self.come_bytes += count_bytes
        if self.come_bytes > 1 << 20:
            super().advance(count_bytes)


def test_what_cannot_fit_is_not_asked_for(proxy: FaultProxy, small_disk: Path, folder: Path, tmp_path: Path) -> None:
    ref = pushed(proxy, folder, DISK_BYTES)
    store = Store.open(small_disk / "store")

    with pytest.raises(NoSpaceError, match=r"got \d+ bytes free, expected at least \d+"):
        fetch(ref, store, tmp_path)

    assert largest_in(store) < 100_000
    assert names(store) == {}


def test_space_is_needed_for_all_blobs_together_without_what_is_here(small_disk: Path) -> None:
    store = Store.open(small_disk / "store")
    store.put_bytes(b"documents come first")
    first, second = (
        Descriptor(media_type="application/octet-stream", digest=digest_bytes(text), size=DISK_BYTES // 2)
        for text in (b"1", b"2")
    )

    require_space_for(store, [first])
    with pytest.raises(NoSpaceError):
        require_space_for(store, [first, second])
    part = store.layout.ingest / f"{hex_of(first.digest)}{PART_SUFFIX}"
    part.touch()
    os.truncate(part, first.size)  # as an earlier transfer leaves it, but without the bytes
    require_space_for(store, [first, second])


def test_a_disk_that_fills_up_meanwhile_loses_nothing(
    proxy: FaultProxy, small_disk: Path, folder: Path, tmp_path: Path
) -> None:
    ref = pushed(proxy, folder, DISK_BYTES // 2)
    store = Store.open(small_disk / "store")

    with pytest.raises(NoSpaceError, match="no space left in") as caught:
        fetch(ref, store, tmp_path, progress=LateHog(small_disk))

    assert (caught.value.code, caught.value.exit_status) == ("no_space", 3)
    assert "slipway bundle gc" in str(caught.value.hint)
    assert names(store) == {}
    (small_disk / "hog").unlink()
    fetch(ref, store, tmp_path)
    require_whole(store)
    assert names(store) == names(Store.open(tmp_path / "from"))


def test_a_full_disk_can_still_push(proxy: FaultProxy, small_disk: Path, folder: Path, tmp_path: Path) -> None:
    store = Store.open(small_disk / "store")
    built = build(folder, store, environ={})
    Hog(small_disk).advance(0)

    sent = send(store, built.ref, f"{proxy.host}/space/full:1", tmp_path)

    assert sent.digest == built.digest
    came = Store.open(tmp_path / "to")
    fetch(sent.ref, came, tmp_path)
    require_whole(came)
