"""A store of its own for each test, the `slipway` command in this process, and a churn bundle built once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import Said, Slipway
from trained_churn import trained_churn

from slipway_cli.main import run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of slipway."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SLIPWAY_HOME", str(folder))
    return folder


@pytest.fixture
def slipway(home: Path, capsys: pytest.CaptureFixture[str]) -> Slipway:
    """Runs a command line in this process, without a terminal."""

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def churn() -> Path:
    """The churn service with its model, trained when it is not there."""
    return trained_churn()


@pytest.fixture(scope="session")
def built_home(churn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose store holds churn; for tests that only read it."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-P", "-m", "slipway_cli", "bundle", "build", str(churn)]
    subprocess.run(command, check=True, timeout=120, env=os.environ | {"SLIPWAY_HOME": str(folder)})
    return folder


@pytest.fixture
def with_churn(built_home: Path, slipway: Slipway, monkeypatch: pytest.MonkeyPatch) -> Slipway:
    """`slipway` on the store that holds churn."""
    monkeypatch.setenv("SLIPWAY_HOME", str(built_home))
    return slipway
