"""A lab's home for one test, short enough for the sockets below it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def lab_home() -> Iterator[Path]:
    """pytest's own folders are named after the test and the worker: too long for the address of a socket."""
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        yield Path(folder)
