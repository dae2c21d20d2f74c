"""`slipway lab`: what the lab's own process tells, under the exit status that it had there."""

import json
import tempfile
from collections.abc import Iterator

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
