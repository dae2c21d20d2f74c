"""The lock is complete, and forgetting any part of it is noticed."""

import re
import shutil
import subprocess
from pathlib import Path

import check_lock
import lock
import pytest
import workspace
from house_files import ROOT


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for member in workspace.members():
        (tmp_path / member.folder / "src").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / member.pyproject, tmp_path / member.pyproject)
    shutil.copy(ROOT / workspace.LOCK, tmp_path)
    return tmp_path


def test_the_lock_answers_every_pyproject() -> None:
    assert list(check_lock.check(ROOT)) == []


def test_an_untouched_copy_is_accepted(copy: Path) -> None:
    assert list(check_lock.check(copy)) == []


def test_a_new_dependency_without_a_new_lock_is_noticed(copy: Path) -> None:
    _edit(copy / "libs/bundle/pyproject.toml", "dependencies = [", 'dependencies = [ "bottle>=0",')

    problems = list(check_lock.check(copy))

    assert any("was made from other pyproject files" in problem for problem in problems)
    assert any("libs/bundle/pyproject.toml [dependencies] asks for 'bottle>=0', which is not in" in p for p in problems)


def test_a_pin_that_no_longer_fits_is_noticed(copy: Path) -> None:
    _edit(copy / "libs/bundle/pyproject.toml", '"msgspec>=', '"msgspec>=99, >=')

    assert any("asks for 'msgspec>=99" in problem for problem in check_lock.check(copy))


def test_an_extra_that_does_not_exist_is_noticed(copy: Path) -> None:
    _edit(copy / "services/churn/pyproject.toml", "slipway-bundle[xgboost", "slipway-bundle[catboost")

    assert any("asks for extra 'catboost' of slipway-bundle" in problem for problem in check_lock.check(copy))


def test_a_pin_without_hashes_is_noticed(copy: Path) -> None:
    path = copy / workspace.LOCK
    path.write_text(re.sub(r"(?m)^(msgspec==\S+) \\\n(    --hash=.*\n)+", r"\1\n", path.read_text()))

    assert any("pins msgspec without a hash" in problem for problem in check_lock.check(copy))


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://mirror.example/simple",
        "-e ./libs/bundle",
        "x @ https://mirror.example/x.whl",
        "./wheels/x.whl",
    ],
)
def test_an_index_a_path_or_a_url_has_no_place_in_the_lock(copy: Path, line: str) -> None:
    with (copy / workspace.LOCK).open("a") as file:
        file.write(f"{line}\n")

    assert any("must hold pins only" in problem for problem in check_lock.check(copy))


def test_tool_settings_do_not_ask_for_a_new_lock(copy: Path) -> None:
    _edit(copy / "pyproject.toml", "line-length = 120", "line-length = 100")

    assert list(check_lock.check(copy)) == []


def test_why_a_package_is_there_is_told_without_machine_paths() -> None:
    named = set(re.findall(r"^    #(?:   | via )(\S+ \(.+\))$", (ROOT / workspace.LOCK).read_text(), re.MULTILINE))
    own = {member.name: member.pyproject for member in workspace.members()}

    assert named
    for via in named - {"--override (workspace)", "-c (workspace)"}:
        name, path = via.removesuffix(")").split(" (")
        assert path.partition(":")[0] == own[name]


def test_tidying_names_a_member_once() -> None:
    member = workspace.Member("slipway-serve", "libs/serve", "slipway_serve", {})
    draft = "x==1 \\\n    # via\n    #   slipway-serve (libs/serve/pyproject.toml)\n    #   slipway-serve\n    #   y\n"

    tidied = lock.tidy(draft, [member], "0" * 64)

    assert tidied.endswith("    # via\n    #   slipway-serve (libs/serve/pyproject.toml)\n    #   y\n")


@pytest.mark.slow
@pytest.mark.parametrize("form", [["--constraints"], ["--no-deps", "--requirements"]], ids=["demo", "dev"])
def test_a_wrong_hash_stops_the_installation(tmp_path: Path, form: list[str]) -> None:
    """The two forms that `setup.sh` uses; that constraints are verified too is not obvious, so it is kept tested."""
    entry = re.search(r"(?m)^rfc8785==\S+ \\\n(    --hash=\S+( \\)?\n)+", (ROOT / workspace.LOCK).read_text())
    assert entry
    good, bad = tmp_path / "good.lock", tmp_path / "bad.lock"
    good.write_text(entry[0])
    bad.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, entry[0]))
    subprocess.run([lock.find_uv(), "venv", "-q", "env"], cwd=tmp_path, check=True)
    install = [
        lock.find_uv(),
        "pip",
        "install",
        "--python",
        "env",
        *([] if "--no-deps" in form else ["rfc8785"]),
        *form,
    ]

    refused = subprocess.run([*install, str(bad)], cwd=tmp_path, capture_output=True, text=True, check=False)
    accepted = subprocess.run([*install, str(good)], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "Hash mismatch" in refused.stderr
    assert refused.returncode != 0
    assert accepted.returncode == 0


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
