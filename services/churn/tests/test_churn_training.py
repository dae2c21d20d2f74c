"""What `train.py` promises: the same bytes on every run, and examples that are committed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_trainings_write_the_same_bytes(trained: Path, folder: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, folder / "train.py", tmp_path], check=True, timeout=60)

    assert set(files_of(tmp_path)) == {
        *("model/churn.ubj", "model/lineage.json", "model/reference.json"),
        "golden.jsonl",
    }
    assert files_of(tmp_path) == files_of(trained)


def test_the_committed_golden_examples_are_those_of_training(trained: Path, folder: Path) -> None:
    assert (trained / "golden.jsonl").read_bytes() == (folder / "golden.jsonl").read_bytes()


def test_lineage_names_the_synthetic_data_and_the_metrics(trained: Path) -> None:
    lineage = json.loads((trained / "model" / "lineage.json").read_bytes())

    assert lineage["datasets"][0]["uri"].startswith("synthetic:")
    assert lineage["metrics"]["auc"] == pytest.approx(0.8, abs=0.02)
    assert lineage["metrics"]["train_rows"] == 15_000
