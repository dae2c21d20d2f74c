"""What the tests of registries share: short retries, small pieces, and children that die at a request."""

import os
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import httpx
from bundle_fakes import Shelf
from registry_process import environ
from store_fakes import in_child

from slipway_bundle.digest import Digest
from slipway_bundle.registry import Pulled, Pushed, Retry, pull, push
from slipway_bundle.store import Store

SOON = Retry(tries=4, base_s=0.001, cap_s=0.002, stall_s=5.0, patience_s=1.0)
"""Tests that wait for a pause wait for nothing."""

PIECE_BYTES = 1024


def send(store: Store, ref: str, place: str, home: Path, **more: object) -> Pushed:
    """A push in pieces of a kilobyte, one at a time."""
    options = {"environ": environ(home), "retry": SOON, "chunk_bytes": PIECE_BYTES, "jobs": 1} | more
    return push(store, ref, place, **options)  # type: ignore[arg-type]  # each test names what it changes


def fetch(source: str, store: Store, home: Path, **more: object) -> Pulled:
    """A pull, one blob at a time."""
    return pull(source, store, **({"environ": environ(home), "retry": SOON, "jobs": 1} | more))  # type: ignore[arg-type]


def copy_of(shelf: Shelf, folder: Path) -> Store:
    """The shelf's store, for a test that changes it; what the failed transfers of other tests left stays behind."""
    left = shutil.ignore_patterns("*.upload", "*.part")
    return Store.open(Path(shutil.copytree(shelf.store.root, folder / "copy", ignore=left)))


def leaf_sizes(store: Store, ref: str) -> dict[Digest, int]:
    """The blobs of a bundle that are no documents."""
    return {
        each.digest: each.size
        for each in store.walk(store.find(ref).descriptor)
        if not each.media_type.endswith(("index.v1+json", "image.manifest.v1+json"))
    }


def killed_at_request(number: int, work: Callable[[], object], *, is_before: bool) -> int:
    """Run `work` in a fork that is killed before or after its `number`-th request; its exit status."""

    def doomed() -> None:
        counter = count(1)
        real = httpx.Client.send

        def watched(self: httpx.Client, *args: object, **kwargs: object) -> httpx.Response:
            is_last = next(counter) == number
            if is_last and is_before:
                os.kill(os.getpid(), signal.SIGKILL)
            response = real(self, *args, **kwargs)  # type: ignore[arg-type]  # passed on as it came
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return response

        httpx.Client.send = watched  # type: ignore[method-assign]  # in a child that does nothing else
        work()

    return in_child(doomed)
