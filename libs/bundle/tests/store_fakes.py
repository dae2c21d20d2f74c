"""What the tests of the store share: a tiny bundle, and children that can be killed."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path

from slipway_bundle.digest import Digest
from slipway_bundle.layers import LayerFile, plan_layers
from slipway_bundle.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    ImageConfig,
    RootFs,
    make_index,
    make_manifest,
)
from slipway_bundle.store import Store
from slipway_bundle.tar import normal_mode

SYSCALLS = ("fsync", "replace", "rename", "link", "unlink", "rmdir", "mkdir", "write", "pwrite", "fchmod", "chmod")
"""What changes a disk, as the store reaches it."""


class Recorder:
    """A `Progress` that remembers."""

    def __init__(self) -> None:
        self.bytes = 0

    def advance(self, count_bytes: int, /) -> None:
        self.bytes += count_bytes


class Hog:
    """Another program that fills the disk while a layer is being packed."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk

    def advance(self, count_bytes: int, /) -> None:
        if (self.disk / "hog").exists():
            return
        with (self.disk / "hog").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return


def put_image(store: Store, text: str) -> Descriptor:
    """A runnable-looking image with one layer of two small files; gives back its manifest."""
    with store.lease():
        layer = store.put_layer(
            [LayerFile("code/app.py", text.encode()), LayerFile("code/shared.py", b"the same everywhere")]
        )
        rootfs = RootFs(type="layers", diff_ids=(layer.descriptor.digest,))
        config = store.put_json(ImageConfig(architecture="amd64", os="linux", rootfs=rootfs), CONFIG_TYPE)
        return store.put_json(make_manifest(config, (layer.descriptor,)), MANIFEST_TYPE)


def put_bundle(store: Store, text: str, ref: str | None = None) -> Descriptor:
    """An index over one image; published when it has a `ref`."""
    with store.lease():
        index = store.put_json(make_index((put_image(store, text),)), INDEX_TYPE)
        if ref is not None:
            store.publish(ref, index)
    return index


def pack_folder(source: Path, target: Path, *, backwards: bool) -> str:
    """Pack every file of `source` into a new store and publish it; the digest and the index, as text."""
    paths = sorted((path for path in source.rglob("*") if path.is_file()), reverse=backwards)
    files = [LayerFile(path.relative_to(source).as_posix(), path, normal_mode(path.stat().st_mode)) for path in paths]
    store = Store.open(target)
    with store.lease():
        layers = tuple(store.put_layer(group).descriptor for group in plan_layers(files))
        annotations = dict.fromkeys(frozenset(("b", "a", "c", "d", "e")), "é")  # a set has an order of its own
        index = store.put_json(make_index(layers, annotations=annotations), INDEX_TYPE)
        store.publish("churn:1", index)
    return index.digest + (target / "index.json").read_text("utf-8")


def names(store: Store) -> dict[str, Digest]:
    """What the store lists."""
    return {ref.text: ref.digest for ref in store.refs()}


def require_whole(store: Store) -> None:
    """Every bundle that is listed can be read to its last byte."""
    for ref in store.refs():
        for reached in store.walk(ref.descriptor):
            store.verify_blob(reached.digest, size=reached.size)


def require_tidy(store: Store) -> None:
    """Nothing is there that no bundle refers to."""
    reached = {each.digest for entry in store.entries() for each in store.walk(entry)}
    assert {"sha256:" + path.name for path in store.layout.blobs.iterdir()} == reached
    assert list(store.layout.ingest.iterdir()) == []
    assert {"sha256:" + path.name for path in store.layout.trees.iterdir()} <= reached
    assert list(store.layout.pins.iterdir()) == []


def fork() -> int:
    """`os.fork`, without the warning of Python 3.12 about threads of others.

    numpy's threads, started by another test module, hold no lock that a child of these tests asks for.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a fork of this process; its exit status, negative for a signal."""
    child = fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001  a child must never return into pytest
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(step: int) -> None:
    """From now on, die before the `step`-th call (from 1) of one of `SYSCALLS`. For children only."""
    counter = count(1)

    def watched(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if next(counter) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in SYSCALLS:
        setattr(os, name, watched(getattr(os, name)))


def blob_files(store: Store) -> set[str]:
    """The names of all blobs on disk."""
    return {path.name for path in store.layout.blobs.iterdir()}


def age(path: Path) -> Path:
    """Give `path` a modification time of long ago; its change time stays now."""
    os.utime(path, ns=(0, 0))
    return path
