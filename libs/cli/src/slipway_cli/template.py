"""Copies a service under a new name: files, folders and the words inside them.

It imports nothing of the service and makes no environment. The invariants: the target appears whole or not at all (it
is made beside its place and renamed); nothing that training or a tool made is copied; the copied name is replaced in
every form in which it is written (`churn`, `Churn`, `churn_service`, `churn-service`).
"""

import keyword
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from msgspec import Struct

from slipway_cli.errors import FolderTakenError, NameInvalidError, TemplateMissingError

NAME: Final = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST: Final = 40
TEMPLATE: Final = Path("services") / "churn"
LOCK: Final = "requirements.lock"
MADE: Final = {"__pycache__", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".git", "uv.lock"}
"""What tools and environments leave behind; never copied."""

OUTPUTS: Final = "model"
"""What training leaves behind, directly in the service's folder; never copied."""

WORKSPACE_SOURCE: Final = re.compile(r"^(?P<name>slipway-[a-z]+) = \{ workspace = true \}$", re.MULTILINE)


class Made(Struct, frozen=True, kw_only=True):
    """What `slipway new` made; the object of `--json`."""

    service: str
    """The service's name in Python, in `slipway.toml` and in URLs."""

    folder: str
    source: str

    is_member: bool
    """Of the workspace around it; otherwise it has a lock of its own."""

    files: tuple[str, ...]
    """Relative to the folder, sorted."""


def copy_service(name: str, *, source: Path | None, into: Path | None, here: Path) -> Made:
    """Copies the service in `source` as `name`.

    Args:
        name: Lower-case letters, digits, single `-` or `_` between them.
        source: The service to copy; None looks for services/churn.
        into: The folder to make it in; None is services/ of the repository around `here`, else `here`.
        here: Where the search for a repository begins.

    Raises:
        NameInvalidError: `name` cannot be the name of a service.
        FolderTakenError: Something has that name already.
        TemplateMissingError: There is no service to copy.
    """
    check_name(name)
    source = find_template(here) if source is None else source.resolve()
    old = _service_name(source)
    workspace = find_workspace((into or here).resolve())
    if into is None:
        into = here if workspace is None else workspace / "services"
    target = (into / name).resolve()
    if target.exists() or target.is_symlink():
        raise FolderTakenError(f"{str(target)!r} is already there", hint="choose another name, or remove it")
    draft = target.with_name(f".{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    into.mkdir(parents=True, exist_ok=True)
    try:
        for path in files_of(source):
            copied = draft / renamed(path.relative_to(source).as_posix(), old, name)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(_content(path, old, name))
            copied.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        if workspace is None:
            _make_independent(draft, source)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sort_imports(target)
    files = tuple(sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()))
    return Made(
        service=name.replace("-", "_"),
        folder=str(target),
        source=str(source),
        is_member=workspace is not None,
        files=files,
    )


def check_name(name: str) -> None:
    """Raises NameInvalidError unless `name` can be a folder, a package, a bundle and a route at once."""
    hint = "for example 'fraud' or 'credit-risk'"
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise NameInvalidError(
            f"{name!r} cannot be the name of a service: expected at most {LONGEST} lower-case letters and digits, "
            "with single '-' or '_' between them, starting with a letter",
            hint=hint,
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in {"test", "tests", "slipway"}:
        raise NameInvalidError(f"{name!r} cannot be the name of a service: the word is taken", hint=hint)


def renamed(text: str, old: str, new: str) -> str:
    """`text` with every form of `old` as the same form of `new`; `old` is a service's name in Python."""
    slug, word = new.replace("_", "-"), new.replace("-", "_")
    title = slug.replace("-", " ").capitalize()
    old_slug = old.replace("_", "-")
    text = re.sub(rf"\b{re.escape(old_slug)}-(?=[a-z])", f"{slug}-", text)  # churn-service
    text = text.replace(old, word)
    return re.sub(rf"\b{re.escape(old_slug.replace('-', ' ').capitalize())}\b", title, text)


def files_of(folder: Path) -> list[Path]:
    """The files to copy, sorted; links are not followed and not copied."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    parts = {path: path.relative_to(folder).parts for path in found}
    return sorted(path for path in found if MADE.isdisjoint(parts[path]) and parts[path][0] != OUTPUTS)


def find_template(here: Path) -> Path:
    """services/churn of the repository around `here`, else of the repository that this slipway is installed from."""
    for parent in (here.resolve(), *here.resolve().parents, *Path(__file__).resolve().parents):
        if (parent / TEMPLATE / "slipway.toml").is_file():
            return parent / TEMPLATE
    raise TemplateMissingError(
        f"no {TEMPLATE.as_posix()} in {str(here)!r} or a folder above it",
        hint="run it in the slipway repository, or name a service to copy with `--from`",
    )


def find_workspace(here: Path) -> Path | None:
    """The uv workspace around `here` whose members are under services/, if there is one."""
    for parent in (here, *here.parents):
        path = parent / "pyproject.toml"
        if path.is_file():
            workspace = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("uv", {}).get("workspace", {})
            if "services/*" in workspace.get("members", ()):
                return parent
    return None


def _service_name(source: Path) -> str:
    """The name to replace: that of the package that `entry` imports, without `_service`."""
    path = source / "slipway.toml"
    if not path.is_file():
        raise TemplateMissingError(f"{str(source)!r} is not a service: it has no slipway.toml")
    entry = str(tomllib.loads(path.read_text("utf-8")).get("entry", ""))
    return entry.partition(".")[0].partition(":")[0].removesuffix("_service") or source.name


def _content(path: Path, old: str, new: str) -> bytes:
    data = path.read_bytes()
    try:
        return renamed(data.decode("utf-8"), old, new).encode("utf-8")
    except UnicodeDecodeError:  # not text: as it is
        return data


def _make_independent(draft: Path, source: Path) -> None:
    """A service outside the workspace: its own lock and git-less paths to the libraries it was copied with."""
    root = find_workspace(source)
    if root is None:
        return
    project = draft / "pyproject.toml"
    text = project.read_text("utf-8")

    def at_path(match: re.Match[str]) -> str:
        folder = root / "libs" / match["name"].removeprefix("slipway-")
        return f'{match["name"]} = {{ path = "{folder.as_posix()}", editable = true }}'

    project.write_text(WORKSPACE_SOURCE.sub(at_path, text), "utf-8", newline="\n")
    if (root / LOCK).is_file():
        shutil.copyfile(root / LOCK, draft / LOCK)


def _sort_imports(folder: Path) -> None:
    """Lets ruff put imports into the order of the new name, where ruff is installed; else they stay as they are."""
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--fix", "--select", "I", str(folder)]
    subprocess.run(command, check=False, capture_output=True, timeout=60)
