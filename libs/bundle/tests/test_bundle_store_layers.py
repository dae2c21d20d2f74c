"""Layers into the store: read once, cached by status, refused when the source moves."""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_fakes import Recorder, in_child

from slipway_bundle.digest import digest_bytes
from slipway_bundle.errors import FileError
from slipway_bundle.layers import (
    BUNDLED_BYTES,
    OWN_LAYER_BYTES,
    LayerFile,
    StatKey,
    packed_bytes,
    plan_layers,
)
from slipway_bundle.statcache import Known, StatCache
from slipway_bundle.store import Store
from slipway_bundle.store_errors import MemberNameError, SourceChangedError
from slipway_bundle.tar import ALIGN_BYTES, ALIGN_FROM_BYTES

LATER_NS = 3_600_000_000_000


def later() -> int:
    """A clock by which every file of the test is old."""
    return time.time_ns() + LATER_NS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", clock_ns=later)


def weights(folder: Path, size: int = 3_000_000) -> Path:
    path = folder / "model.ubj"
    path.write_bytes(os.urandom(size))
    return path


def opened_while(work: Callable[[], object]) -> list[str]:
    """For children: call `work` and list every file that Python opened meanwhile."""
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    work()
    return opened


def test_every_entry_points_at_its_bytes(store: Store, tmp_path: Path) -> None:
    model = weights(tmp_path)
    files = [LayerFile("models/m/model.ubj", model), LayerFile("code/run.sh", b"#!/bin/sh\n", 0o755)]

    layer = store.put_layer(files)

    blob = store.blob(layer.descriptor.digest).read_bytes()
    expected = {"models/m/model.ubj": model.read_bytes(), "code/run.sh": b"#!/bin/sh\n"}
    assert {each.path: blob[each.offset : each.offset + each.size] for each in layer.entries} == expected
    assert {each.path: each.sha256 for each in layer.entries} == {
        name: digest_bytes(data) for name, data in expected.items()
    }
    assert digest_bytes(blob) == layer.descriptor.digest
    assert len(blob) == layer.descriptor.size
    assert [each.mode for each in layer.entries] == [0o755, 0o644]


@pytest.mark.parametrize(
    "size", [0, 1, 511, 512, 513, 65_535, 65_536, ALIGN_FROM_BYTES - 1, ALIGN_FROM_BYTES, 9_437_185]
)
def test_sizes_around_every_threshold_are_packed_whole(store: Store, tmp_path: Path, size: int) -> None:
    model = weights(tmp_path, size)

    layer = store.put_layer([LayerFile("a", b"x"), LayerFile("m", model)])

    entry = layer.entries[1]
    blob = store.blob(layer.descriptor.digest).read_bytes()
    assert blob[entry.offset : entry.offset + size] == model.read_bytes()
    assert entry.sha256 == "sha256:" + hashlib.sha256(model.read_bytes()).hexdigest()
    assert (entry.offset % ALIGN_BYTES == 0) or size < ALIGN_FROM_BYTES


def test_a_slow_hash_never_sees_the_next_chunk(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one buffer the reader is always faster than the hashes, so it must wait for them."""
    monkeypatch.setattr("slipway_bundle.packing.BUFFERS", 1)
    model = weights(tmp_path, 9_437_185)

    layer = store.put_layer([LayerFile("m", model)])

    assert layer.entries[0].sha256 == digest_bytes(model.read_bytes())
    store.verify_blob(layer.descriptor.digest, size=layer.descriptor.size)


def test_a_rebuild_with_an_unchanged_model_opens_no_weights(store: Store, tmp_path: Path) -> None:
    """An audit hook in a child sees every file that is opened; `mmap` and `copy_file_range` need an open file too."""
    model = weights(tmp_path)
    files = [LayerFile("models/m/model.ubj", model)]
    first = store.put_layer(files)

    def rebuild() -> None:
        opened = opened_while(lambda: store.put_layer(files))
        assert opened, "the hook saw nothing at all"
        assert str(model) not in opened
        assert not [name for name in opened if "blobs/sha256" in name]

    assert in_child(rebuild) == 0
    assert store.put_layer(files) == first


def test_a_model_that_was_touched_is_read_again(store: Store, tmp_path: Path) -> None:
    model = weights(tmp_path)
    files = [LayerFile("models/m/model.ubj", model)]
    store.put_layer(files)
    os.utime(model, ns=(1, 1))

    def rebuild() -> None:
        assert str(model) in opened_while(lambda: store.put_layer(files))

    assert in_child(rebuild) == 0


def test_a_write_of_the_same_length_in_the_same_tick_is_never_missed(tmp_path: Path) -> None:
    """With the true clock: the file is younger than the guard, so it is not remembered."""
    store = Store.open(tmp_path / "store")
    model = tmp_path / "m"

    for content in (b"1111", b"2222", b"3333", b"1111"):
        model.write_bytes(content)
        os.utime(model, ns=(0, 0))
        layer = store.put_layer([LayerFile("m", model)])
        assert layer.entries[0].sha256 == digest_bytes(content)


@pytest.mark.parametrize(("ctime_ns", "guard_ns"), [(5_000_000_000, 2_000_000_000), (5_000_123_456, 20_000_000)])
def test_the_guard_is_as_wide_as_the_file_systems_clock_is_coarse(ctime_ns: int, guard_ns: int) -> None:
    key = StatKey(1, 2, 3, 0, ctime_ns)
    known = StatCache(Path("/nowhere/cache.json"), through=Path("/nowhere")).load()

    known.remember_file(key, digest_bytes(b""), read_ns=ctime_ns + guard_ns)
    assert known.digest(key) is None

    known.remember_file(key, digest_bytes(b""), read_ns=ctime_ns + guard_ns + 1)
    assert known.digest(key) == digest_bytes(b"")


def test_a_cache_that_is_torn_costs_a_reading_and_nothing_else(store: Store, tmp_path: Path) -> None:
    files = [LayerFile("m", weights(tmp_path))]
    first = store.put_layer(files)

    for rubbish in (b"", b"{", b'{"version":99}', b'{"version":1,"files":3}', b"\xff"):
        (store.layout.extras / "cache.json").write_bytes(rubbish)
        assert store.put_layer(files) == first


def test_a_cached_layer_whose_blob_is_gone_or_replaced_is_packed_again(store: Store, tmp_path: Path) -> None:
    files = [LayerFile("m", weights(tmp_path))]
    blob = store.blob(store.put_layer(files).descriptor.digest)
    good = blob.read_bytes()

    for spoiled in (None, good[:-1] + b"\1"):
        blob.unlink()
        if spoiled is not None:
            blob.write_bytes(spoiled)
        store.put_layer(files)
        assert blob.read_bytes() == good


def test_the_cache_keeps_the_newest_entries_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("slipway_bundle.statcache.MAX_ENTRIES", 3)
    cache = StatCache(tmp_path / "cache.json", through=tmp_path)
    known = cache.load()
    keys = [StatKey(1, number, 3, 0, 0) for number in range(5)]

    for key in (*keys, keys[2]):
        known.remember_file(key, digest_bytes(b""), read_ns=LATER_NS)
    cache.save(known)

    kept: Known = cache.load()
    assert [key.inode for key in keys if kept.digest(key)] == [2, 3, 4]


class Meddler:
    """A progress listener that changes the source while it is being packed."""

    def __init__(self, path: Path, change: str) -> None:
        self.path = path
        self.change = change
        self.done = False

    def advance(self, count_bytes: int, /) -> None:
        if self.done:
            return
        self.done = True
        if self.change == "grow":
            with self.path.open("ab") as file:
                file.write(b"more")
        elif self.change == "shrink":
            os.truncate(self.path, 2_000_000)
        elif self.change == "rewrite":
            with self.path.open("r+b") as file:
                file.write(b"other")


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_source_that_changes_while_it_is_packed_is_refused(store: Store, tmp_path: Path, change: str) -> None:
    model = weights(tmp_path)

    with pytest.raises(SourceChangedError, match=r"model\.ubj.* changed while it was packed") as caught:
        store.put_layer([LayerFile("m", model)], progress=Meddler(model, change))

    assert caught.value.code == "source_changed"
    assert list(store.layout.ingest.iterdir()) == []
    assert list(store.layout.blobs.iterdir()) == []


def test_a_source_that_is_not_a_readable_file_is_named(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(FileError) as caught:
            store.put_layer([LayerFile("m", path)])
        assert repr(str(path)) in caught.value.message
        assert caught.value.code == "file_unreadable"


def test_a_name_that_cannot_be_packed_is_refused_before_anything_is_read(store: Store, tmp_path: Path) -> None:
    model = weights(tmp_path)

    for name in ("../m", "/m", "a//b", "a/./b", "", "a\nb", "a\\b", "caf\udce9", ".wh.a", "x" * 256):
        with pytest.raises(MemberNameError) as caught:
            store.put_layer([LayerFile(name, model)])
        assert caught.value.code == "member_name"
    assert not store.root.exists()


def test_two_names_that_some_file_systems_merge_are_refused(store: Store) -> None:
    for one, two in (("A", "a"), ("d/x", "D/y"), ("é", "e\u0301"), ("ß", "SS"), ("a", "a"), ("a", "a/b")):
        with pytest.raises(MemberNameError):
            store.put_layer([LayerFile(one, b""), LayerFile(two, b"")])


def test_progress_counts_the_content_once_read_or_not(store: Store, tmp_path: Path) -> None:
    files = [LayerFile("m", weights(tmp_path)), LayerFile("c", b"1234")]

    for _ in ("packed", "cached"):
        progress = Recorder()
        store.put_layer(files, progress=progress)
        assert progress.bytes == packed_bytes(files) == 3_000_004


def sparse(folder: Path, name: str, size: int) -> LayerFile:
    path = folder / name
    with path.open("wb") as file:
        file.truncate(size)
    return LayerFile(f"models/{name}", path)


def test_big_files_get_their_own_layer_and_small_ones_share(tmp_path: Path) -> None:
    big = sparse(tmp_path, "b-big", OWN_LAYER_BYTES)
    small = [sparse(tmp_path, f"{index}-small", OWN_LAYER_BYTES - 1) for index in range(5)]

    plan = plan_layers([big, *reversed(small)])

    assert plan == (tuple(small[:4]), (small[4],), (big,))
    assert 4 * (OWN_LAYER_BYTES - 1) <= BUNDLED_BYTES
    assert plan == plan_layers([*small, big])
    assert plan_layers([]) == ()
