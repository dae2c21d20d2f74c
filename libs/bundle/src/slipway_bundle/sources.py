"""Which files are the code of a bundle: those of the code folder and the included ones, without what never belongs.

It packs nothing. The invariants: the list depends on names only, not on the order of the disk; no file comes from
outside the folder; a file that looks like a secret is refused, never left out in silence. A link to a file inside the
folder is packed as that file; other links are refused.
"""

import os
import re
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct

from slipway_bundle.config import BundleConfig
from slipway_bundle.errors import ConfigError, FileError, SecretRefusedError, SourceError
from slipway_bundle.tar import normal_mode

__all__ = ["SourceFile", "find_modules", "find_sources"]

MAX_FILE_BYTES = 64 << 20
"""Code is not that big; data of this size belongs into `[bundle.models]`, where it has a layer of its own."""

IGNORED_FOLDERS = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", ".tox", ".nox", "__pycache__", "node_modules", ".mypy_cache"}
    | {".pytest_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", ".idea", ".vscode"}
)
IGNORED_SUFFIXES = (".pyc", ".pyo", ".egg-info", ".swp", "~")
IGNORED_NAMES = frozenset({".DS_Store", "Thumbs.db", ".coverage"})

SECRET_NAMES = re.compile(
    r"\.env(\..+)?|\.netrc|\.pypirc|\.git-credentials|id_(rsa|dsa|ecdsa|ed25519)|.+\.(p12|pfx|jks)"
)
"""Files that hold secrets by convention; an example such as `.env.example` may be named in `include`."""

HARMLESS_NAMES = (".env.example", ".env.sample", ".env.template")

SECRET_CONTENT: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("a private key", re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")),
    ("an AWS access key", re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b")),
    ("a Slack token", re.compile(rb"\bxox[abprs]-[0-9]+-[0-9A-Za-z-]{20,}")),
)
"""High confidence only: a pattern that is wrong once a week is a pattern that people learn to switch off."""


class SourceFile(Struct, frozen=True, kw_only=True):
    """One file of the code layer."""

    path: str
    """Relative to the service folder, POSIX."""

    source: Path
    mode: int
    """0o644 or 0o755."""


def find_sources(folder: Path, bundle: BundleConfig) -> tuple[SourceFile, ...]:
    """The code files of the service in `folder`, sorted by the bytes of their path.

    Raises:
        ConfigError: The code folder is missing, or an `include` glob fits nothing.
        SourceError: A name is not UTF-8, a link leaves the folder, or a file is too big or not a regular file.
        SecretRefusedError: A file looks like a secret.
        FileError: A file or folder cannot be read.
    """
    root = folder / bundle.code
    if not root.is_dir():
        raise ConfigError(
            f"the code folder {bundle.code!r} is not a folder in {str(folder)!r}",
            hint="`code` of `[bundle]` in slipway.toml names the folder to put on `sys.path`; it is `src` by default",
        )
    found = {*_walk(folder, root), *(path for glob in bundle.include for path in _included(folder, glob))}
    apart = {bundle.golden, bundle.lineage, *(model.file for model in bundle.models.values())}
    kept = (path for path in found - apart if not any(_fits(path, glob) for glob in bundle.exclude))
    files = [_check(folder, path) for path in kept]
    return tuple(sorted(files, key=lambda file: file.path.encode()))


def find_modules(package: Path) -> tuple[SourceFile, ...]:
    """The files of an installed package, by the same rules; paths are relative to the folder `package`.

    Raises:
        SourceError, SecretRefusedError, FileError: As `find_sources`.
    """
    files = [_check(package, path) for path in _walk(package, package)]
    return tuple(sorted(files, key=lambda file: file.path.encode()))


def _walk(folder: Path, root: Path) -> Iterator[str]:
    """Paths of the files below `root`, relative to `folder`, without what is ignored."""
    waiting = [root]
    while waiting:
        current = waiting.pop()
        try:
            entries = list(os.scandir(current))
        except OSError as error:
            raise FileError(f"folder {str(current)!r} cannot be read: {error.strerror}", path=str(current)) from error
        for entry in entries:
            path = _relative(folder, entry.path)
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in IGNORED_FOLDERS and not entry.name.endswith(IGNORED_SUFFIXES):
                    waiting.append(Path(entry.path))
            elif not _is_ignored(entry.name):
                yield path


def _included(folder: Path, glob: str) -> Iterator[str]:
    matches = sorted(folder.glob(glob))
    if not matches:
        raise ConfigError(
            f"`include` of slipway.toml fits no file: got {glob!r}, relative to {str(folder)!r}", key="bundle.include"
        )
    for match in matches:
        if match.is_dir() and not match.is_symlink():
            yield from _walk(folder, match)
        else:
            yield _relative(folder, str(match))


def _is_ignored(name: str) -> bool:
    return name in IGNORED_NAMES or name.endswith(IGNORED_SUFFIXES) or bool(SECRET_NAMES.fullmatch(name))


def _fits(path: str, glob: str) -> bool:
    return fnmatchcase(path, glob) or fnmatchcase(path, f"{glob.rstrip('/')}/*")


def _relative(folder: Path, path: str) -> str:
    relative = os.path.relpath(path, folder).replace(os.sep, "/")
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"file name {os.fsencode(relative)!r} is not UTF-8, in {str(folder)!r}",
            hint="rename the file, or exclude its folder in `[bundle]` of slipway.toml",
            path=ascii(relative),
        ) from None
    return relative


def _check(folder: Path, path: str) -> SourceFile:
    source = folder / path
    if source.is_symlink():
        _check_link(folder, source, path)
    try:
        status = source.stat()
    except OSError as error:
        raise FileError(f"{path!r} cannot be read: {error.strerror}", path=path) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(
            f"{path!r} is not a regular file, so a bundle cannot hold it",
            hint="exclude it in `[bundle]` of slipway.toml",
            path=path,
        )
    if status.st_size > MAX_FILE_BYTES:
        raise SourceError(
            f"code file {path!r} is too big: got {status.st_size} bytes, expected at most {MAX_FILE_BYTES}",
            hint="weights belong into `[bundle.models]`; exclude other data",
            path=path,
        )
    _check_secret(source, path)
    return SourceFile(path=path, source=source.resolve(), mode=normal_mode(status.st_mode))


def _check_link(folder: Path, source: Path, path: str) -> None:
    target = source.resolve()
    if not target.is_relative_to(folder.resolve()):
        raise SourceError(
            f"symlink {path!r} leaves the service folder: it points to {str(target)!r}",
            hint="copy the file into the folder; what is outside may be different tomorrow",
            path=path,
        )
    if not target.is_file():
        raise SourceError(
            f"symlink {path!r} does not point to a file: got {str(target)!r}",
            hint="a bundle holds files, not links to folders; exclude it or copy the folder",
            path=path,
        )


def _check_secret(source: Path, path: str) -> None:
    name = Path(path).name
    if SECRET_NAMES.fullmatch(name) and name not in HARMLESS_NAMES:
        raise SecretRefusedError(
            f"{path!r} is a file for secrets, and `include` would publish it",
            hint="hand secrets to the server as environment variables or files at run time",
            path=path,
        )
    try:
        content = source.read_bytes()
    except OSError as error:
        raise FileError(f"{path!r} cannot be read: {error.strerror}", path=path) from error
    for what, pattern in SECRET_CONTENT:
        if match := pattern.search(content):
            line = content.count(b"\n", 0, match.start()) + 1
            raise SecretRefusedError(
                f"{path!r} looks like it holds {what}, in line {line}; a bundle is published",
                hint="take it out and revoke it, or `exclude` the file in `[bundle]` of slipway.toml",
                path=path,
                line=line,
            )
