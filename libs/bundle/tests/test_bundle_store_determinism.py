"""The same content has the same digests whoever packs it, where, when and in which order."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_fakes import in_child, pack_folder

NOBODY = 65534

PACK = """
import os, sys
from pathlib import Path
tests, source, target, order, umask = sys.argv[1:]
os.umask(int(umask, 8))
sys.path.insert(0, tests)
from store_fakes import pack_folder
sys.stdout.buffer.write(pack_folder(Path(source), Path(target), backwards=order == "backwards").encode())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        write_source(Path(name) / "source")
        yield Path(name)


def write_source(source: Path, *, backwards: bool = False) -> None:
    content = {"b.py": b"b", "a/ä.json": b"{}", "a/Z": b"z" * 70_000, "run": b"#!/bin/sh", "m.bin": bytes(1 << 20)}
    for name, data in sorted(content.items(), reverse=backwards):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
        (source / name).chmod(0o755 if name == "run" else 0o644)


def packed(folder: Path, name: str, *, order: str = "forwards", umask: str = "022", **environment: str) -> bytes:
    """Pack in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-B", "-c", PACK, Path(__file__).parent, "source", folder / f"store-{name}", order, umask],
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def test_environment_order_and_umask_leave_no_trace(folder: Path) -> None:
    expected = packed(folder, "plain", PYTHONHASHSEED="0", TZ="UTC", LANG="C.UTF-8")

    assert packed(folder, "seed", PYTHONHASHSEED="12345") == expected
    assert (
        packed(folder, "zone", TZ="Pacific/Kiritimati", LANG="tr_TR.UTF-8", LC_ALL="C", order="backwards") == expected
    )
    assert packed(folder, "umask", umask="077", HOME="/nowhere", USER="somebody") == expected


def test_times_modes_folder_and_order_of_the_files_leave_no_trace(folder: Path) -> None:
    expected = packed(folder, "plain")
    elsewhere = folder / "else/where"
    write_source(elsewhere / "source", backwards=True)
    for number, path in enumerate(elsewhere.rglob("*")):
        path.chmod(0o700 if path.is_dir() or path.name == "run" else 0o600)
        os.utime(path, (number, number))

    assert packed(elsewhere, "moved") == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_user_leaves_no_trace(folder: Path) -> None:
    """A fork that becomes another user, because that user may not be able to start this interpreter."""
    expected = pack_folder(folder / "source", folder / "store-root", backwards=False)
    (folder / "theirs").mkdir()
    for path in (folder / "theirs", *(folder / "source").rglob("*")):
        os.chown(path, NOBODY, NOBODY)

    def pack() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        found = pack_folder(folder / "source", folder / "theirs/store", backwards=True)
        assert found == expected

    assert in_child(pack) == 0
