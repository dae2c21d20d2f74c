"""The same inputs give the same digest: one test for each thing that two machines differ in."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle_fakes import BUILD, Shelf, Trained, finish, start_build, write_folder

from slipway_bundle.build import build
from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle


@pytest.fixture
def expected(shelf: Shelf) -> str:
    """The digest of an ordinary build in this process."""
    return shelf.built.digest


@pytest.mark.parametrize(
    "environ",
    [
        {"TZ": "Pacific/Kiritimati"},
        {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"},
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"},
        {"PYTHONHASHSEED": "1"},
        {"PYTHONHASHSEED": "4711"},
        {"HOME": "/nowhere", "USER": "somebody"},
        {"OMP_NUM_THREADS": "1"},
        {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "20"},
    ],
    ids=lambda environ: ",".join(f"{key}={value}" for key, value in environ.items()),
)
def test_the_digest_does_not_depend_on_the_environment(
    folder: Path, store: Store, expected: str, environ: dict[str, str]
) -> None:
    assert finish(start_build(folder, store.root, environ=environ)) == expected


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_digest_does_not_depend_on_the_umask(
    tmp_path: Path, store: Store, trained: Trained, expected: str, umask: int
) -> None:
    before = os.umask(umask)
    try:
        folder = write_folder(tmp_path / "tiny", trained)
    finally:
        os.umask(before)

    assert finish(start_build(folder, store.root, umask=umask)) == expected


def test_the_digest_does_not_depend_on_group_and_other_modes(folder: Path, store: Store, expected: str) -> None:
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() or path.suffix == ".sh" else 0o600)

    assert build(folder, store, environ={}).digest == expected


@pytest.fixture
def open_folder_of_nobody(trained: Trained) -> Iterator[Path]:
    """A place that user 65534 owns; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as root:
        write_folder(Path(root) / "tiny", trained)
        for path in (Path(root), *Path(root).rglob("*")):
            os.chown(path, 65534, 65534)
        yield Path(root)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.needs("setpriv")
def test_the_digest_does_not_depend_on_the_user(open_folder_of_nobody: Path, expected: str) -> None:
    root = open_folder_of_nobody
    # The interpreter of a developer may be in a closed home: reading it is allowed, being its owner is not.
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    other += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    command = [*other, sys.executable, "-c", BUILD, str(root / "tiny"), str(root / "store")]

    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)

    assert done.stdout.strip() == expected
    assert (root / "store" / "index.json").stat().st_uid == 65534


def test_the_digest_does_not_depend_on_the_order_of_the_disk(
    tmp_path: Path, store: Store, trained: Trained, expected: str
) -> None:
    folder = write_folder(tmp_path / "backwards", trained, is_reversed=True)

    assert build(folder, store, environ={}).digest == expected


def test_the_digest_does_not_depend_on_times(folder: Path, store: Store, expected: str) -> None:
    for number, path in enumerate(folder.rglob("*")):
        os.utime(path, (number, 10_000 * number))

    assert build(folder, store, environ={}).digest == expected


def test_the_digest_does_not_depend_on_where_it_is_built_from(
    tmp_path: Path, folder: Path, store: Store, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    assert build(Path(), store, environ={}).digest == expected
    assert build(Path("src/.."), Store.open(tmp_path / "other"), environ={}).digest == expected


def test_the_digest_does_not_depend_on_the_path_of_the_folder(
    tmp_path: Path, store: Store, trained: Trained, expected: str
) -> None:
    folder = write_folder(tmp_path / "a place" / "with spaces and ümläuts" / "x", trained)
    link = tmp_path / "link"
    link.symlink_to(folder)

    assert build(folder, store, environ={}).digest == expected
    assert build(link, Store.open(tmp_path / "other"), environ={}).digest == expected


def test_the_digest_does_not_depend_on_leftovers(folder: Path, store: Store, expected: str) -> None:
    for leftover in ("src/tiny_service/__pycache__/service.cpython-311.pyc", "src/.DS_Store", "notes.txt", "src/.env"):
        (folder / leftover).parent.mkdir(exist_ok=True)
        (folder / leftover).write_bytes(b"leftover")

    assert build(folder, store, environ={}).digest == expected


def test_the_digest_does_not_depend_on_what_else_is_in_the_store(
    tmp_path: Path, folder: Path, store: Store, expected: str, trained: Trained
) -> None:
    other = write_folder(tmp_path / "other", trained)
    (other / "src" / "tiny_service" / "more.py").write_text("x = 1\n")
    build(other, store, environ={})

    assert build(folder, store, environ={}).digest == expected


def test_an_epoch_is_part_of_the_bundle_and_not_of_its_content(folder: Path, tmp_path: Path, expected: str) -> None:
    epochs = ("1000000000", "1000000000", "2000000000")

    built = [
        build(folder, Store.open(tmp_path / str(number)), environ={"SOURCE_DATE_EPOCH": epoch})
        for number, epoch in enumerate(epochs)
    ]

    assert built[0].digest == built[1].digest
    assert len({expected, built[0].digest, built[2].digest}) == 3
    assert len({one.content_digest for one in built}) == 1


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    dates = {"GIT_AUTHOR_DATE": "2026-01-02T03:04:05+09:00", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+09:00"}
    subprocess.run(
        ["git", *settings, "-C", str(folder), *arguments], check=True, capture_output=True, env=os.environ | dates
    )


@pytest.fixture
def repository(folder: Path) -> Path:
    (folder / ".gitignore").write_text("model/\n")
    git(folder, "init", "--quiet")
    git(folder, "remote", "add", "origin", "https://user:token@example.org/tiny.git")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "tiny")
    return folder


def test_in_git_a_bundle_has_the_commit_its_time_and_no_credentials(repository: Path, store: Store) -> None:
    built = build(repository, store, environ={})

    manifest = read_bundle(store, built.ref).manifest
    assert manifest.source is not None
    assert built.version == f"g{manifest.source.commit[:7]}-{built.content_digest[7:19]}"
    assert manifest.created == "2026-01-01T18:04:05Z"
    assert manifest.source.url == "https://example.org/tiny.git"
    assert not manifest.source.dirty


def test_a_clone_gives_the_same_digest(tmp_path: Path, repository: Path, store: Store) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(repository), str(clone)], check=True)
    git(clone, "remote", "set-url", "origin", "https://other:secret@example.org/tiny.git")
    shutil.copytree(repository / "model", clone / "model")

    first = build(repository, store, environ={})
    second = build(clone, Store.open(tmp_path / "other"), environ={})

    assert second.digest == first.digest


def test_a_changed_working_tree_is_called_dirty(repository: Path, store: Store) -> None:
    (repository / "src" / "tiny_service" / "new.py").write_text("x = 1\n")

    built = build(repository, store, environ={})

    assert built.version.endswith("-dirty")
