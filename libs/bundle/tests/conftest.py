"""Fixtures of the bundle room: a trained model, a service folder that may be changed, a store, a registry."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundle_fakes import Shelf, Trained, train, write_folder
from registry_process import PROGRAM, FaultProxy, RegistryProcess, proxied, running

from slipway_bundle.store import Store

if TYPE_CHECKING:
    from image_fakes import Workshop


@pytest.fixture(scope="session")
def trained() -> Trained:
    return train()


@pytest.fixture
def folder(tmp_path: Path, trained: Trained) -> Path:
    """A service folder of the test's own, outside any git repository."""
    return write_folder(tmp_path / "tiny", trained)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store of the test's own."""
    return Store.open(tmp_path / "store")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A memory disk of 6 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,mode=755", "none", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a memory disk: {mounted.stderr.strip()}; the twin with a file-size limit runs")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Shelf:
    """Read it, do not change it."""
    return Shelf(tmp_path_factory.mktemp("shelf"), trained)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> "Workshop":
    """What images are made from; copy it to change it."""
    from image_fakes import Workshop

    workshop = Workshop.make(tmp_path_factory.mktemp("bench") / "workshop", trained)
    workshop.fetch()
    return workshop


@pytest.fixture
def workshop(tmp_path: Path, bench: "Workshop") -> "Workshop":
    """A workshop of the test's own; its wheels are in the cache."""
    return bench.copy(tmp_path / "workshop")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry for all tests; each uses repositories of its own."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed: sh scripts/system-packages.sh")
    with running(tmp_path_factory.mktemp("registry")) as process:
        yield process


@pytest.fixture
def proxy(registry: RegistryProcess) -> Iterator[FaultProxy]:
    """What can go wrong between here and the registry."""
    with proxied(registry) as between:
        yield between
