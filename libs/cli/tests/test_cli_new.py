"""`slipway new`: names, places, and a copy that works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import CHURN, ROOT, Slipway

from slipway_cli.template import files_of, find_workspace, renamed


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty repository of the same shape."""
    root = tmp_path / "company"
    (root / "services").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["libs/*", "services/*"]\n')
    return root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from churn_service.service import service", "from credit_risk_service.service import service"),
        ('name = "churn-service"', 'name = "credit-risk-service"'),
        ("model/churn.ubj", "model/credit_risk.ubj"),
        ('Service("churn")', 'Service("credit_risk")'),
        ("churn_probability", "credit_risk_probability"),
        ('"""Churn: how likely', '"""Credit risk: how likely'),
        ("tests/test_churn_service.py", "tests/test_credit_risk_service.py"),
    ],
)
def test_every_form_of_the_name_becomes_the_same_form_of_the_new_one(text: str, expected: str) -> None:
    assert renamed(text, "churn", "credit-risk") == expected


@pytest.mark.parametrize(
    "name", ["", "Fraud", "9lives", "a--b", "a_", "-a", "a/b", "..", "class", "match", "a" * 41, "é", "a b", "tests"]
)
def test_a_name_that_cannot_be_a_package_is_refused(slipway: Slipway, tmp_path: Path, name: str) -> None:
    said = slipway("new", "--into", tmp_path, "--json", "--", name)

    assert said.status == 2
    assert [path.name for path in tmp_path.iterdir()] == []


def test_an_existing_folder_is_never_touched(slipway: Slipway, tmp_path: Path) -> None:
    (tmp_path / "fraud").mkdir()

    said = slipway("new", "fraud", "--into", tmp_path, "--json")

    assert said.status == 2
    assert said.document["error"]["code"] == "folder_taken"
    assert list((tmp_path / "fraud").iterdir()) == []


def test_a_folder_that_is_no_service_cannot_be_copied(slipway: Slipway, tmp_path: Path) -> None:
    said = slipway("new", "fraud", "--from", tmp_path, "--into", tmp_path, "--json")

    assert said.document["error"]["code"] == "template_missing"


def test_inside_a_workspace_it_becomes_a_member(
    slipway: Slipway, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)

    said = slipway("new", "fraud", "--from", CHURN, "--json")

    made = workspace / "services" / "fraud"
    assert said.document["folder"] == str(made)
    assert said.document["is_member"] is True
    assert "slipway-serve = { workspace = true }" in (made / "pyproject.toml").read_text("utf-8")
    assert not (made / "requirements.lock").exists()


def test_outside_it_brings_its_lock_and_finds_the_libraries(slipway: Slipway, tmp_path: Path) -> None:
    slipway("new", "fraud", "--into", tmp_path)

    project = (tmp_path / "fraud" / "pyproject.toml").read_text("utf-8")
    assert f'slipway-serve = {{ path = "{ROOT}/libs/serve", editable = true }}' in project
    assert (tmp_path / "fraud" / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes()


def test_no_word_of_the_template_and_no_model_remains(slipway: Slipway, tmp_path: Path) -> None:
    said = slipway("new", "credit-risk", "--into", tmp_path, "--json")

    made = tmp_path / "credit-risk"
    texts = {file: (made / file).read_text("utf-8") for file in said.document["files"] if file != "requirements.lock"}
    assert said.document["service"] == "credit_risk"
    assert "src/credit_risk_service/service.py" in texts
    assert len(texts) == len(files_of(CHURN))
    assert not [file for file, text in texts.items() if "churn_service" in text or "churn-service" in text]
    assert not (made / "model").exists()


def test_the_repository_is_found_from_a_folder_inside_it() -> None:
    assert find_workspace(CHURN / "src") == ROOT


@pytest.mark.slow
def test_the_tests_of_a_new_service_pass_where_nothing_of_it_is_installed(slipway: Slipway, tmp_path: Path) -> None:
    said = slipway("new", "credit-risk", "--into", tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", said.out.strip()],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
