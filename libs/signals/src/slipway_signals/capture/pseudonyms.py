"""Names for people that only this service can make: HMAC-SHA256 under a key that gets a successor.

It does not decide what is hashed (`slipway_bundle.redaction`). The invariants: equal values under one key have equal
pseudonyms, in every process; the key file is never open to others; a key goes only when nothing that was stored under
it is kept any more, so that a person can be found, and forgotten, as long as there is anything to find.
Source: ENISA, "Pseudonymisation techniques and best practices" (2019), 5.1.3 (message authentication codes).
"""

import hmac
import itertools
import os
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from slipway_bundle.disk import sync_folder
from slipway_signals.capture.errors import CaptureFolderError
from slipway_signals.capture.private_files import create_file, read_own, replace_file, require_private

__all__ = ["MAX_VALUE_BYTES", "KeyRing", "Pseudonymiser", "key_path"]

MAX_VALUE_BYTES: Final = 4_096
"""What is longer is no name of anybody: it is dropped instead of hashed, so that hashing costs a few µs at most."""

_DAY_S: Final = 86_400.0
_HEX: Final = 32
"""128 bits: no two people share a pseudonym (2^64 people for an even chance)."""


class _Key(Struct, frozen=True, kw_only=True):
    id: str
    secret: str
    """64 hexadecimal digits."""
    created_s: float

    def __post_init__(self) -> None:
        if len(bytes.fromhex(self.secret)) < 32:
            raise ValueError(f"key {self.id!r} is shorter than 32 bytes")


class _KeyFile(Struct, frozen=True, kw_only=True):
    keys: tuple[_Key, ...]
    """In the order of their making; the last one is used."""

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("it holds no key")


def key_path(folder: Path, named: str | None) -> Path:
    """Where the keys of a capture folder are: as configured, or beside it (never in it: it is copied about)."""
    return Path(named) if named is not None else folder.with_name(f"{folder.name}.keys")


class Pseudonymiser:
    """Makes pseudonyms under one key. Thread-safe."""

    def __init__(self, key_id: str, secret: bytes) -> None:
        self._prefix = f"{key_id}:"
        self._hmac = hmac.new(secret, digestmod=sha256)

    def of(self, value: str | bytes) -> str | None:
        """The pseudonym `k1:0123…` (32 hexadecimal digits), or None for a value longer than `MAX_VALUE_BYTES`."""
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        if len(data) > MAX_VALUE_BYTES:
            return None
        made = self._hmac.copy()
        made.update(data)
        return self._prefix + made.hexdigest()[:_HEX]


class KeyRing:
    """The keys of one capture folder, as they are in their file now.

    Raises:
        CaptureFolderError: The file cannot be read or made, is open to others, or holds no keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys = self._read().keys

    @classmethod
    def open(cls, path: Path, now: float) -> "KeyRing":
        """The key ring in `path`, made with one key when it is not there. Several processes may do so at once."""
        if not os.path.lexists(path):
            _create(path, now)
        return cls(path)

    @property
    def newest(self) -> Pseudonymiser:
        """What new records are hashed with."""
        return self._pseudonymiser(self._keys[-1])

    def all_of(self, value: str) -> frozenset[str]:
        """The pseudonyms of `value` under every key that anything stored may have been hashed with."""
        made = (self._pseudonymiser(key).of(value) for key in self._keys)
        return frozenset(name for name in made if name is not None)

    def rotate(self, now: float, *, key_days: float, keep_days: float) -> bool:
        """Give an old key its successor, and delete keys nothing can be stored under. Call under the folder's lock.

        Args:
            now: Seconds since the epoch.
            key_days: Age of a key that gets a successor.
            keep_days: How long records are kept; a key goes when its successor is a day older than that.

        Returns:
            Whether the file changed.
        """
        keys = list(self._keys)
        if now - keys[-1].created_s >= key_days * _DAY_S:
            number = 1 + max((int(key.id[1:]) for key in keys if key.id[1:].isdigit()), default=0)
            keys.append(_make(number, now))
        last_use = (keep_days + 1) * _DAY_S
        kept = [key for key, after in itertools.pairwise(keys) if now - after.created_s <= last_use]
        changed = (*kept, keys[-1])
        if changed == self._keys:
            return False
        replace_file(self.path, _encode(changed))
        self._keys = changed
        return True

    def _read(self) -> _KeyFile:
        require_private(self.path)
        try:
            found = msgspec.json.decode(read_own(self.path), type=_KeyFile)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise CaptureFolderError(
                f"the key file {str(self.path)!r} cannot be used: {error}",
                hint="without its keys nobody in the captured data can be found again; restore it from a backup",
            ) from error
        return found

    def _pseudonymiser(self, key: _Key) -> Pseudonymiser:
        return Pseudonymiser(key.id, bytes.fromhex(key.secret))


def _make(number: int, now: float) -> _Key:
    return _Key(id=f"k{number}", secret=secrets.token_hex(32), created_s=now)


def _encode(keys: tuple[_Key, ...]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_KeyFile(keys=keys)), indent=2) + b"\n"


def _create(path: Path, now: float) -> None:
    """Of several processes that find no key file, one makes it whole: it appears by a link, never half written."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = create_file(temporary)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_encode((_make(1, now),)))
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)
            sync_folder(path.parent)
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CaptureFolderError(f"the key file {str(path)!r} cannot be made: {error.strerror}") from error
