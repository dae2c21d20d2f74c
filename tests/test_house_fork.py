"""A fork is a repository of its own: renamed everywhere, green, and still able to read everybody's bundles."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fork
import lock
import pytest
from house_files import ROOT, every_file

OLD = fork.Name(fork.OLD)
NEW = "beta" if fork.OLD == "acme" else "acme"  # this test also runs in the fork that it makes
NAMED_TESTS = ["libs/bundle", "tests", "-k", "house or manifest or config"]
"""The format and the house's rules: where a name could matter. Every other test of the fork is imported only."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a stranger clones it: committed, nothing installed."""
    folder = tmp_path_factory.mktemp("original")
    for path in every_file():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    _git(folder, "init", "-q")
    _git(folder, "add", "-A")
    _git(folder, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-q", "-m", "start")
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A clone of it, to be changed."""
    folder = tmp_path / "a company's repository"
    _git(tmp_path, "clone", "-q", str(original), str(folder))
    return folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import slipway_bundle", "import acme_ml_bundle"),
        ("slipway-bundle>=1", "acme-ml-bundle>=1"),
        ("`slipway serve`", "`acme-ml serve`"),
        ("SLIPWAY_HOME", "ACME_ML_HOME"),
        ("class SlipwayError", "class AcmeMlError"),
        ("slipway_requests_total", "acme_ml_requests_total"),
        ("slipway:availability:ratio", "acme_ml:availability:ratio"),
        ("slipway: a platform", "acme-ml: a platform"),
        ("is_slipway", "is_acme_ml"),
    ],
)
def test_each_spelling_of_the_name_follows_its_use(before: str, after: str) -> None:
    assert fork.rename(before, OLD, fork.Name("acme-ml")) == (after, 1)


@pytest.mark.parametrize("text", ["application/vnd.slipway.manifest.v1+json", '"io.slipway.name"', "`slipway.json`"])
def test_what_a_stored_bundle_consists_of_keeps_its_name(text: str) -> None:
    assert fork.rename(text, OLD, fork.Name("acme")) == (text, 0)


@pytest.mark.parametrize("old", ["acme", "acme-ml"])
def test_a_fork_can_be_renamed_again(old: str) -> None:
    words = "slipway slipway-cli slipway_cli SLIPWAY_X SlipwayError"

    once, _ = fork.rename(words, OLD, fork.Name(old))
    twice, _ = fork.rename(once, fork.Name(old), fork.Name("beta"))

    assert twice == "beta beta-cli beta_cli BETA_X BetaError"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("slipway", "already called"),
        ("Acme", "cannot be used"),
        ("acme_ml", "cannot be used"),
        ("2fast", "cannot be used"),
        ("acme-", "cannot be used"),
        ("a" * 21, "cannot be used"),
        ("../x", "cannot be used"),
        ("slipway-two", "could not be told apart"),
        ("platform", "standard library"),
        ("numpy", "requirements.lock"),
        ("churn", "services/churn"),
        ("class", "a word of the language"),
    ],
)
def test_a_name_that_would_break_something_is_refused(name: str, reason: str) -> None:
    with pytest.raises(fork.Refused, match=re.escape(reason)):
        fork.check_name(name, ROOT)


def test_a_dirty_tree_is_refused_and_left_alone(copy: Path) -> None:
    (copy / "README.md").write_text("changed")

    run = _fork(copy, NEW)

    assert run.returncode == 2
    assert "1 files are changed and not committed" in run.stderr
    assert (copy / "libs/bundle/src/slipway_bundle").is_dir()


def test_a_dry_run_tells_and_changes_nothing(copy: Path) -> None:
    run = _fork(copy, NEW, "--dry-run")

    assert run.returncode == 0
    assert f"libs/bundle/src/slipway_bundle/__init__.py -> libs/bundle/src/{NEW}_bundle/__init__.py" in run.stdout
    assert _git(copy, "status", "--porcelain") == ""


def test_no_old_name_is_left_in_a_fork_and_a_second_run_is_refused(copy: Path) -> None:
    run = _fork(copy, NEW)
    again = _fork(copy, NEW)

    _git(copy, "add", "-A")
    left = [
        f"{path}: {line}"
        for path in _git(copy, "ls-files").splitlines()
        if not fork.HISTORY.fullmatch(path)
        for line in [path, *_lines(copy / path)]
        if fork.OLD in _without_kept(line).lower()
    ]
    assert run.returncode == 0
    assert left == []
    assert again.returncode == 2
    assert f"already called {NEW!r}" in again.stderr


@pytest.mark.slow
@pytest.mark.e2e
def test_a_name_of_two_words_leaves_every_python_file_readable(copy: Path) -> None:
    _fork(copy, f"{NEW}-ml")

    _git(copy, "add", "-A")
    sources = [copy / path for path in _git(copy, "ls-files", "*.py").splitlines()]
    assert [ast.parse(path.read_text()) for path in sources]
    assert (copy / f"libs/bundle/src/{NEW}_ml_bundle").is_dir()


@pytest.mark.slow
def test_a_longer_name_breaks_no_line_limit(copy: Path) -> None:
    """Judged by what changes: a line that is too long before the fork is not the fork's doing."""
    before = _too_long(copy)

    _fork(copy, "international")
    _run(copy, sys.executable, "-m", "ruff", "format", "--quiet", ".")

    assert _too_long(copy) <= before


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_fork_passes_its_own_checks_and_the_tests_that_know_its_name(copy: Path) -> None:
    """As a company would: fork, install from the lock, `make fix regen`, static checks, tests."""
    _fork(copy, NEW)
    _git(copy, "add", "-A")

    _run(copy, "sh", "scripts/setup.sh", "dev")
    _run(copy, ".venv/bin/ruff", "format", "--quiet", ".")
    _run(copy, ".venv/bin/ruff", "check", "--fix", "--quiet", ".")
    _run(copy, ".venv/bin/python", "scripts/regen.py")
    contracts = _run(copy, ".venv/bin/lint-imports", "--no-cache")
    locked = _run(copy, ".venv/bin/python", "scripts/check_lock.py")
    command = _run(copy, f".venv/bin/{NEW}", "--help")
    collected = _run(copy, ".venv/bin/python", "-m", "pytest", "-q", "--collect-only")
    tested = _run(copy, ".venv/bin/python", "-m", "pytest", "-q", "-x", "-m", "not slow and not e2e", *NAMED_TESTS)

    assert "0 broken" in contracts.stdout
    assert locked.stderr == ""
    assert NEW in command.stdout
    assert " tests collected" in collected.stdout
    assert " passed" in tested.stdout


def _fork(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["python3", "scripts/fork.py", *arguments]
    return subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{command} ended with {run.returncode}\n{run.stdout[-4000:]}\n{run.stderr[-4000:]}"
    return run


def _too_long(folder: Path) -> int:
    command = [sys.executable, "-m", "ruff", "check", "--select", "E501", "--output-format", "concise", "."]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return run.stdout.count("E501")


def _environment() -> dict[str, str]:
    """Ours without what this pytest run put in, and with the uv that is here already."""
    own = ("PYTEST", "VIRTUAL_ENV", "GIT_", "SLIPWAY_", "COV_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    uv = Path(lock.find_uv()).parent
    return kept | {"PATH": f"{uv}{os.pathsep}{os.environ['PATH']}"}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except UnicodeDecodeError:
        return []


def _without_kept(line: str) -> str:
    for word in fork.KEPT:
        line = line.replace(word, "")
    return line
