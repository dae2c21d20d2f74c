"""The checks that keep the rooms apart do catch what they are for: each contract is broken once, in a copy."""

import shutil
import subprocess
import sys
from pathlib import Path

import check_isolated
import pytest
import workspace
from house_files import ROOT

MEMBERS = {member.package: member for member in workspace.members() if member.package}
LINTER = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for member in MEMBERS.values():
        shutil.copytree(ROOT / member.folder / "src", tmp_path, dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("slipway_bundle/digest.py", "import slipway_serve", "imports go one way"),
        ("slipway_runtime/queue.py", "import slipway_signals", "siblings do not see each other"),
        ("slipway_cli/main.py", "import litestar", "only serve knows the HTTP framework"),
        ("slipway_serve/app.py", "import pandas", "heavy or patching packages"),
        ("slipway_runtime/batching.py", "import time", "decisions are pure"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / module
    path.write_text(f"{path.read_text()}\n{line}\n")

    run = _lint(copy)

    broken = [printed for printed in run.stdout.splitlines() if "BROKEN" in printed]
    assert run.returncode == 1
    assert any(contract in printed for printed in broken)


@pytest.mark.slow
def test_the_contracts_hold_where_nothing_was_broken(copy: Path) -> None:
    run = _lint(copy)

    assert "0 broken" in run.stdout
    assert run.returncode == 0


@pytest.mark.parametrize(
    "line", ["import rich", "def late() -> None:\n    from rich import table"], ids=["at the top", "lazy"]
)
def test_an_import_that_nobody_declared_is_found(tmp_path: Path, line: str) -> None:
    """`rich` is installed here, because the command line declares it; the bundle room does not."""
    member = MEMBERS["slipway_bundle"]
    package = tmp_path / member.folder / "src" / "slipway_bundle"
    package.mkdir(parents=True)
    (package / "late.py").write_text(f'"""A module."""\n\n{line}\n')

    problems = list(check_isolated.undeclared(tmp_path, member, {"rich": ["rich"]}))

    assert problems
    assert "imports 'rich', which libs/bundle/pyproject.toml does not declare" in problems[0]


def test_importing_the_libraries_starts_no_framework() -> None:
    """Runner processes import these; a web framework or a model library there costs seconds and megabytes."""
    libraries = "slipway_bundle, slipway_runtime, slipway_signals, slipway_serve"
    script = f"import sys, {libraries}; print(*sorted({{n.partition('.')[0] for n in sys.modules}}))"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {"litestar", "uvicorn", "xgboost", "sklearn", "onnxruntime", "pandas"}.isdisjoint(run.stdout.split())


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINTER, "--no-cache"]
    environment = {"PYTHONPATH": str(folder), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
