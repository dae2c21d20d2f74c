"""The services under load, once for all tests that look at them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from watched_stack import Watched, start


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """All of it, under load, after each of the faults was there once; about a minute and a half."""
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as running:
        yield start(folder, running)
