"""A clock that is wrong deletes nothing: not captured requests, not labels, not the keys by which people are found."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from capture_fakes import DAY_S, NOW, Capturing, read_rows

from slipway_signals.capture import CaptureConfig
from slipway_signals.capture.compact import CompactReport, compact
from slipway_signals.capture.label_state import LABELS_DB
from slipway_signals.capture.label_store import LabelStore
from slipway_signals.capture.labels import ingest
from slipway_signals.capture.pseudonyms import KeyRing
from slipway_signals.capture.retention import DOUBT_S, JUMP_S, ClockMark, followed

YEARS_S = 3 * 365 * DAY_S
TURN_S = 300.0
"""Between two compactions of a server."""


def filled(folder: Path, *names: str, now: float = NOW) -> Path:
    capturing = Capturing(folder)
    for name in names:
        capturing.offer(name, subject="alice", now=now)
    capturing.close()
    return folder


def run(folder: Path, now: float, **given: bool) -> CompactReport:
    return compact(folder, CaptureConfig(key_days=90), now, **given)


def ids(folder: Path) -> set[str]:
    return {row["request_id"] for row in read_rows(folder)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Requests of today, labels and a key, compacted once by a clock that is right."""
    folder = filled(tmp_path / "capture", "r1", "r2")
    labels = tmp_path / "labels.jsonl"
    labels.write_text(f'{{"request_id": "r1", "label": 1, "observed_at": {NOW}}}\n')
    ingest(folder, labels, NOW)
    run(folder, NOW)
    return folder


def test_a_clock_that_is_years_ahead_deletes_nothing_and_says_so(folder: Path, tmp_path: Path) -> None:
    """Also with traffic under that clock, also after a restart, also when it is right again."""
    keys = tmp_path / "capture.keys"
    people = KeyRing(keys).all_of("alice")

    reports = [run(folder, NOW + YEARS_S + turn * TURN_S) for turn in range(3)]
    filled(folder, "r3", now=NOW + YEARS_S)
    later = run(folder, NOW + YEARS_S + DAY_S)
    right = run(folder, NOW + DAY_S)

    assert [(report.expired, report.held) for report in (*reports, later, right)] == [(0, 1)] * 4 + [(0, 0)]
    assert ids(folder) == {"r1", "r2", "r3"}
    assert people <= KeyRing(keys).all_of("alice")
    with LabelStore.opened(folder / LABELS_DB) as store:
        assert store.count(["r1"]) == 1


def test_a_clock_that_goes_on_for_days_is_believed(folder: Path) -> None:
    """A service that was switched off for months: what is too old goes, three days late."""
    back = NOW + 60 * DAY_S
    turns = [back + turn * DOUBT_S / 8 for turn in range(9)]

    held = [run(folder, now) for now in turns[:-1]]
    assert ids(folder) == {"r1", "r2"}
    last = run(folder, turns[-1])

    assert all(report.held == 1 for report in held)
    assert (last.expired, last.held) == (1, 0)
    assert ids(folder) == set()


def test_who_looks_at_a_calendar_can_say_that_the_clock_is_right(folder: Path) -> None:
    report = run(folder, NOW + 60 * DAY_S, trust_clock=True)

    assert (report.expired, report.held) == (1, 0)
    assert run(folder, NOW + 60 * DAY_S + TURN_S).held == 0


def test_a_clock_that_was_behind_and_is_set_right_ages_nothing_at_once(tmp_path: Path) -> None:
    """A machine that starts in 1970 and asks for the time afterwards."""
    folder = filled(tmp_path / "capture", "r1", now=1_000.0)
    run(folder, 2_000.0)

    report = run(folder, NOW)

    assert (report.expired, report.held) == (0, 1)


def test_the_first_run_has_the_newest_part_to_compare_with(folder: Path) -> None:
    (folder / "clock").write_bytes(b"not ours")

    report = run(folder, NOW + YEARS_S)

    assert (report.expired, report.held) == (0, 1)


def test_within_a_week_and_from_run_to_run_time_passes_as_it_does() -> None:
    marks = [ClockMark(believed_s=NOW)]
    for turn in range(1, 100):
        marks.append(followed(marks[-1], NOW + turn * JUMP_S))

    assert marks == [ClockMark(believed_s=NOW + turn * JUMP_S) for turn in range(100)]


def test_a_clock_that_jumps_again_and_again_is_never_believed() -> None:
    mark = ClockMark(believed_s=NOW)
    for turn in range(1, 100):
        mark = followed(mark, NOW + turn * YEARS_S)

    assert mark.believed_s == NOW
    assert mark.age_s == NOW


@pytest.mark.needs("faketime")
def test_a_real_process_under_a_clock_that_is_years_ahead_keeps_what_it_finds(tmp_path: Path) -> None:
    folder = filled(tmp_path / "capture", "r1", now=time.time())
    command = [sys.executable, "-m", "slipway_signals.capture.compact", str(folder)]
    subprocess.run(command, capture_output=True, check=True)

    ahead = subprocess.run(["faketime", "-f", "+3y", *command], capture_output=True, text=True, check=False)
    right = subprocess.run(command, capture_output=True, text=True, check=True)
    trusted = subprocess.run(
        ["faketime", "-f", "+3y", *command, "--trust-clock"], capture_output=True, text=True, env=os.environ, check=True
    )

    assert ahead.returncode == 1
    assert json.loads(ahead.stdout)["held"] == 1
    assert "the clock has moved by more than a week" in ahead.stderr
    assert json.loads(right.stdout)["expired"] == 0
    assert json.loads(trusted.stdout)["expired"] == 1
