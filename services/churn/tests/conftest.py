"""One training for all tests, and the model of it beside the service."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(FOLDER / "src"))  # the tests run where the service is not installed, too


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that training writes."""
    into = tmp_path_factory.mktemp("trained")
    subprocess.run([sys.executable, FOLDER / "train.py", into], check=True, timeout=60)
    return into


@pytest.fixture(scope="session")
def folder(trained: Path) -> Path:
    """The service's folder, with the model of this training; golden.jsonl stays as it is committed."""
    for made in (trained / "model").iterdir():
        placed = FOLDER / "model" / made.name
        if not placed.exists() or placed.read_bytes() != made.read_bytes():
            placed.parent.mkdir(exist_ok=True)
            beside = placed.with_name(f"{placed.name}.{os.getpid()}")
            shutil.copyfile(made, beside)
            beside.replace(placed)  # tests of another process may be reading it
    return FOLDER
