"""`kill -9` at every request and at every call that changes the disk: never half a tag, never half a bundle.

Each child is a fork, so a step costs some hundredths of a second. `make test` takes every seventh, `make e2e` all of
them; of those, every fourth is gone on from.
"""

import shutil
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from bundle_fakes import Shelf
from registry_fakes import copy_of, fetch, killed_at_request, leaf_sizes, send
from registry_process import FaultProxy, RegistryProcess
from store_fakes import in_child, kill_at, names, require_tidy, require_whole

from slipway_bundle.store import Store

KILLED = -9


every = pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.e2e)])


@every
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_a_push_that_is_killed_at_any_request_shows_no_tag_before_all_is_there(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, tmp_path: Path, is_before: bool, stride: int
) -> None:
    """One repository for each point; blobs are linked between repositories by the registry, never by us here."""
    store = copy_of(shelf, tmp_path)
    whole = sum(leaf_sizes(store, "tiny").values())
    for turn, number in enumerate(count(1, stride)):
        name = f"killed/{'before' if is_before else 'after'}-by-{stride}-{number}"
        work = partial(send, store, "tiny", f"{proxy.host}/{name}:1", tmp_path)

        status = killed_at_request(number, work, is_before=is_before)

        if status == 0:
            break
        assert status == KILLED
        if registry.tags(name):
            require_pullable(registry, name, tmp_path / f"whole-{number}", shelf)
        elif turn % 4 == 1:
            proxy.seen.clear()
            work()
            assert proxy.sent_bytes() <= whole
            require_pullable(registry, name, tmp_path / f"again-{number}", shelf)
    assert number > 30
    assert set(registry.tags(name)) == {"1"}


def test_a_push_that_is_killed_sends_what_is_missing_and_no_more(
    proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    """Killed with three pieces of the longest blob at the registry: they are not sent again."""
    store = copy_of(shelf, tmp_path)
    longest = max(leaf_sizes(store, "tiny").values())
    whole = sum(leaf_sizes(store, "tiny").values())
    work = partial(send, store, "tiny", f"{proxy.host}/resumed/tiny:1", tmp_path)
    assert killed_at_request(6, work, is_before=True) == KILLED
    first = proxy.sent_bytes()

    work()

    assert first > 0
    assert longest > first
    assert proxy.sent_bytes() == whole
    store.gc()
    require_tidy(store)


@every
def test_a_pull_that_is_killed_at_any_request_leaves_no_bundle_and_goes_on(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, tmp_path: Path, stride: int
) -> None:
    pushed = send(shelf.store, "tiny", f"{registry.host}/killed/pull:1", tmp_path)
    whole = sum(leaf_sizes(shelf.store, "tiny").values())
    for turn, number in enumerate(count(1, min(stride, 5))):
        root = tmp_path / f"store-{number}"
        work = partial(fetch, f"{proxy.host}/killed/pull@{pushed.digest}", Store.open(root), tmp_path)

        status = killed_at_request(number, work, is_before=False)

        assert names(Store.open(root)) == ({} if status else names(shelf.store))
        if status == 0:
            break
        if turn % 4 == 1:
            assert work().fetched_bytes <= whole
            require_whole(Store.open(root))
            require_tidy(Store.open(root))
    assert number > 10


@every
def test_a_pull_that_is_killed_at_any_step_of_the_disk_leaves_the_old_or_the_new(
    registry: RegistryProcess, shelf: Shelf, tmp_path: Path, stride: int
) -> None:
    pushed = send(shelf.store, "tiny", f"{registry.host}/killed/disk:1", tmp_path)
    for turn, step in enumerate(count(1, stride)):
        root = tmp_path / "store"

        def work(root: Path = root, step: int = step) -> None:
            kill_at(step)
            fetch(pushed.ref, Store.open(root), tmp_path)

        status = in_child(work)

        store = Store.open(root)
        assert names(store) in ({}, names(shelf.store))
        require_whole(store)
        if status == 0:
            break
        if turn % 4 == 1:
            fetch(pushed.ref, store, tmp_path)
            store.gc()
            require_tidy(store)
        shutil.rmtree(root, ignore_errors=True)
    assert step > 50


def require_pullable(registry: RegistryProcess, name: str, folder: Path, shelf: Shelf) -> None:
    """What the tag means can be pulled to its last byte."""
    store = Store.open(folder)
    fetch(f"{registry.host}/{name}:1", store, folder.parent)
    assert store.entries() == shelf.store.entries()
    require_whole(store)
