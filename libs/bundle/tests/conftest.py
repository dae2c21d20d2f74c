"""Fixtures of the bundle room: a trained model, a service folder that may be changed, and an empty store."""

from pathlib import Path

import pytest
from bundle_fakes import Shelf, Trained, train, write_folder

from slipway_bundle.store import Store


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


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Shelf:
    """Read it, do not change it."""
    return Shelf(tmp_path_factory.mktemp("shelf"), trained)
