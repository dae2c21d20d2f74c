"""`make ci`: its parts fit into its time, what does not end is ended, and one count has everything."""

import os
import subprocess
import sys
from pathlib import Path

import ci
import pytest
from ci_report import OUT_OF_TIME, Report, counts_of, number_collected
from house_files import ROOT
from monitoring import eventually

from slipway_lab import build
from slipway_lab.programs import PROGRAMS
from slipway_lab.workshop import find_workshop

SETTINGS = '[tool.pytest.ini_options]\nmarkers = ["e2e", "soak", "gameday"]\n'
TESTS = {
    "tests/test_small.py": "def test_a(): pass\ndef test_b(): pass\n",
    "tests/test_big.py": "import pytest\npytestmark = pytest.mark.e2e\ndef test_a(): pass\n",
    "tests/lab/test_lab.py": "import pytest\npytestmark = pytest.mark.e2e\n@pytest.mark.parametrize('n', range(3))\n"
    "def test_a(n): pass\n",
    "tests/test_long.py": "import pytest\npytestmark = pytest.mark.soak\ndef test_a(): pass\n",
}
PYTEST = (sys.executable, "-m", "pytest", "-m")
HANGS = """
import subprocess, time
print(subprocess.Popen(["sh", "-c", "trap '' INT TERM; exec sleep 60"]).pid)
print("=== 3 passed in 1.00s ===", flush=True)
{}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of seven tests, whose parts are runs of pytest, on a machine without Go."""
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    for name, text in TESTS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(ci, "ROOT", tmp_path)
    monkeypatch.setattr(ci, "TEST", part(ci.TEST, *PYTEST, "not e2e and not soak"))
    monkeypatch.setattr(ci, "E2E", part(ci.E2E, *PYTEST, "e2e", "--ignore=tests/lab"))
    monkeypatch.setattr(ci, "LAB", part(ci.LAB, *PYTEST, "e2e", "tests/lab"))
    monkeypatch.setenv("SLIPWAY_LAB_GO", str(tmp_path / "no-go"))
    monkeypatch.setenv("SLIPWAY_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return tmp_path


def part(like: ci.Part, *command: str) -> ci.Part:
    return ci.Part(like.name, command, needs_s=like.needs_s, limit_s=like.limit_s)


@pytest.mark.slow
def test_everything_is_in_one_count(repository: Path) -> None:
    report = Report()

    ci.run_parts(report, lambda: ci.END_S)

    words, count = report.lines(2100)
    assert report.status == 0
    assert "not run: make e2e of tests/lab, 3 tests: " in words
    assert "no-go env` does not work" in words
    assert count == "3 passed, 3 skipped, 1 deselected in 2100.00s"


@pytest.mark.slow
def test_what_does_not_fit_is_skipped_with_its_number_and_the_reason(repository: Path) -> None:
    report = Report()

    ci.run_parts(report, lambda: 600)

    words, count = report.lines(4000)
    assert report.status == 0
    assert "not run: make e2e without tests/lab, 1 tests: 10 min are left, it needs 22" in words
    assert "not run: make e2e of tests/lab, 3 tests: " in words
    assert count == "2 passed, 4 skipped, 1 deselected in 4000.00s"


@pytest.mark.slow
def test_a_failure_of_make_test_ends_it(repository: Path) -> None:
    (repository / "tests" / "test_small.py").write_text("def test_a(): pass\ndef test_b(): assert False\n")
    report = Report()

    ci.run_parts(report, lambda: ci.END_S)

    words, count = report.lines(900)
    assert report.status == 1
    assert words == "ci: FAILED: make test (status 1); make e2e was not begun, because make test failed"
    assert count == "1 failed, 1 passed in 900.00s"


@pytest.mark.slow
def test_a_failure_of_a_later_part_is_the_status_and_the_rest_is_run(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ci, "E2E", part(ci.E2E, sys.executable, "-c", "raise SystemExit(7)"))
    monkeypatch.setattr(ci, "why_no_lab", lambda *_: None)
    report = Report()

    ci.run_parts(report, lambda: ci.END_S)

    words, count = report.lines(900)
    assert report.status == 7
    assert words == "ci: FAILED: make e2e without tests/lab (status 7)"
    assert count == "5 passed, 1 deselected, 1 error in 900.00s"


@pytest.mark.parametrize("then", ["time.sleep(60)", "import signal; signal.signal(2, signal.SIG_IGN); time.sleep(60)"])
def test_a_part_that_hangs_is_ended_with_all_that_it_started(
    then: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What it had counted stays, and so does that it failed."""
    monkeypatch.setattr(ci, "GRACE_S", tuple((number, 1.0) for number, _ in ci.GRACE_S))
    hanging = ci.Part("make test", (sys.executable, "-c", HANGS.format(then)), needs_s=0, limit_s=3)
    report = Report()

    is_well = ci.perform(hanging, 3, report)

    words, count = report.lines(9)
    assert not is_well
    assert report.status == OUT_OF_TIME
    assert "FAILED: make test did not end in 0 min (status 124)" in words
    assert count == "3 passed, 1 error in 9.00s"
    began, child, summary, *_ = capfdbinary.readouterr().out.splitlines()
    assert (began, summary) == (b"ci: make test, 0 min at most", b"=== 3 passed in 1.00s ===")
    assert eventually(lambda: not Path(f"/proc/{int(child)}").exists(), 5)


def test_an_orphan_that_holds_the_output_is_not_waited_for() -> None:
    holds = "import subprocess; print(subprocess.Popen(['sleep', '30'], start_new_session=True).pid)"

    ended = ci.run((sys.executable, "-c", holds), 20, None)

    os.kill(int(ended.output), 9)
    assert ended.status == 0


@pytest.mark.parametrize(
    ("left_s", "kept_s", "expected"),
    [(4000, 0, 3000), (2000, 0, 2000), (1000, 0, 1000), (999, 0, 0), (2000, 1000, 1000), (2000, 1001, 0), (-5, 0, 0)],
)
def test_a_part_is_begun_where_it_fits_and_takes_no_more_than_is_left(
    left_s: float, kept_s: float, expected: float
) -> None:
    one = ci.Part("one", (), needs_s=1000, limit_s=3000)

    assert ci.share_s(one, left_s, kept_s=kept_s) == expected


def test_a_cold_machine_has_time_for_all_but_the_programs_of_the_lab() -> None:
    """16 minutes of `make test` and 18 of e2e, on two cores: what is left holds the lab's tests, and some building."""
    left_s = ci.END_S - ci.CLOSING_S - 90
    assert ci.share_s(ci.TEST, left_s) >= 2 * 16 * 60
    left_s -= 16 * 60
    assert ci.share_s(ci.E2E, left_s) >= 2 * 18 * 60
    left_s -= 18 * 60
    assert ci.share_s(ci.LAB, left_s, kept_s=10 * 60) >= ci.LAB.needs_s


def test_closing_holds_the_end_of_a_part_and_a_collection() -> None:
    assert sum(grace_s for _, grace_s in ci.GRACE_S) + ci.COLLECTING_S <= ci.CLOSING_S
    assert ci.END_S <= 80 * 60


def test_without_room_on_the_disk_nothing_is_built(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_GO", "/bin/echo")
    monkeypatch.setattr(ci, "FREE_BYTES", 1e18)

    why = ci.why_no_lab(Report(), lambda: ci.END_S)

    assert why is not None
    assert "of its programs are to be built, and " in why
    assert why.endswith(f"GB are free in {repository}, expected 1000000000")


def test_a_build_that_is_not_done_in_its_time_is_ended_and_no_failure(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go = repository / "go"
    go.write_text(f'#!/bin/sh\n[ "$1" = env ] && exec echo go1.99\necho $$ >> {repository}/pids\nexec sleep 60\n')
    go.chmod(0o755)
    workshop = find_workshop({"SLIPWAY_LAB_GO": str(go), "SLIPWAY_LAB_CACHE": str(repository / "cache")})
    monkeypatch.setattr(ci, "FREE_BYTES", 0)
    monkeypatch.setattr(build, "ROOM_BYTES", 0)
    report = Report()

    why = ci.why_not_built(report, workshop, build.missing(workshop), 2)

    (pid,) = (repository / "pids").read_text().split()
    assert why == f"0 of {len(PROGRAMS)} programs were built in 0 min; the next build goes on from there"
    assert report.status == 0
    assert "ci: builds " in capsys.readouterr().out
    assert not Path(f"/proc/{pid}").exists()
    assert list(workshop.programs.iterdir()) == []


def test_a_build_that_fails_is_a_failure(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go = repository / "go"
    go.write_text('#!/bin/sh\n[ "$1" = env ] && exec echo go1.99\necho no such module; exit 1\n')
    go.chmod(0o755)
    workshop = find_workshop({"SLIPWAY_LAB_GO": str(go), "SLIPWAY_LAB_CACHE": str(repository / "cache")})
    monkeypatch.setattr(ci, "FREE_BYTES", 0)
    monkeypatch.setattr(build, "ROOM_BYTES", 0)
    report = Report()

    why = ci.why_not_built(report, workshop, build.missing(workshop), 30)

    assert why == "its programs could not be built"
    assert report.status == 3
    assert "no such module" in capsys.readouterr().out


def test_counts_are_those_of_the_last_lines_whatever_their_colour() -> None:
    """Two runs; what one deselects another runs. A line in the output of a test is none of pytest's."""
    output = (
        "=================== 2 failed, 6000 passed, 1 skipped, 1 warning, 1 error in 900.12s (0:15:00) ====\n"
        "E   ==== 7 passed in 1.00s ====\n7 passed in 1.00s\n"
        "\x1b[32m====== \x1b[1m40 passed\x1b[0m, \x1b[33m6200 deselected\x1b[0m in 60.00s \x1b[32m=====\x1b[0m\n"
        "============ 6240 deselected in 3.00s ============\n"
    )

    found = counts_of(output)

    assert found == {"failed": 2, "passed": 6040, "skipped": 1, "warning": 1, "error": 1}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("a::b\n\n31/6400 tests collected (6369 deselected) in 9.00s\n", 31),
        ("1 test collected in 0.10s\n", 1),
        ("no tests collected (6400 deselected) in 9.00s\n", 0),
        ("ERROR tests/test_a.py\n!!!! Interrupted: 1 error during collection !!!!\n", None),
    ],
)
def test_what_pytest_collects_is_read_from_its_last_line(output: str, expected: int | None) -> None:
    assert number_collected(output) == expected


def test_an_end_by_hand_ends_what_runs_and_says_so(tmp_path: Path) -> None:
    """SIGTERM, while the first part runs."""
    make = tmp_path / "make"
    make.write_text("#!/bin/sh\necho begun; exec sleep 60\n")
    make.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, str(ROOT / "scripts" / "ci.py")]

    running = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    first = [running.stdout.readline() for _ in range(2)]
    running.terminate()
    rest, _ = running.communicate(timeout=30)

    assert first == ["ci: make test, 40 min at most\n", "begun\n"]
    assert rest == "ci: interrupted\n"
    assert running.returncode == 130
