"""`make test` runs files beside each other; a test that judges time has the machine for itself all the same."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from house_files import ROOT

pytest.importorskip("xdist")

TESTS = """
import json, os, time
from pathlib import Path
import pytest

def note(alone):
    began = time.monotonic()
    while time.monotonic() < began + 0.1:
        os.sched_yield()
    with Path({notes!r}).open("a") as notes:
        notes.write(json.dumps([alone, began, time.monotonic()]) + chr(10))

@pytest.mark.parametrize("number", range(4))
def test_shared(number):
    note(False)

@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    note(True)
"""


def test_a_test_that_runs_alone_meets_no_other(tmp_path: Path) -> None:
    """Two processes, a file each: what is shared overlaps, so there are two indeed, and what is alone does not."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["alone", "slow"]\n')
    notes = tmp_path / "notes"
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text(TESTS.format(notes=str(notes)))
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-n", "2", "--dist", "loadfile", str(tmp_path)]

    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=_outside())

    assert run.returncode == 0, run.stdout + run.stderr
    spans = [json.loads(line) for line in notes.read_text().splitlines()]
    meetings = [
        (alone or other_alone)
        for number, (alone, began, ended) in enumerate(spans)
        for other_alone, other_began, other_ended in spans[:number]
        if began < other_ended and other_began < ended
    ]
    assert len(spans) == 12
    assert meetings
    assert not any(meetings)


def _outside() -> dict[str, str]:
    """Not as a part of the run that this test is in, and without plugins that are slow to import."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return rest | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
