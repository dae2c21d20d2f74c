"""`slipway lab`: what the lab's own process tells, under the exit status that it had there."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway_cli.main import run


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short: sockets have their place below it."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("SLIPWAY_LAB_HOME", folder)
        yield


def test_a_lab_that_is_not_there_has_no_status(capfd: pytest.CaptureFixture[str]) -> None:
    status = run(["lab", "status", "--json"])

    assert status == 3
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "lab_not_running"


def test_ending_a_lab_that_is_not_there_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    status = run(["lab", "down", "--json"])

    assert status == 0
    assert json.loads(capfd.readouterr().out) == {"name": "lab", "was_there": False}


def test_a_name_that_cannot_be_is_an_error_in_words(capfd: pytest.CaptureFixture[str]) -> None:
    status = run(["lab", "logs", "--name", "My Lab", "etcd"])

    assert status == 3
    assert "error: 'My Lab' cannot name a lab" in capfd.readouterr().err


def test_a_build_ends_with_the_verb_that_is_told_to_end(tmp_path: Path) -> None:
    """`timeout` says SIGTERM to the verb alone; what builds is a process group of its own, and here waits its turn."""
    go = shutil.which("echo") or "echo"  # it is asked for its version only
    environ = os.environ | {"SLIPWAY_LAB_CACHE": str(tmp_path), "SLIPWAY_LAB_GO": go}
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "slipway_cli", "lab", "build"]
        verb = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert verb.stderr is not None
        said = verb.stderr.readline()
        verb.terminate()
        _, rest = verb.communicate(timeout=30)  # it ends when nobody has the pipe any more

    assert said == "waits: another process builds\n"
    assert rest.split() == ["interrupted", "interrupted"]
    assert verb.returncode == 130
