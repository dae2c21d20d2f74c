"""`releases.jsonl`: what was released when, by whom and on which evidence; one line each, beside the stack files.

It decides nothing. The invariants: lines are only ever added; a line that a newer slipway wrote may have more fields.
The file is committed with the stack files, so that a review sees both, and the history of one is that of the other.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from slipway_bundle.errors import ConfigError, FileError

__all__ = ["RECORDS", "Release", "add_release", "load_releases", "previous_image"]

RECORDS: Final = "releases.jsonl"


class Release(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of what a service runs in an environment."""

    kind: Literal["promote", "rollback"]
    service: str
    environment: str
    image: str
    """`HOST/REPOSITORY@sha256:…`, from now on."""

    before: str
    """What it was."""

    at: str
    """RFC 3339, UTC."""

    by: str
    origin: str | None = None
    """The environment that it came from."""

    evidence: str | None = None
    """Digest of the gate's evidence, sha256:…"""

    signer: str | None = None
    """Whose key signed the statement about it."""

    reason: str | None = None


def load_releases(folder: Path) -> tuple[Release, ...]:
    """All of them, the oldest first; none where there is no file.

    Raises:
        ConfigError: A line is none; the message names it.
        FileError: The file cannot be read.
    """
    path = folder / RECORDS
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=Release))
        except msgspec.MsgspecError as error:
            raise ConfigError(f"line {number} of {str(path)!r} is no release: {error}", path=str(path)) from error
    return tuple(found)


def add_release(folder: Path, release: Release) -> None:
    """Adds a line, durably. Raises FileError."""
    path = folder / RECORDS
    try:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(release) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be written: {error.strerror}", path=str(path)) from error


def previous_image(releases: Sequence[Release], service: str, environment: str, current: str) -> str | None:
    """What the environment ran before `current` was promoted to it; None when nobody wrote that down.

    Rollbacks are passed over: two in a row go back twice, not to and fro.
    """
    for one in reversed(releases):
        if (one.kind, one.service, one.environment, one.image) == ("promote", service, environment, current):
            return one.before
    return None
