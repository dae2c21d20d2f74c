"""`kill -9` before every call that changes the disk: the store shows the old state or the new one, and heals.

Each child is a fork, so a step costs milliseconds; the folder is on a memory disk where there is one, because a
killed process loses no written page. A power cut does: `test_whatever_becomes_visible_was_synced_before`.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from store_fakes import in_child, kill_at, names, put_bundle, require_tidy, require_whole

from slipway_bundle.digest import Digest
from slipway_bundle.extract import materialise, unpack
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store

State = dict[str, Digest]


@pytest.fixture
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")  # noqa: S108  it is a memory disk that we want
    base = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        yield Path(name)


def layer_of(store: Store) -> Descriptor:
    bundle = store.find("churn:1").descriptor
    return next(each for each in store.walk(bundle) if each.media_type.endswith(".tar"))


def nothing(_: Store) -> None:
    """A store that is not there yet."""


def one_bundle(store: Store) -> None:
    put_bundle(store, "x", "churn:1")


def one_bundle_and_garbage(store: Store) -> None:
    put_bundle(store, "x", "churn:1")
    put_bundle(store, "y", "churn:2")
    put_bundle(store, "z")
    materialise(store, layer_of(store))
    second = next(each for each in store.walk(store.find("churn:2").descriptor) if each.media_type.endswith(".tar"))
    materialise(store, second)
    store.delete("churn:2")
    (store.layout.ingest / "half.tmp").write_bytes(b"half")


def build(store: Store) -> None:
    put_bundle(store, "x", "churn:1")


def build_second(store: Store) -> None:
    put_bundle(store, "y", "churn:2")


def delete(store: Store) -> None:
    if "churn:1" in names(store):
        store.delete("churn:1")


def collect(store: Store) -> None:
    store.gc()


def unpack_tree(store: Store) -> None:
    tree = materialise(store, layer_of(store))
    assert (tree / "code/app.py").read_bytes() == b"x"
    assert (tree / "code/shared.py").read_bytes() == b"the same everywhere"


def serve(store: Store) -> None:
    with store.pin(store.find("churn:1").descriptor):
        pass


@pytest.mark.parametrize(
    ("prepare", "act", "least_steps"),
    [
        (nothing, build, 50),
        (one_bundle, build_second, 30),
        (one_bundle, build, 2),
        (one_bundle, delete, 4),
        (one_bundle_and_garbage, collect, 10),
        (one_bundle, unpack_tree, 10),
        (one_bundle, serve, 1),
    ],
    ids=["first build", "second build", "same build", "delete", "gc", "unpack", "serve"],
)
def test_killed_at_any_step_the_store_is_old_or_new_and_heals(
    folder: Path, prepare: Callable[[Store], None], act: Callable[[Store], None], least_steps: int
) -> None:
    prepare(Store.open(folder / "template"))
    old = names(Store.open(folder / "template"))
    shutil.copytree(folder / "template", folder / "done") if old else None
    act(Store.open(folder / "done"))
    new = names(Store.open(folder / "done"))

    for step in count(1):
        root = folder / "store"
        if old:
            shutil.copytree(folder / "template", root)
        status = in_child(partial(act_until, step, act, root))
        require_healthy(Store.open(root), old, new)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        act(Store.open(root))
        require_healthy(Store.open(root), new, new)
        put_bundle(Store.open(root), "after", "after:1")
        Store.open(root).gc()
        require_healthy(Store.open(root), {}, {**new, "after:1": Store.open(root).resolve("after:1")})
        require_tidy(Store.open(root))
        shutil.rmtree(root)

    assert step > least_steps, "the killer saw fewer calls than there must be"


def act_until(step: int, act: Callable[[Store], None], root: Path) -> None:
    kill_at(step)
    act(Store.open(root))


def require_healthy(store: Store, old: State, new: State) -> None:
    assert names(store) in (old, new)
    require_whole(store)
    for tree in store.layout.trees.glob("[0-9a-f]*"):
        assert (tree / "code/app.py").stat().st_size == 1
        assert (tree / "code/shared.py").read_bytes() == b"the same everywhere"


def unpack_until(step: int, store: Store, out: Path) -> None:
    kill_at(step)
    unpack(store, [layer_of(store)], out)


def test_killed_at_any_step_an_unpacked_folder_is_whole_or_not_there(folder: Path) -> None:
    store = Store.open(folder / "store")
    put_bundle(store, "x", "churn:1")

    for step in count(1):
        out = folder / f"out-{step}"
        status = in_child(partial(unpack_until, step, store, out))
        if out.exists():
            assert (out / "code/app.py").read_bytes() == b"x"
            assert (out / "code/shared.py").stat().st_mode & 0o7777 == 0o644
            assert out.stat().st_mode & 0o7777 == 0o755
        if status == 0:
            break

    assert step > 10


class Journal:
    """Watches which files were synced after their last write when they get their final name."""

    def __init__(self, patch: pytest.MonkeyPatch, store: Store) -> None:
        self.store = store
        self.synced: set[int] = set()
        self.unsynced_names: list[str] = []
        self.named: list[str] = []
        self.pending_names: set[Path] = set()
        self.index_before_blobs = 0
        for name in ("write", "fsync", "replace", "link", "mkdir"):
            patch.setattr(os, name, self.watch(getattr(os, name), getattr(self, "on_" + name)))

    def watch(self, real: Callable[..., object], before: Callable[..., None]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            before(*args)
            return real(*args, **kwargs)

        return call

    def on_write(self, descriptor: int, _: object) -> None:
        self.synced.discard(os.fstat(descriptor).st_ino)

    def on_fsync(self, descriptor: int) -> None:
        self.synced.add(os.fstat(descriptor).st_ino)
        here = os.fstat(descriptor)
        self.pending_names = {path for path in self.pending_names if path.parent.stat().st_ino != here.st_ino}

    def on_replace(self, source: Path, target: Path) -> None:
        if target.name == "cache.json":
            return
        if target.name == "oci-layout" and {path.name for path in self.pending_names} != {"index.json"}:
            self.index_before_blobs += 1
        self.named.append(target.name)
        if Path(source).stat().st_ino not in self.synced:
            self.unsynced_names.append(target.name)
        if target == self.store.layout.index and self.pending_names:
            self.index_before_blobs += 1
        self.pending_names.add(target)

    on_link = on_replace

    def on_mkdir(self, folder: Path, *_: object) -> None:
        if not folder.exists() and folder.parent.exists():
            self.pending_names.add(folder)


def test_whatever_becomes_visible_was_synced_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a power cut asks for: file synced, then named; all names synced, then the index; then its folder."""
    store = Store.open(tmp_path / "not/yet/there/store")
    journal = Journal(monkeypatch, store)

    put_bundle(store, "x", "churn:1")
    put_bundle(store, "y", "churn:2")
    store.delete("churn:1")

    monkeypatch.undo()
    assert journal.unsynced_names == []
    assert journal.index_before_blobs == 0
    assert journal.pending_names == set()
    assert journal.named.count("index.json") == 3 + 1
    assert len(journal.named) >= 13
