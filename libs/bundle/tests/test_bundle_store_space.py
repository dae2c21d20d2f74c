"""A full disk, a limit, a read-only disk, a foreign folder: words with a code, nothing published, nothing left."""

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_fakes import Hog, in_child, names, put_bundle, require_tidy, require_whole

from slipway_bundle.extract import materialise, unpack
from slipway_bundle.layers import LayerFile
from slipway_bundle.store import Store
from slipway_bundle.store_errors import NoSpaceError, StorePermissionError

NOBODY = 65534

is_root = os.geteuid() == 0


def test_what_cannot_fit_is_refused_before_the_first_byte(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store.open(small_disk / "store")
    put_bundle(store, "x", "churn:1")
    model = tmp_path_factory.mktemp("model") / "m"
    model.write_bytes(bytes(8_000_000))

    with pytest.raises(NoSpaceError, match=r"got \d+ bytes free, expected at least 9\d+") as caught:
        store.put_layer([LayerFile("m", model)])

    assert caught.value.code == "no_space"
    assert caught.value.exit_status == 3
    assert "slipway bundle gc" in str(caught.value.hint)
    require_tidy(store)


def test_a_disk_that_fills_up_meanwhile_leaves_the_store_as_it_was(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store.open(small_disk / "store")
    before = put_bundle(store, "x", "churn:1")
    model = tmp_path_factory.mktemp("model") / "m"
    model.write_bytes(bytes(4_000_000))

    with pytest.raises(NoSpaceError, match="while storing a layer: No space left on device"):
        store.put_layer([LayerFile("m", model)], progress=Hog(small_disk))

    assert names(store) == {"churn:1": before.digest}
    require_whole(store)
    require_tidy(store)
    (small_disk / "hog").unlink()
    put_bundle(store, "y", "churn:2")


def test_a_full_disk_can_still_be_read_and_collected(small_disk: Path) -> None:
    store = Store.open(small_disk / "store")
    bundle = put_bundle(store, "x", "churn:1")
    store.put_bytes(bytes(2_000_000))
    Hog(small_disk).advance(0)

    with pytest.raises(NoSpaceError):
        put_bundle(store, "y", "churn:2")

    with store.pin(bundle):
        require_whole(store)
    assert store.gc().freed_bytes >= 2_000_000
    put_bundle(store, "y", "churn:2")


def test_a_full_disk_stops_unpacking_and_leaves_nothing(
    small_disk: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store.open(tmp_path_factory.mktemp("other") / "store")
    layer = store.put_layer([LayerFile("m", bytes(4_000_000))])

    with pytest.raises(NoSpaceError):
        unpack(store, [layer.descriptor], small_disk / "out", progress=Hog(small_disk))

    assert [each.name for each in small_disk.iterdir()] == ["hog"]


def test_a_file_size_limit_is_reported_as_no_space(tmp_path: Path) -> None:
    """The twin for machines where nothing can be mounted."""
    store = Store.open(tmp_path / "store")
    before = put_bundle(store, "x", "churn:1")

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(NoSpaceError, match="File too large"):
            store.put_layer([LayerFile("m", bytes(200_000))])

    assert in_child(work) == 0
    assert names(store) == {"churn:1": before.digest}
    require_tidy(store)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not is_root, reason="only root can become another user")
def test_a_store_of_somebody_else_can_be_read_and_refuses_writes_in_words(public_folder: Path) -> None:
    put_bundle(Store.open(public_folder / "store"), "x", "churn:1")

    def work() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        store = Store.open(public_folder / "store")
        require_whole(store)
        with store.pin(store.find("churn").descriptor):
            pass
        for write in (
            lambda: store.put_bytes(b"x"),
            lambda: store.delete("churn:1"),
            store.gc,
            lambda: Store.open(public_folder / "new").put_bytes(b"x"),
        ):
            with pytest.raises(StorePermissionError, match=r"not allowed in .* while") as caught:
                write()
            assert caught.value.code == "store_permission"

    assert in_child(work) == 0


def test_a_read_only_disk_serves_what_it_has(small_disk: Path) -> None:
    store = Store.open(small_disk / "store")
    bundle = put_bundle(store, "x", "churn:1")
    layer = next(each for each in store.walk(bundle) if each.media_type.endswith(".tar"))
    tree = materialise(store, layer)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    require_whole(store)
    with store.pin(bundle):
        assert materialise(store, layer) == tree
    with pytest.raises(StorePermissionError, match="Read-only file system"):
        store.put_bytes(b"x")
