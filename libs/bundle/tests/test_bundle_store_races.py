"""Several processes at once, on one store."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from store_fakes import fork, names, put_bundle, require_tidy, require_whole

from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefConflictError

BUILDERS = 6


def at_once(works: Sequence[Callable[[], object]]) -> list[int]:
    """Run each in its own fork, started together by closing a pipe; their exit statuses."""
    reader, writer = os.pipe()
    children = []
    for work in works:
        child = fork()
        if child == 0:
            status = 1
            try:
                os.close(writer)
                os.read(reader, 1)
                work()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(reader)
    os.close(writer)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_builders_of_the_same_content_all_succeed(tmp_path: Path) -> None:
    """Also the making of the store is part of the race."""
    root = tmp_path / "store"

    statuses = at_once([lambda: put_bundle(Store.open(root), "x", "churn:1")] * BUILDERS)

    assert statuses == [0] * BUILDERS
    store = Store.open(root)
    assert list(names(store)) == ["churn:1"]
    require_whole(store)
    require_tidy(store)


def test_of_builders_of_different_content_exactly_one_gets_the_reference(tmp_path: Path) -> None:
    root = tmp_path / "store"

    def build(text: str) -> None:
        try:
            put_bundle(Store.open(root), text, "churn:1")
        except RefConflictError:
            os._exit(7)

    statuses = at_once([partial(build, str(number)) for number in range(BUILDERS)])

    assert sorted(statuses) == [0] + [7] * (BUILDERS - 1)
    store = Store.open(root)
    require_whole(store)
    store.gc()
    require_tidy(store)


def test_builders_of_different_references_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"

    def build(number: int) -> None:
        store = Store.open(root)
        for version in range(5):
            put_bundle(store, f"{number}-{version}", f"b{number}:{version}")

    at_once([partial(build, number) for number in range(BUILDERS)])

    store = Store.open(root)
    assert len(names(store)) == BUILDERS * 5
    require_whole(store)


@pytest.mark.parametrize("rounds", [8])
def test_building_deleting_and_collecting_at_once_never_breaks_a_bundle(tmp_path: Path, rounds: int) -> None:
    root = tmp_path / "store"
    put_bundle(Store.open(root), "keep", "keep:1")

    def build(number: int) -> None:
        store = Store.open(root)
        for version in range(rounds):
            put_bundle(store, f"{number}-{version}", f"b{number}:{version}")
            if version % 2:
                store.delete(f"b{number}:{version}")

    def collect() -> None:
        store = Store.open(root)
        for _ in range(rounds):
            store.gc()
            require_whole_under_lease(store)

    statuses = at_once([lambda: build(1), lambda: build(2), collect, collect])

    assert statuses == [0, 0, 0, 0]
    store = Store.open(root)
    assert len(names(store)) == 1 + rounds
    require_whole(store)
    store.gc()
    require_tidy(store)


def require_whole_under_lease(store: Store) -> None:
    """Under a lease, what is listed stays whole, whoever deletes it meanwhile."""
    with store.lease():
        require_whole(store)
