"""The models beside the service, and the service running once in each lane."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(FOLDER / "src"))  # the tests run where the service is not installed, too

from documents_service.service import service  # noqa: E402  # found through the line above
from slipway_serve import local  # noqa: E402
from slipway_serve.local import Local  # noqa: E402


@pytest.fixture(scope="session")
def folder() -> Path:
    """The service's folder, with its models."""
    subprocess.run([sys.executable, FOLDER / "fetch.py"], check=True, timeout=60)
    return FOLDER


@pytest.fixture(scope="session")
def app(folder: Path) -> Iterator[Local]:
    """The service with its models in this process."""
    with local(service, folder=folder, lane="in_process") as running:
        yield running
