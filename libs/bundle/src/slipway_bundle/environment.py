"""What a service needs installed: its dependencies, read out of `pyproject.toml` files, cut out of the nearest lock.

It runs no resolver and imports nothing of the service. The invariant: the result depends on the declared dependencies
and the lock only, never on what happens to be installed; the one exception is a dependency that is in no lock because
it is installed from a folder (a fork of slipway beside a user's project), which is followed through its metadata.
"""

import importlib.metadata
import json
import tomllib
from pathlib import Path

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from slipway_bundle.errors import ConfigError, FileError, LockError
from slipway_bundle.manifest import Package
from slipway_bundle.requirements import Locked, closure, format_lock, parse_lock

__all__ = ["Environment", "load_environment"]

LOCK_NAME = "requirements.lock"
PROJECT_NAME = "pyproject.toml"
DEFAULT_PYTHON = ">=3.11"


class Environment(Struct, frozen=True, kw_only=True):
    """The environment of one service."""

    python: str
    """Version specifier of `requires-python`."""

    lock: str
    """Text of the lock: what the service needs and nothing else."""

    packages: tuple[Package, ...]
    members: tuple[Package, ...]
    """Packages of the workspace, the service itself included; not in the lock."""

    sources: tuple[Path, ...]
    """The files and folders that this was read from: the lock and each member's folder."""


class _Project(Struct, frozen=True, kw_only=True):
    """The parts of a `pyproject.toml` that say what it needs."""

    folder: Path | None
    name: str
    version: str
    python: str
    dependencies: tuple[str, ...]
    extras: dict[str, tuple[str, ...]]
    workspace: frozenset[str]
    """Dependencies that `[tool.uv.sources]` takes from the workspace."""


def load_environment(folder: Path) -> Environment:
    """The environment of the service in `folder`.

    Raises:
        LockError: There is no lock at or above the folder, or it lacks a dependency or holds an unwanted version.
        ConfigError: A `pyproject.toml` is missing or wrong.
    """
    project = _load_project(folder)
    lock_path = _find_above(folder, LOCK_NAME)
    if lock_path is None:
        raise LockError(
            f"no {LOCK_NAME} in {str(folder)!r} or a folder above it",
            hint="`make lock` writes it; outside this repository: `uv pip compile --universal --generate-hashes"
            f" {PROJECT_NAME} -o {LOCK_NAME}`",
        )
    locked = parse_lock(_read(lock_path), where=str(lock_path))
    by_name: dict[str, list[Locked]] = {}
    for block in locked:
        by_name.setdefault(block.name, []).append(block)
    walk = _Walk(members=_workspace_members(folder), locked=by_name, where=str(lock_path))
    walk.follow(project, frozenset())
    needed = closure(locked, {name: frozenset(asking) for name, asking in walk.roots.items()}, where=str(lock_path))
    folders = sorted({found.folder for found in walk.followed.values() if found.folder is not None})
    return Environment(
        python=project.python,
        lock=format_lock(needed),
        packages=tuple(Package(name=block.name, version=block.version, marker=block.marker) for block in needed),
        members=tuple(Package(name=name, version=walk.followed[name].version) for name in sorted(walk.followed)),
        sources=(lock_path, *folders),
    )


class _Walk:
    """Follows dependencies through the workspace and collects those that the lock must hold."""

    def __init__(self, *, members: dict[str, Path], locked: dict[str, list[Locked]], where: str) -> None:
        self._members = members
        self._locked = locked
        self._where = where
        self._seen: set[tuple[str, frozenset[str]]] = set()
        self.followed: dict[str, _Project] = {}
        self.roots: dict[str, set[str]] = {}

    def follow(self, project: _Project, extras: frozenset[str]) -> None:
        """Adds what `project` needs with these extras; each (project, extras) once, so cycles end."""
        if (project.name, extras) in self._seen:
            return
        self._seen.add((project.name, extras))
        self.followed[project.name] = project
        texts = [*project.dependencies, *(text for extra in sorted(extras) for text in project.extras.get(extra, ()))]
        for text in texts:
            self._add(_parse(text, project.name), project)

    def _add(self, requirement: Requirement, project: _Project) -> None:
        name = canonicalize_name(requirement.name)
        extras = frozenset(requirement.extras)
        if name == project.name:
            self.follow(project, extras)
        elif name in self._members and (name in project.workspace or name not in self._locked):
            self.follow(_load_project(self._members[name]), extras)
        elif name in self._locked:
            self._check_pins(name, requirement, project)
            self.roots.setdefault(name, set()).add(project.name)
        elif (installed := _installed_from_folder(name)) is not None:
            self.follow(installed, extras)
        else:
            self.roots.setdefault(name, set()).add(project.name)

    def _check_pins(self, name: str, requirement: Requirement, project: _Project) -> None:
        for block in self._locked[name]:
            if not requirement.specifier.contains(block.version, prereleases=True):
                raise LockError(
                    f"the lock {self._where!r} is older than its inputs: it has {name} {block.version}, "
                    f"{project.name} wants {requirement}",
                    hint="run `make lock`, then build again",
                    dependency=name,
                )


def _load_project(folder: Path) -> _Project:
    path = folder / PROJECT_NAME
    try:
        raw = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not TOML: {error}", path=str(path)) from error
    table = raw.get("project")
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ConfigError(f"{str(path)!r} has no `[project]` with a `name`", path=str(path))
    extras = table.get("optional-dependencies", {})
    sources = raw.get("tool", {}).get("uv", {}).get("sources", {})
    return _Project(
        folder=folder,
        name=canonicalize_name(table["name"]),
        version=str(table.get("version", "0")),
        python=str(table.get("requires-python", DEFAULT_PYTHON)),
        dependencies=tuple(map(str, table.get("dependencies", ()))),
        extras={str(extra): tuple(map(str, texts)) for extra, texts in extras.items()},
        workspace=frozenset(
            canonicalize_name(name)
            for name, source in sources.items()
            if isinstance(source, dict) and source.get("workspace") is True
        ),
    )


def _workspace_members(folder: Path) -> dict[str, Path]:
    """Normalised name -> folder of each member of the uv workspace around `folder`; empty without one."""
    for parent in (folder, *folder.resolve().parents):
        path = parent / PROJECT_NAME
        if not path.is_file():
            continue
        try:
            raw = tomllib.loads(_read(path))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{str(path)!r} is not TOML: {error}", path=str(path)) from error
        workspace = raw.get("tool", {}).get("uv", {}).get("workspace")
        if isinstance(workspace, dict):
            found = (match for glob in workspace.get("members", ()) for match in sorted(parent.glob(glob)))
            projects = (_load_project(match) for match in found if (match / PROJECT_NAME).is_file())
            return {project.name: project.folder for project in projects if project.folder is not None}
    return {}


def _installed_from_folder(name: str) -> _Project | None:
    """An installed package that came from a folder, not from an index, so that no lock can hold it (PEP 610)."""
    try:
        distribution = importlib.metadata.distribution(name)
        origin = json.loads(distribution.read_text("direct_url.json") or "null")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    if not isinstance(origin, dict) or "dir_info" not in origin:
        return None
    plain: list[str] = []
    extras: dict[str, list[str]] = {extra: [] for extra in distribution.metadata.get_all("Provides-Extra") or ()}
    for text in distribution.requires or ():
        requirement = _parse(text, name)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            plain.append(text)
            continue
        for extra, texts in extras.items():
            if marker.evaluate({"extra": extra}):
                texts.append(text)
    return _Project(
        folder=None,
        name=canonicalize_name(name),
        version=distribution.version,
        python=DEFAULT_PYTHON,
        dependencies=tuple(plain),
        extras={extra: tuple(texts) for extra, texts in extras.items()},
        workspace=frozenset(),
    )


def _parse(text: str, project: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError(f"{text!r} is not a requirement, in the dependencies of {project!r}: {error}") from error


def _find_above(folder: Path, name: str) -> Path | None:
    """The nearest file of that name at or above `folder`; the search ends at the root of a git repository."""
    resolved = folder.resolve()
    for parent in (resolved, *resolved.parents):
        if (parent / name).is_file():
            return parent / name
        if (parent / ".git").exists():
            return None
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no {path.name} in {str(path.parent)!r}",
            hint="a service folder has a `pyproject.toml` that names its dependencies",
            path=str(path),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
