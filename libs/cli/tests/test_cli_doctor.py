"""`slipway doctor`: each check finds what it is for, and says what to do."""

import os
import socket
from pathlib import Path

import pytest
from cli_commands import ROOT, Slipway

from slipway_cli.checks import check_files, check_machine, check_packages, check_port, check_program, check_store


def test_nothing_fails_where_these_tests_run(slipway: Slipway) -> None:
    said = slipway("doctor", "--json")

    failed = [check for check in said.document["checks"] if check["status"] == "fail"]
    assert said.status == 0, failed
    assert said.document["ok"] is True


def test_every_check_that_is_not_ok_has_a_fix(home: Path) -> None:
    found = check_machine(os.environ, ROOT)

    assert [check for check in found if check.status != "ok" and not check.fix] == []


def test_the_table_says_status_in_words(slipway: Slipway) -> None:
    said = slipway("doctor")

    assert said.out.splitlines()[0].startswith("ok    python")
    assert "\x1b" not in said.out


def test_a_store_that_cannot_be_written_fails_and_exits_1(
    slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "file"))

    said = slipway("doctor", "--json")

    broken = [check["name"] for check in said.document["checks"] if check["status"] == "fail"]
    assert said.status == 1
    assert broken == ["store"]


def test_no_home_at_all_is_a_finding() -> None:
    (found,) = check_store({})

    assert (found.status, found.fix) == ("fail", "set SLIPWAY_HOME to a folder")


def test_a_package_that_differs_from_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("click==0.0.1 \\\n    --hash=sha256:00\nnot-installed==1.0\n")

    found = check_packages(tmp_path / "services" / "x")

    assert found.status == "warn"
    assert "click " in found.found
    assert "(lock: 0.0.1)" in found.found
    assert "not-installed" not in found.found


def test_a_port_that_is_taken_is_a_warning() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        found = check_port(taken.getsockname()[1], "--port")

    assert found.status == "warn"
    assert found.fix == "`slipway serve ... --port 0` chooses a free one"


def test_a_low_limit_of_open_files_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 524_288))

    found = check_files()

    assert (found.status, found.fix) == ("warn", "`ulimit -n 524288`")


def test_a_missing_program_says_what_it_is_for() -> None:
    found = check_program("no-such-program", "nothing")

    assert (found.status, found.fix) == ("warn", "optional: nothing")
