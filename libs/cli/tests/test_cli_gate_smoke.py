"""`slipway gate smoke`: a candidate without traffic is compared with the bundle that it should be."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_commands import CHURN, Slipway
from gate_servers import Arm, arms
from monitoring import eventually

from slipway_bundle import Store

EXAMPLES = {
    json.dumps(line["input"], sort_keys=True): line["output"]
    for line in map(json.loads, (CHURN / "golden.jsonl").read_text().splitlines())
}


@pytest.fixture
def deployed(built_home: Path) -> str:
    """Churn by digest, where a layout is the registry."""
    store = Store.open(built_home / "store")
    return f"oci:{store.root}@{store.find('churn').digest}"


@pytest.fixture
def candidate(deployed: str) -> Iterator[Arm]:
    """A server that answers as churn's golden examples say."""
    with arms() as (_, arm):
        arm.bundle = deployed.partition("@")[2]
        arm.answer = lambda row: EXAMPLES[json.dumps(row, sort_keys=True)]
        yield arm


def test_a_candidate_that_is_its_bundle_passes(slipway: Slipway, candidate: Arm, deployed: str, home: Path) -> None:
    said = slipway("gate", "smoke", "--candidate", candidate.url, "--candidate-bundle", deployed, "--json")

    probes = {one["name"]: one["status"] for one in said.document["probes"]}
    assert said.status == 0, said.out
    assert said.document["result"] == "ok"
    assert probes == {"interface": "skipped", "golden": "ok", "identity": "ok", "metrics": "skipped"}
    assert candidate.asked == len(EXAMPLES)
    assert all("x-slipway-synthetic" in headers for headers in candidate.headers_seen)
    assert not home.exists()


def test_one_wrong_answer_is_a_failure(slipway: Slipway, candidate: Arm, deployed: str) -> None:
    candidate.answer = lambda _row: {"churn_probability": 0.5}

    said = slipway("gate", "smoke", "--candidate", candidate.url, "--candidate-bundle", deployed)

    assert (said.status, said.out) == (1, "failed\n")
    assert "golden example 1 of 'churn': `$.churn_probability` got 0.5" in said.err


def test_another_bundle_is_found_out(slipway: Slipway, candidate: Arm, deployed: str) -> None:
    """Right answers, of a pod that was not changed."""
    candidate.bundle = f"sha256:{'a' * 64}"

    said = slipway("gate", "smoke", "--candidate", candidate.url, "--candidate-bundle", deployed)

    assert said.status == 1
    assert f"candidate says {candidate.bundle}, expected sha256:" in said.err


def test_an_admin_port_that_does_not_answer_is_a_failure(slipway: Slipway, candidate: Arm, deployed: str) -> None:
    words = ("--candidate", candidate.url, "--candidate-admin", "http://127.0.0.1:1", "--candidate-bundle", deployed)

    said = slipway("gate", "smoke", *words)

    assert said.status == 1
    assert "the admin port does not answer" in said.err


def test_a_tag_is_refused_before_anything_is_asked(slipway: Slipway, candidate: Arm) -> None:
    said = slipway("gate", "smoke", "--candidate", candidate.url, "--candidate-bundle", "localhost:5000/churn:1.0.0")

    assert said.status == 2
    assert "names no digest" in said.err
    assert candidate.asked == 0


def test_a_candidate_that_is_not_there_is_waited_for_no_longer_than_was_said(slipway: Slipway, deployed: str) -> None:
    words = ("--candidate", "http://127.0.0.1:1", "--candidate-bundle", deployed, "--ready-s", "0", "--json")

    said = slipway("gate", "smoke", *words)

    assert said.status == 3
    assert said.document["error"]["code"] == "arm_unreachable"
    assert "was not ready in 0 s" in said.document["error"]["message"]


def test_everything_that_is_written_is_in_the_work_folder_and_goes(
    slipway: Slipway, candidate: Arm, deployed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other place is writable in a pod: a default that cannot be used is not touched."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    words = ("--candidate", candidate.url, "--candidate-bundle", deployed)

    without = slipway("gate", "smoke", *words, "--json")
    within = slipway("gate", "smoke", *words, "--work", tmp_path / "work")

    assert without.status == 3
    assert without.document["error"]["code"] == "file_unreadable"
    assert "--work FOLDER" in without.document["error"]["hint"]
    assert within.status == 0, within.err
    assert list((tmp_path / "work").iterdir()) == []
    assert tempfile.tempdir == str(tmp_path / "nowhere")


def test_what_a_killed_job_left_goes_when_the_next_one_starts(
    slipway: Slipway, candidate: Arm, deployed: str, tmp_path: Path
) -> None:
    """And nothing of a Job that lives, nor what a link of that name points to."""
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    words = ("gate", "smoke", "--candidate-bundle", deployed, "--work", str(work))
    with waiting(words, work) as living:
        with waiting(words, work) as killed:
            pass
        (work / "slipway-work-link").symlink_to(elsewhere)
        for folder in (killed, living, work / "slipway-work-link"):
            os.utime(folder, (0, 0), follow_symlinks=False)
        left = killed.exists()

        said = slipway(*words, "--candidate", candidate.url)

        assert said.status == 0, said.err
        assert left
        assert not killed.exists()
        assert living.is_dir()
    assert (elsewhere / "kept").exists()


@contextmanager
def waiting(words: Sequence[str], work: Path) -> Iterator[Path]:
    """The folder of a Job that waits for a candidate; it is killed at the end."""
    before = set(work.glob("*/documents"))
    command = [sys.executable, "-P", "-m", "slipway_cli", *words, "--candidate", "http://127.0.0.1:1"]
    job = subprocess.Popen([*command, "--ready-s", "600"])
    try:
        assert eventually(lambda: set(work.glob("*/documents")) != before, 30)
        (documents,) = set(work.glob("*/documents")) - before
        yield documents.parent
    finally:
        job.kill()
        job.wait()
