"""Writing a new pair of keys.

It replaces nothing. The invariant: a private key is readable by its owner only from its first byte on, and a file that
is there stays as it is.
"""

import os
import re
from pathlib import Path

from msgspec import Struct

from slipway_bundle.errors import FileError, UsageError
from slipway_bundle.trust.keys import Algorithm, make_key

__all__ = ["KeyPair", "write_pair"]

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}\Z")


class KeyPair(Struct, frozen=True, kw_only=True):
    """Where a new pair is."""

    private: str
    public: str
    algorithm: Algorithm
    is_encrypted: bool


def write_pair(folder: Path, name: str, algorithm: Algorithm, *, password: str | None = None) -> KeyPair:
    """Writes `NAME.key` (mode 0600) and `NAME.pub` into `folder`.

    Raises:
        UsageError: The name is none, or one of the files is there.
        FileError: They cannot be written.
    """
    if _NAME.match(name) is None:
        raise UsageError(
            f"{name!r} is not a name for a key: expected lower-case letters, digits, '-' and '_'",
            hint="for example `release` or `ann`",
        )
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise UsageError(
                f"{str(path)!r} is there already, and a key is never replaced",
                hint="choose another name, or move the old pair away",
                path=str(path),
            )
    secret, shown = make_key(algorithm, password=password or None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(private, secret, 0o600)
        _write(public, shown, 0o644)
    except OSError as error:
        raise FileError(f"a key cannot be written to {str(folder)!r}: {error.strerror}", path=str(folder)) from error
    return KeyPair(private=str(private), public=str(public), algorithm=algorithm, is_encrypted=bool(password))


def _write(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
