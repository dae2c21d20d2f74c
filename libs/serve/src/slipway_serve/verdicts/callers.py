"""Who may post and who may ask: API keys of a file that is followed, as everywhere in slipway.

It knows no route. The invariants: what a caller sent is in no error and no log; without a file of keys the service
listens to its own machine only.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from slipway_serve.access.door import HOW, KEY_HEADER, REALM
from slipway_serve.access.followed_files import FollowedFiles
from slipway_serve.access.keys import Keys, load_keys
from slipway_serve.problems import Problem
from slipway_serve.verdicts.errors import ServiceOpenError

__all__ = ["READ", "WRITE", "Callers", "require_keys"]

WRITE: Final = "verdicts:write"
"""Scope of a key that may post evidence, and ask."""
READ: Final = "verdicts:read"
"""Scope of a key that may only ask."""


class Callers:
    """Judges the credentials of a request.

    Args:
        path: File of keys; None: everybody may do everything.
        clock: Now, aware.

    Raises:
        KeyFileError, KeyFileUnreadableError: the file cannot be used.
    """

    def __init__(self, path: Path | None, clock: Callable[[], datetime]) -> None:
        self._keys: Keys | None = None
        self._clock = clock
        self.files: Final[FollowedFiles | None] = (
            None if path is None else FollowedFiles([path], lambda: self._use(load_keys(path)))
        )

    def name(self, headers: Mapping[str, str], scope: str) -> str:
        """Name of the caller's key; empty where nobody needs one.

        Args:
            headers: Of the request, whatever their case.
            scope: What is asked for; a key that may write may read.

        Raises:
            Problem: 401, 403.
        """
        if self._keys is None:
            return ""
        sent = headers.get("authorization")
        if sent is None:
            sent = headers.get(KEY_HEADER.decode())
        elif sent[:7].lower() == "bearer ":
            sent = sent[7:]
        else:
            raise _refused("credentials_invalid", "`Authorization` is not of the scheme Bearer")
        if sent is None:
            raise _refused("credentials_missing", "an API key is needed here")
        entry = self._keys.find(sent.strip().encode())
        if entry is None:
            raise _refused("credentials_invalid", "the API key is not known")
        if entry.is_expired(self._clock()):
            raise _refused("credentials_expired", "the API key has expired")
        if not {scope, WRITE} & set(entry.scopes):
            detail = f"the key lacks a scope, expected {scope}"
            hint = f"slipway access key new NAME --scope {scope}"
            raise Problem(403, "scope_missing", detail, hint=hint)
        return entry.name

    def _use(self, keys: Keys) -> None:
        self._keys = keys


def require_keys(host: str, keys: Path | None) -> None:
    """Refuse to listen to a network without keys.

    Raises:
        ServiceOpenError: `host` is not this machine's own, and there is no file of keys.
    """
    if keys is None and not _is_own(host):
        raise ServiceOpenError(
            f"--host {host} is reached from other machines and no API keys are given, expected --keys FILE",
            hint=f"slipway access key new ci --keys keys.json --scope {WRITE}",
        )


def _is_own(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, hint=HOW, headers=((b"www-authenticate", REALM.encode()),))
