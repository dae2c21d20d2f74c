"""What the workspace is made of: its members, what each declares, and the pins of the one lock.

Does not resolve, install or write anything: `lock.py` writes the lock, `check_lock.py` judges it.
Invariant: everything here is a function of files under the given root; paths in results are relative to it.
Stdlib only, because `fork.py` runs before anything is installed.
"""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"
DIGEST_LINE = "# inputs: sha256:"


@dataclass(frozen=True)
class Member:
    """One project of the workspace: a library, a service, or the root (which has no package)."""

    name: str
    folder: str
    """relative to the root, `.` for the root itself"""
    package: str | None
    """import name: the folder under `src/`"""
    sections: dict[str, tuple[str, ...]]
    """requirement strings by where they stand: `dependencies`, `extra NAME`, `group NAME`, `build`"""
    constraints: tuple[str, ...] = ()
    requires_python: str = ""

    @property
    def pyproject(self) -> str:
        """Path of its `pyproject.toml`, relative to the root."""
        return "pyproject.toml" if self.folder == "." else f"{self.folder}/pyproject.toml"

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of its extras, in file order."""
        return tuple(key.removeprefix("extra ") for key in self.sections if key.startswith("extra "))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its dependency groups, in file order."""
        return tuple(key.removeprefix("group ") for key in self.sections if key.startswith("group "))


@dataclass(frozen=True)
class Pin:
    """One entry of the lock; a name has two when its version depends on the Python version."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    line: int


def members(root: Path = ROOT) -> list[Member]:
    """Read the root and every folder that `[tool.uv.workspace] members` matches, sorted by path."""
    table = _toml(root / "pyproject.toml")
    globs = table["tool"]["uv"]["workspace"]["members"]
    folders = sorted({p.parent for glob in globs for p in root.glob(f"{glob}/pyproject.toml")})
    return [_member(root, root), *(_member(root, folder) for folder in folders)]


def input_digest(root: Path = ROOT) -> str:
    """Digest of all that the lock is computed from; formatting and tool settings do not count."""
    told = [[m.name, m.folder, m.requires_python, list(m.constraints), m.sections] for m in members(root)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def locked_digest(text: str) -> str | None:
    """Read the input digest that stands in the lock's header."""
    found = re.search(rf"^{re.escape(DIGEST_LINE)}([0-9a-f]{{64}})$", text, re.MULTILINE)
    return found and found[1]


def pins(text: str) -> list[Pin]:
    """Parse the lock's entries: `name==version ; marker` lines, each followed by `--hash` lines."""
    found: list[Pin] = []
    hashes: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = re.fullmatch(r"([a-z0-9][a-z0-9-]*)==(\S+)(?: ; (.+?))?(?: \\)?", line)
        if entry:
            hashes = []
            found.append(Pin(entry[1], entry[2], entry[3] or "", (), number))
        elif (sha := re.fullmatch(r" +--hash=(sha256:[0-9a-f]{64})(?: \\)?", line)) and found:
            hashes.append(sha[1])
            last = found[-1]
            found[-1] = Pin(last.name, last.version, last.marker, tuple(hashes), last.line)
    return found


def normalise(name: str) -> str:
    """Spell a distribution name the one way (PyPA names specification)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _member(root: Path, folder: Path) -> Member:
    table = _toml(folder / "pyproject.toml")
    project = table["project"]
    sections = {"dependencies": tuple(project.get("dependencies", ()))}
    sections |= {f"extra {key}": tuple(value) for key, value in project.get("optional-dependencies", {}).items()}
    sections |= {f"group {key}": tuple(value) for key, value in table.get("dependency-groups", {}).items()}
    sections |= {"build": tuple(table.get("build-system", {}).get("requires", ()))}
    packages = [p.parent.name for p in sorted(folder.glob("src/*/__init__.py"))]
    return Member(
        name=normalise(project["name"]),
        folder=folder.relative_to(root).as_posix(),
        package=packages[0] if packages else None,
        sections=sections,
        constraints=tuple(table.get("tool", {}).get("uv", {}).get("constraint-dependencies", ())),
        requires_python=project["requires-python"],
    )


def _toml(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)
