"""The environment of a bundle: cut out of the nearest lock, following the workspace, and compared with this machine."""

import importlib.metadata
from pathlib import Path

import pytest
from bundle_fakes import HASH
from packaging.requirements import Requirement

from slipway_bundle.environment import load_environment
from slipway_bundle.errors import ConfigError, LockError
from slipway_bundle.requirements import Difference, check_environment, format_lock, parse_lock

H = f"--hash=sha256:{HASH}"
LOCK = f"""\
# written by a test
alpha==1.0 \\
    {H}
    # via tiny-service (pyproject.toml)
beta==2.0 ; sys_platform == 'win32' \\
    {H}
    # via
    #   alpha
    #   gamma
delta==4.0 \\
    {H}
    # via gamma
gamma==3.0 \\
    {H}
    # via other
numpy==1.0 ; python_full_version < '3.0' \\
    {H}
    # via alpha
numpy==2.0 ; python_full_version >= '3.0' \\
    {H}
    # via alpha
"""
PROJECT = '[project]\nname = "tiny-service"\nversion = "0.1"\ndependencies = ["alpha"]\n'


def make(folder: Path, *, project: str = PROJECT, lock: str | None = LOCK) -> Path:
    service = folder / "services" / "tiny"
    service.mkdir(parents=True)
    (service / "pyproject.toml").write_text(project)
    (folder / ".git").mkdir()
    if lock is not None:
        (folder / "requirements.lock").write_text(lock)
    return service


def test_the_lock_of_a_bundle_is_the_closure_of_the_service_with_hashes_and_markers(tmp_path: Path) -> None:
    environment = load_environment(make(tmp_path))

    assert [(package.name, package.version) for package in environment.packages] == [
        ("alpha", "1.0"), ("beta", "2.0"), ("numpy", "1.0"), ("numpy", "2.0")
    ]  # fmt: skip
    assert environment.lock.startswith(f"alpha==1.0 \\\n    {H}\n    # via\n    #   tiny-service\n")
    assert 'beta==2.0 ; sys_platform == "win32"' in environment.lock
    assert "gamma" not in environment.lock


def test_the_lock_of_a_bundle_does_not_change_when_another_service_gets_a_package(tmp_path: Path) -> None:
    more = f"{LOCK}zeta==9.0 \\\n    {H}\n    # via gamma\n".replace(
        "    # via alpha\n", "    # via\n    #   alpha\n    #   zeta\n"
    )

    one = load_environment(make(tmp_path / "one"))
    other = load_environment(make(tmp_path / "other", lock=more))

    assert one.lock == other.lock


def test_a_lock_that_was_cut_out_is_a_lock(tmp_path: Path) -> None:
    environment = load_environment(make(tmp_path))

    assert format_lock(parse_lock(environment.lock, where="x")) == environment.lock


def test_workspace_members_are_followed_through_their_own_projects_and_extras(tmp_path: Path) -> None:
    service = make(
        tmp_path,
        project='[project]\nname = "tiny-service"\ndependencies = ["my-lib[fast]"]\n'
        "[tool.uv.sources]\nmy-lib = { workspace = true }\n",
    )
    library = tmp_path / "libs" / "mine"
    library.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "root"\n[tool.uv.workspace]\nmembers = ["libs/*", "services/*"]\n'
    )
    (library / "pyproject.toml").write_text(
        '[project]\nname = "My.Lib"\nversion = "3"\ndependencies = ["delta"]\n'
        '[project.optional-dependencies]\nfast = ["alpha"]\nslow = ["gamma"]\n'
    )

    environment = load_environment(service)

    assert {package.name for package in environment.packages} == {"alpha", "beta", "delta", "numpy"}
    assert [(member.name, member.version) for member in environment.members] == [("my-lib", "3"), ("tiny-service", "0")]


def test_an_installed_package_that_came_from_a_folder_is_followed_through_its_metadata(tmp_path: Path) -> None:
    declared = map(Requirement, importlib.metadata.requires("slipway-bundle") or ())
    needed = sorted(each.name for each in declared if each.marker is None)
    lock = "".join(f"{name}==1000 \\\n    {H}\n    # via slipway-bundle\n" for name in needed)
    service = make(tmp_path, project=PROJECT.replace("alpha", "slipway-bundle"), lock=lock)

    environment = load_environment(service)

    assert [package.name for package in environment.packages] == needed
    assert [member.name for member in environment.members] == ["slipway-bundle", "tiny-service"]


def test_no_lock_is_an_error_that_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"no requirements\.lock") as caught:
        load_environment(make(tmp_path, lock=None))

    assert "make lock" in (caught.value.hint or "")


def test_a_dependency_that_is_not_in_the_lock_is_an_error_that_names_it(tmp_path: Path) -> None:
    service = make(tmp_path, project=PROJECT.replace("alpha", "omega"))

    with pytest.raises(LockError, match="dependency 'omega' of tiny-service is not in the lock") as caught:
        load_environment(service)

    assert "make lock" in (caught.value.hint or "")


def test_a_lock_that_is_older_than_its_inputs_is_an_error(tmp_path: Path) -> None:
    service = make(tmp_path, project=PROJECT.replace("alpha", "alpha>=2"))

    with pytest.raises(LockError, match=r"it has alpha 1\.0, tiny-service wants alpha>=2"):
        load_environment(service)


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("alpha==1.0\n", "has no hash"),
        (f"alpha>=1.0 \\\n    {H}\n", "not pinned"),
        (f"alpha==1.* \\\n    {H}\n", "not pinned"),
        (f"alpha @ https://example.org/a.whl \\\n    {H}\n", "not pinned"),
        (f"-e ./libs/alpha \\\n    {H}\n", "not a pinned requirement"),
        (f"    {H}\n", "belongs to no requirement"),
    ],
)
def test_a_line_that_pins_nothing_is_an_error(lock: str, said: str) -> None:
    with pytest.raises(LockError, match=said):
        parse_lock(lock, where="requirements.lock")


def test_a_service_without_a_project_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pyproject\.toml"):
        load_environment(tmp_path)


def test_what_is_installed_is_compared_with_the_lock_on_this_platform() -> None:
    numpy = importlib.metadata.version("numpy")
    lock = (
        f"msgspec==0.0.1 \\\n    {H}\nno-such-package==1 \\\n    {H}\nnumpy=={numpy} \\\n    {H}\n"
        f"pywin32==1 ; sys_platform == 'win32' \\\n    {H}\n"
    )

    differences = check_environment(lock)

    assert differences == [
        Difference(name="msgspec", expected="0.0.1", got=importlib.metadata.version("msgspec")),
        Difference(name="no-such-package", expected="1", got=None),
    ]
