"""API keys: made, kept as hashes in a file, looked up. Nothing here knows requests.

A key is `slw_ID_SECRET`: a public id of 8 hexadecimal digits, by which it is found, listed and revoked, and 256 random
bits, shown once. The file holds the SHA-256 of the whole key and no key. A slow hash (Argon2, bcrypt) protects
passwords, which people choose and others guess; 256 random bits are out of reach of guessing whatever a guess costs,
and a slow hash would only let callers keep the server busy (NIST SP 800-63B, 5.1.1.2, asks for one for what people
memorise).

The invariants: who asks with a key that is not there learns nothing by how long it takes (an unknown id is compared,
too); a file that other processes read changes by one rename; two commands at once lose no key.
"""

import fcntl
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from slipway_bundle import UsageError
from slipway_bundle.disk import Temporary, sync_folder, write_all
from slipway_serve.access.errors import KeyFileError, KeyFileUnreadableError, KeyNotFoundError, KeyTakenError

PREFIX: Final = "slw_"
"""By which scanners of repositories and logs can find a key that leaked."""
SHAPE: Final = re.compile(rb"slw_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""A scope-token (RFC 6749, section 3.3)."""
SECRET_BYTES: Final = 32
VERSION: Final = 1
MODE: Final = 0o640
NOBODY: Final = bytes(32)
"""Compared with when there is no such id."""


class ApiKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a key."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    """Of the client. Several keys may have one, while they take turns."""
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Of the whole key, in hexadecimal digits."""
    created: datetime
    expires: datetime | None = None
    """Not valid from then on; None: until it is revoked."""
    scopes: tuple[str, ...] = ()

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires


class KeyFile(Struct, frozen=True, kw_only=True):
    """The whole file, as JSON."""

    version: int = VERSION
    keys: tuple[ApiKey, ...] = ()


class NewKey(Struct, frozen=True, kw_only=True):
    """A key that was made; the only value that ever holds one."""

    key: str
    entry: ApiKey


class Keys:
    """The keys of a file, to be asked with what a client sent.

    Args:
        entries: of the file.
    """

    def __init__(self, entries: Sequence[ApiKey] = ()) -> None:
        self._by_id = {entry.id.encode(): (bytes.fromhex(entry.sha256), entry) for entry in entries}

    def find(self, sent: bytes) -> ApiKey | None:
        """The entry of exactly this key, expired or not; None: there is none. HOT where keys are asked for: 2 us."""
        shaped = SHAPE.fullmatch(sent)
        expected, entry = self._by_id.get(b"" if shaped is None else shaped[1], (NOBODY, None))
        return entry if hmac.compare_digest(sha256(sent).digest(), expected) else None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_id)


def load_keys(path: Path) -> Keys:
    """The keys of a file.

    Raises:
        KeyFileUnreadableError: it cannot be read.
        KeyFileError: it is no file of keys.
    """
    return Keys(list_keys(path))


def list_keys(path: Path) -> tuple[ApiKey, ...]:
    """The entries of a file, in the order in which they were made; raises as `load_keys`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise KeyFileUnreadableError(
            f"the file of API keys `{path}` cannot be read: {error.strerror or error}",
            hint="`slipway access key new NAME` makes it; the server needs the right to read it",
            path=str(path),
        ) from error
    try:
        read = msgspec.json.decode(raw, type=KeyFile)
    except msgspec.DecodeError as error:
        raise KeyFileError(
            f"`{path}` is no file of API keys: {error}",
            hint="`slipway access key new` writes it; if it was edited by hand, take the last version back",
            path=str(path),
        ) from error
    if read.version != VERSION:
        raise KeyFileError(f"`{path}` has version {read.version}, expected {VERSION}: a later slipway wrote it")
    ids = [entry.id for entry in read.keys]
    if len(set(ids)) < len(ids):
        raise KeyFileError(f"`{path}` has two keys with one id, expected different ones", path=str(path))
    return read.keys


def new_key(
    path: Path,
    name: str,
    *,
    scopes: Sequence[str] = (),
    expires_in: timedelta | None = None,
    now: datetime | None = None,
    is_rotation: bool = False,
) -> NewKey:
    """Make a key and add it to a file, which is made when it is not there.

    Args:
        path: of the file.
        name: of the client.
        scopes: what the key may be used for.
        expires_in: how long it is valid; None: until it is revoked.
        now: the time; None: the clock's.
        is_rotation: the client may have keys already: all are valid until they are revoked or expire. Without `scopes`
            the new one has those of the last.

    Raises:
        UsageError: a name or scope that cannot be one.
        KeyTakenError: the client has a key, and this is no rotation.
        KeyFileError, KeyFileUnreadableError: as `load_keys`; the folder cannot be written.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a client, expected up to 64 letters, digits and `._@-`")
    for scope in scopes:
        if not SCOPE.fullmatch(scope):
            raise UsageError(f"{scope!r} cannot be a scope, expected printable characters without spaces and quotes")
    now = now or datetime.now(UTC)
    with _writing(path) as entries:
        valid = [entry for entry in entries if entry.name == name and not entry.is_expired(now)]
        if valid and not is_rotation:
            raise KeyTakenError(
                f"client {name!r} has a key, {valid[-1].id}",
                hint="`--rotate` adds one beside it; revoke the old one when the client has changed over",
            )
        key_id = secrets.token_hex(4)
        while any(entry.id == key_id for entry in entries):
            key_id = secrets.token_hex(4)
        key = f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        entry = ApiKey(
            id=key_id,
            name=name,
            sha256=sha256(key.encode()).hexdigest(),
            created=now.replace(microsecond=0),
            expires=None if expires_in is None else (now + expires_in).replace(microsecond=0),
            scopes=tuple(dict.fromkeys(scopes or (valid[-1].scopes if valid else ()))),
        )
        entries.append(entry)
    return NewKey(key=key, entry=entry)


def revoke_keys(path: Path, which: str, *, is_trial: bool = False) -> tuple[ApiKey, ...]:
    """Take the key of an id, or all keys of a client, out of a file; servers follow within about a second.

    Args:
        path: of the file.
        which: id or name.
        is_trial: change nothing.

    Raises:
        KeyNotFoundError: there is none.
        KeyFileError, KeyFileUnreadableError: as `load_keys`; the folder cannot be written.
    """
    list_keys(path)  # a file that is not there is not made
    with _writing(path) as entries:
        gone = tuple(entry for entry in entries if which in {entry.id, entry.name})
        if not gone:
            known = sorted({entry.name for entry in entries})
            raise KeyNotFoundError(
                f"no key has the id or name {which!r}, expected one of {', '.join(known) or 'none: there are no keys'}",
                hint="`slipway access key list` shows both",
            )
        if not is_trial:
            entries[:] = [entry for entry in entries if entry not in gone]
    return gone


@contextmanager
def _writing(path: Path) -> Iterator[list[ApiKey]]:
    """The entries to change; written when the body has changed them and ends well. Holds the lock of the folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = list_keys(path) if path.exists() else ()
        entries = list(before)
        yield entries
        if tuple(entries) != before:
            _write(path, KeyFile(keys=tuple(entries)))
    finally:
        os.close(folder)


def _write(path: Path, content: KeyFile) -> None:
    """Replace the file in one step; who might read it may read it still."""
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else MODE
        with Temporary(path.parent) as temporary:
            write_all(temporary.descriptor, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
            temporary.move_to(path, mode=mode)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> KeyFileUnreadableError:
    return KeyFileUnreadableError(
        f"the file of API keys `{path}` cannot be written: {error.strerror or error}",
        hint="choose a folder of yours with `--keys`",
        path=str(path),
    )
