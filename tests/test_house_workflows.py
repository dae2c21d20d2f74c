"""The workflows: nothing wrong in them, nothing unsafe, and nothing that could not be run on a laptop."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from house_files import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = ROOT / ".tools" / "actionlint"
PINNED = re.compile(r"[\w-]+/[\w/-]+@[0-9a-f]{40}")
COMMAND = re.compile(r"make (?P<target>[a-z0-9]+)|sh (?P<script>scripts/[a-z_]+\.sh)\b|\.venv/bin/slipway \w+")


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_there_is_a_workflow_for_changes_releases_nights_and_drift() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"ci", "release", "nightly", "drift"}


def test_zizmor_finds_nothing_unsafe() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("zizmor"), "--offline", "--no-progress", "--color=never", ROOT / ".github"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert found.returncode == 0, found.stdout


@pytest.mark.e2e
@pytest.mark.skipif(not ACTIONLINT.exists(), reason="actionlint is not built: sh scripts/actionlint.sh")
def test_actionlint_finds_nothing_wrong() -> None:
    found = subprocess.run([ACTIONLINT, *WORKFLOWS], capture_output=True, text=True, timeout=60, check=False)

    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_command_of_a_workflow_runs_on_a_laptop_too(path: Path) -> None:
    """One line: a make target, a script of this repository, or a slipway verb."""
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for step in steps(path):
        if "run" in step:
            found = COMMAND.match(step["run"])
            assert found is not None, step["run"]
            assert "\n" not in step["run"].strip()
            assert found["target"] is None or found["target"] in targets
            assert found["script"] is None or (ROOT / found["script"]).exists()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_action_is_one_commit_and_not_a_tag_that_may_move(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]

    assert used
    assert all(PINNED.fullmatch(action) for action in used)
