"""Unpacking: complete or not at all, and never outside the folder."""

import os
from pathlib import Path

import pytest
from store_fakes import Recorder, in_child

from slipway_bundle.errors import SlipwayError, UsageError
from slipway_bundle.extract import materialise, scan_layer, unpack
from slipway_bundle.layers import Layer, LayerFile
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobCorruptError, BlobMissingError, LayerUnsafeError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def layer(store: Store) -> Layer:
    return store.put_layer([LayerFile("code/pkg/app.py", b"print(1)\n"), LayerFile("code/run", b"#!/bin/sh\n", 0o755)])


def test_a_tree_is_read_only_whole_and_made_once(store: Store, layer: Layer) -> None:
    tree = materialise(store, layer.descriptor)
    before = tree.stat()

    again = materialise(store, layer.descriptor)

    assert again == tree == store.layout.trees / layer.descriptor.digest[7:]
    assert again.stat() == before
    assert (tree / "code/pkg/app.py").read_bytes() == b"print(1)\n"
    modes = {each.relative_to(tree).as_posix(): each.stat().st_mode & 0o7777 for each in (tree, *tree.rglob("*"))}
    assert modes == {".": 0o555, "code": 0o555, "code/pkg": 0o555, "code/pkg/app.py": 0o444, "code/run": 0o555}


def test_modes_of_an_unpacked_folder_do_not_depend_on_the_umask(store: Store, layer: Layer, tmp_path: Path) -> None:
    def work() -> None:
        os.umask(0o077)
        unpack(store, [layer.descriptor], tmp_path / "out")

    assert in_child(work) == 0

    modes = {each.name: each.stat().st_mode & 0o7777 for each in (tmp_path / "out").rglob("*")}
    assert modes == {"code": 0o755, "pkg": 0o755, "app.py": 0o644, "run": 0o755}
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o755


def test_several_layers_make_one_tree(store: Store, layer: Layer, tmp_path: Path) -> None:
    other = store.put_layer([LayerFile("code/pkg/more.py", b""), LayerFile("models/m", b"m")])
    progress = Recorder()

    unpack(store, [layer.descriptor, other.descriptor], tmp_path / "out", progress=progress)

    assert sorted(each.name for each in (tmp_path / "out/code/pkg").iterdir()) == ["app.py", "more.py"]
    assert progress.bytes == layer.descriptor.size + other.descriptor.size


@pytest.mark.parametrize(
    ("name", "named"),
    [("code/run", "code/run"), ("CODE/RUN", "CODE"), ("code/pkg", "code/pkg"), ("code/run/x", "code/run")],
)
def test_layers_that_overlap_are_refused(store: Store, layer: Layer, tmp_path: Path, name: str, named: str) -> None:
    other = store.put_layer([LayerFile(name, b"mine")])

    with pytest.raises(LayerUnsafeError, match=repr(named)):
        unpack(store, [layer.descriptor, other.descriptor], tmp_path / "out")

    assert sorted(each.name for each in tmp_path.iterdir()) == ["store"]


def test_a_folder_that_is_taken_is_left_alone(store: Store, layer: Layer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")

    unpack(store, [layer.descriptor], tmp_path / "empty")
    for taken in ("full", "file", "link"):
        with pytest.raises(UsageError, match="expected a new or an empty folder"):
            unpack(store, [layer.descriptor], tmp_path / taken)

    assert (tmp_path / "empty/code/run").is_file()
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine"]


def replace_blob(store: Store, layer: Layer, data: bytes) -> None:
    path = store.blob(layer.descriptor.digest)
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("position", [0, 100, 156, 1024, 1030, -1])
def test_a_flipped_bit_anywhere_is_found_before_the_tree_has_its_name(
    store: Store, layer: Layer, position: int
) -> None:
    data = bytearray(store.blob(layer.descriptor.digest).read_bytes())
    data[position] ^= 1
    replace_blob(store, layer, bytes(data))

    for read in (materialise, scan_layer):
        with pytest.raises(BlobCorruptError, match=layer.descriptor.digest):
            read(store, layer.descriptor)

    assert list(store.layout.trees.iterdir()) == []


@pytest.mark.parametrize("length", [0, 1, 511, 512, 1024, 2560])
def test_a_truncated_layer_is_corrupt_wherever_it_ends(store: Store, layer: Layer, length: int) -> None:
    replace_blob(store, layer, store.blob(layer.descriptor.digest).read_bytes()[:length])

    with pytest.raises(BlobCorruptError):
        materialise(store, layer.descriptor)

    assert list(store.layout.trees.iterdir()) == []


@pytest.mark.parametrize("lie", [-512, -1, 1, 512, 10**15])
def test_a_descriptor_that_lies_about_the_size_is_refused(store: Store, layer: Layer, lie: int) -> None:
    """The guard against bombs: what a layer may unpack to is what the signed document says it has."""
    real = layer.descriptor
    lying = Descriptor(media_type=real.media_type, digest=real.digest, size=real.size + lie)

    with pytest.raises(SlipwayError) as caught:
        materialise(store, lying)

    assert caught.value.code in {"blob_corrupt", "no_space"}
    assert list(store.layout.trees.iterdir()) == []


def test_a_missing_layer_is_named_and_leaves_nothing(store: Store, layer: Layer, tmp_path: Path) -> None:
    store.blob(layer.descriptor.digest).unlink()

    with pytest.raises(BlobMissingError, match=layer.descriptor.digest):
        unpack(store, [layer.descriptor], tmp_path / "out")

    assert sorted(each.name for each in tmp_path.iterdir()) == ["store"]


def test_two_processes_that_unpack_one_layer_share_one_tree(store: Store, layer: Layer) -> None:
    """The other process is a fork that wins in the middle of our work."""

    class Rival:
        def advance(self, count_bytes: int, /) -> None:
            if not (store.layout.trees / layer.descriptor.digest[7:]).exists():
                assert in_child(lambda: materialise(store, layer.descriptor)) == 0

    tree = materialise(store, layer.descriptor, progress=Rival())

    assert (tree / "code/run").is_file()
    assert [each.name for each in store.layout.trees.iterdir()] == [tree.name]
