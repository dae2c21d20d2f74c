"""`slipway capture` and `slipway labels`: what a person types, sees and pipes."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
from cli_commands import Slipway
from msgspec import Struct

from slipway_bundle import Redact
from slipway_signals import Slots
from slipway_signals.capture import CaptureConfig, CapturedModel, CaptureLog, ModelCapture


class Row(Struct):
    amount: float
    note: Annotated[str, Redact("keep")] = ""


class Score(Struct):
    score: float


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three captured requests of two people, in a closed segment."""
    config = CaptureConfig(
        enabled=True, folder=str(tmp_path / "capture"), rate=1.0, models={"m": ModelCapture(score="score")}
    )
    slots, fd = Slots.create()
    os.close(fd)
    log = CaptureLog(config, [CapturedModel(name="m", version="1", takes=Row, gives=Score)], slots)
    for request, subject in (("r1", "alice"), ("r2", "alice"), ("r3", "bob")):
        log.offer("m", request, subject, Row(1.0, f"of {subject}"), Score(0.9), 200, 0.01, None, time.time())
    log.close(5.0)
    return tmp_path / "capture"


def test_compact_prints_how_many_requests_became_parquet(slipway: Slipway, folder: Path) -> None:
    said = slipway("capture", "compact", "--folder", str(folder))

    assert said.status == 0
    assert said.out == "3\n"
    assert "1 segment became 1 Parquet file" in said.err


def test_forget_prints_the_digest_of_its_receipt(slipway: Slipway, folder: Path) -> None:
    dry = slipway("capture", "forget", "--folder", str(folder), "--subject", "alice", "--dry-run")
    said = slipway("capture", "forget", "--folder", str(folder), "--subject", "alice")
    again = slipway("capture", "forget", "--folder", str(folder), "--subject", "alice", "--json")

    assert (dry.status, dry.out) == (0, "")
    assert "would take out 2 rows" in dry.err
    assert said.status == 0
    assert len(said.out.strip()) == 64
    assert said.out.strip() in "".join(path.read_text() for path in (folder / "receipts").iterdir())
    assert again.document["rows"] == 0
    assert "alice" not in said.out + said.err


def test_forget_says_where_it_did_not_look_and_looks_there_when_told(slipway: Slipway, folder: Path) -> None:
    subject = slipway("capture", "forget", "--folder", str(folder), "--subject", "carol", "--dry-run")
    text = slipway("capture", "forget", "--folder", str(folder), "--text", "OF ALICE", "--text", "x", "--dry-run")

    assert "inside longer texts, which features.note may hold: see `--text`" in subject.err
    assert "would take out 2 rows" in text.err
    assert "longer texts" not in text.err


@pytest.mark.needs("faketime")
def test_compact_under_a_wrong_clock_keeps_everything_and_says_why(folder: Path, slipway: Slipway) -> None:
    slipway("capture", "compact", "--folder", str(folder))
    command = [
        "faketime",
        "-f",
        "+3y",
        sys.executable,
        "-m",
        "slipway_cli",
        "capture",
        "compact",
        "--folder",
        str(folder),
    ]

    said = subprocess.run(command, capture_output=True, text=True, check=False)

    assert said.returncode == 1
    assert "1 file would be too old, and kept: the clock has moved" in said.stderr
    assert "--trust-clock" in said.stderr


def test_forget_without_a_name_is_wrong_usage(slipway: Slipway, folder: Path) -> None:
    said = slipway("capture", "forget", "--folder", str(folder))

    assert said.status == 2
    assert "expected either a subject, or a request, or texts" in said.err


@pytest.mark.parametrize("verb", [("capture", "compact"), ("capture", "forget", "--subject", "a")])
def test_a_folder_that_is_none_is_a_fault_of_the_machine(
    slipway: Slipway, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    said = slipway(*verb, "--folder", str(tmp_path))

    assert said.status == 3
    assert "is no capture folder" in said.err


def test_ingest_counts_the_good_lines_and_names_the_bad(slipway: Slipway, folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"request_id,label,observed_at\nr1,1,{time.time()}\nr2,maybe,{time.time()}\nr3,0,{time.time()}\n")

    said = slipway("labels", "ingest", "--folder", str(folder), str(labels))
    again = slipway("labels", "ingest", "--folder", str(folder), str(labels), "--json")

    assert said.status == 1
    assert said.out == "2\n"
    assert "3 lines: 2 new" in said.err
    assert f"{labels}:3: label 'maybe' is neither true nor false" in said.err
    assert again.document["again"] == 2
    assert again.document["cohorts"][0]["outcomes"] == {"tp": 1, "fp": 1}


def test_ingest_of_what_is_no_label_file_is_wrong_usage(slipway: Slipway, folder: Path, tmp_path: Path) -> None:
    said = slipway("labels", "ingest", "--folder", str(folder), str(tmp_path / "labels.txt"))

    assert said.status == 2
    assert "expected one of .csv, .jsonl, .ndjson, .parquet" in said.err
