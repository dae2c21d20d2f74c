"""Every way in which a command ends: the exit status, and what is said where."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from cli_commands import Slipway

from slipway_bundle.errors import HostError, IntegrityError, SlipwayError, UsageError
from slipway_cli.boundary import guarded
from slipway_cli.terminal import Terminal


def ends_with(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (IntegrityError("no"), 1),
        (UsageError("wrong"), 2),
        (click.UsageError("wrong"), 2),
        (HostError("cannot"), 3),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 3),
        (SlipwayError("a state that cannot be"), 70),
        (KeyError("x"), 70),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_each_kind_of_end_has_its_exit_status(error: BaseException, status: int) -> None:
    assert guarded(ends_with(error), Terminal(), []) == status


def test_an_error_is_a_sentence_and_a_hint_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(ends_with(UsageError("the name is taken", hint="choose another")), Terminal(), [])

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: the name is taken\nhint: choose another\n"


def test_under_json_an_error_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(ends_with(UsageError("the name is taken", hint="choose another", name="x")), Terminal(json=True), [])

    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out) == {
        "error": {
            "code": "usage",
            "message": "the name is taken",
            "hint": "choose another",
            "exit_status": 2,
            "fields": {"name": "x"},
        }
    }


def test_wrong_usage_is_json_too_wherever_the_flag_stands(slipway: Slipway) -> None:
    before, after = slipway("--json", "bundle", "build", "--frob"), slipway("bundle", "build", "--frob", "--json")

    assert before.status == after.status == 2
    assert before.document == after.document
    assert before.document["error"]["code"] == "usage"
    assert "--frob" in before.document["error"]["message"]


def test_an_argument_that_is_called_json_is_no_flag(slipway: Slipway) -> None:
    said = slipway("bundle", "inspect", "--", "--json")

    assert said.status == 2
    assert said.out == ""


def test_a_bug_leaves_its_traceback_in_a_file_and_not_on_the_screen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    guarded(ends_with(KeyError("x")), Terminal(), ["bundle", "list"])

    said = capsys.readouterr().err
    file = re.search(r"the traceback is in (\S+);", said)
    assert "Traceback" not in said
    assert file is not None
    assert "Traceback" in Path(file[1]).read_text("utf-8")
    assert "['bundle', 'list']" in Path(file[1]).read_text("utf-8")


def test_a_bug_under_verbose_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(ends_with(KeyError("x")), Terminal(verbose=True), [])

    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(ends_with(KeyboardInterrupt()), Terminal(), [])

    assert capsys.readouterr().err == "interrupted\n"


def test_nothing_is_said_when_the_reader_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-P", "-m", "slipway_cli", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )

    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


def test_a_terminal_without_unicode_gets_no_traceback(built_home: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "SLIPWAY_HOME": str(built_home)}
    command = [sys.executable, "-P", "-m", "slipway_cli", "bundle", "inspect", "churn"]

    done = subprocess.run(command, capture_output=True, env=environment, check=False)

    assert done.returncode == 0
    assert done.stderr == b""
    assert b"? " in done.stdout
