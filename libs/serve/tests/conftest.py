"""Fixtures of the serve room: service folders and a running server, made once a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_folders import write_full, write_minimal
from serve_process import Served, serving


@pytest.fixture(scope="session")
def minimal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the minimal service."""
    return write_minimal(tmp_path_factory.mktemp("minimal"))


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the second form."""
    return write_full(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def served(minimal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The minimal service behind one worker."""
    with serving(minimal, store=tmp_path_factory.mktemp("served") / "store") as running:
        yield running
