"""Garbage collection: only garbage, and never beside a build."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_fakes import blob_files, in_child, names, put_bundle, require_tidy, require_whole

from slipway_bundle.errors import IntegrityError
from slipway_bundle.extract import materialise
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.store_errors import StoreBusyError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", lock_timeout_s=0.05)


def layer_of(store: Store, bundle: Descriptor) -> Descriptor:
    return next(each for each in store.walk(bundle) if each.media_type.endswith(".tar"))


def test_a_deleted_bundle_goes_and_what_others_share_stays(store: Store) -> None:
    put_bundle(store, "x", "churn:1")
    kept = put_bundle(store, "y", "churn:2")
    shared = store.put_bytes(b"shared by nobody")
    gone = store.delete("churn:1")

    report = store.gc()

    assert names(store) == {"churn:2": kept.digest}
    assert {gone.digest, shared.digest} <= set(report.removed)
    assert (len(report.removed), report.kept) == (5, 4)
    require_whole(store)
    require_tidy(store)


def test_freed_bytes_are_what_the_disk_gets_back(store: Store) -> None:
    put_bundle(store, "x", "churn:1")
    store.put_bytes(bytes(1000))
    (store.layout.ingest / "half.tmp").write_bytes(bytes(234))

    report = store.gc()

    assert report.freed_bytes == 1234
    assert report.leftovers == 1


def test_a_dry_run_reports_the_same_and_deletes_nothing(store: Store) -> None:
    bundle = put_bundle(store, "x", "churn:1")
    materialise(store, layer_of(store, bundle))
    store.delete("churn:1")
    (store.layout.ingest / "half.tmp").write_bytes(b"")
    (store.layout.pins / bundle.digest[7:]).write_bytes(b"of a process that was killed")
    before = {path: path.lstat() for path in store.root.rglob("*")}

    forecast = store.gc(dry_run=True)

    assert {path: path.lstat() for path in store.root.rglob("*")} == before
    report = store.gc()
    assert (forecast.removed, forecast.trees, forecast.leftovers, forecast.freed_bytes) == (
        report.removed,
        report.trees,
        report.leftovers,
        report.freed_bytes,
    )
    assert (forecast.dry_run, report.dry_run) == (True, False)
    assert (report.trees, report.leftovers) == (1, 1)
    require_tidy(store)


def test_a_tree_goes_with_its_layer_and_stays_with_it(store: Store) -> None:
    gone = materialise(store, layer_of(store, put_bundle(store, "x", "churn:1")))
    kept = materialise(store, layer_of(store, put_bundle(store, "y", "churn:2")))
    store.delete("churn:1")

    store.gc()

    assert not gone.exists()
    assert (kept / "code/app.py").read_bytes() == b"y"


def test_a_store_without_garbage_is_left_as_it_is(store: Store) -> None:
    put_bundle(store, "x", "churn:1")

    report = store.gc()

    assert (report.removed, report.leftovers, report.trees, report.freed_bytes) == ((), 0, 0, 0)


def test_a_store_that_does_not_exist_has_no_garbage(store: Store) -> None:
    assert store.gc().removed == ()
    assert not store.root.exists()


def test_what_is_written_and_not_yet_published_is_never_collected(store: Store) -> None:
    """The collector runs in another process, in the middle of a build."""

    def collect() -> None:
        with pytest.raises(StoreBusyError, match=r"waited 0\.05 s for the exclusive lock"):
            store.gc()

    with store.lease():
        index = put_bundle(store, "x")
        assert in_child(collect) == 0
        store.publish("churn:1", index)

    require_whole(store)
    assert store.gc().removed == ()


def test_a_build_waits_for_the_collector_and_says_what_it_waited_for(store: Store) -> None:
    def rival() -> None:
        for write in (lambda: store.put_bytes(b"x"), lambda: store.delete("churn:1")):
            with pytest.raises(StoreBusyError, match=r"waited 0\.05 s for the shared lock") as caught:
                write()
            assert caught.value.exit_status == 3

    from slipway_bundle.locks import locked

    put_bundle(store, "x", "churn:1")
    with locked(store.layout.lease_lock, shared=False, timeout_s=0):
        assert in_child(rival) == 0


def test_a_build_that_was_killed_leaves_no_lock(store: Store) -> None:
    def die() -> None:
        with store.lease():
            store.put_bytes(b"orphan")
            os.kill(os.getpid(), 9)

    assert in_child(die) == -9

    assert len(store.gc().removed) == 1


def test_a_pinned_bundle_outlives_its_reference(store: Store) -> None:
    bundle = put_bundle(store, "x", "churn:1")
    tree = materialise(store, layer_of(store, bundle))

    with store.pin(bundle):
        store.delete("churn:1")
        assert in_child(store.gc) == 0
        assert store.gc().removed == ()
        for each in store.walk(bundle):
            store.verify_blob(each.digest, size=each.size)
        assert tree.is_dir()

    assert len(store.gc().removed) == 4
    assert blob_files(store) == set()
    require_tidy(store)


def test_the_pin_of_a_killed_server_holds_nothing(store: Store) -> None:
    bundle = put_bundle(store, "x", "churn:1")

    def serve() -> None:
        with store.pin(bundle):
            os.kill(os.getpid(), 9)

    assert in_child(serve) == -9
    store.delete("churn:1")

    assert len(store.gc().removed) == 4
    require_tidy(store)


def unlink(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"{}")


@pytest.mark.parametrize("harm", [unlink, spoil])
def test_nothing_is_deleted_when_a_document_is_damaged(store: Store, harm: Callable[[Path], None]) -> None:
    """What a damaged index refers to is unknown, so everything might be needed."""
    harm(store.blob(put_bundle(store, "x", "churn:1").digest))
    orphan = store.put_bytes(b"orphan")

    with pytest.raises(IntegrityError, match="sha256:"):
        store.gc()

    assert store.read(orphan.digest) == b"orphan"
    store.delete("churn:1")
    assert len(store.gc().removed) >= 4


def test_files_of_other_programs_among_the_blobs_are_left_alone(store: Store) -> None:
    put_bundle(store, "x", "churn:1")
    (store.layout.blobs / "README").write_bytes(b"")

    store.gc()

    assert (store.layout.blobs / "README").exists()
