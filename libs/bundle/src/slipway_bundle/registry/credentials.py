"""Credentials for registries, from where `docker login`, `skopeo login` and `podman login` leave them.

It asks no person and stores nothing. The invariant: a secret leaves this module only inside a `Credentials`, whose text
does not show it; a file that cannot be read is an error, not an anonymous pull.
Sources: docs.docker.com/reference/cli/docker/login (credential helpers); containers-auth.json(5).
"""

import base64
import binascii
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field

from slipway_bundle.errors import ConfigError, FileError, HostError

__all__ = ["Credentials", "load_credentials"]

HELPER_TIMEOUT_S = 30.0
"""A helper may ask a cloud; it may not hang."""

DOCKER_HUB = "https://index.docker.io/v1/"
"""The key under which `docker login` keeps what belongs to `docker.io`."""

_HELPER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_NOT_FOUND = "credentials not found"
_IS_TOKEN = "<token>"  # noqa: S105 - the user name that says so


class Credentials(Struct, frozen=True, kw_only=True):
    """A user and a password, or a refresh token. Its text shows neither."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, …)"

    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class HelperError(HostError):
    """A credential helper could not be run, or gave no answer that can be read."""

    code = "credential_helper"


class _Auth(Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identity_token: str = field(name="identitytoken", default="")


class _File(Struct):
    auths: dict[str, _Auth] = {}
    creds_store: str = field(name="credsStore", default="")
    helpers: dict[str, str] = field(name="credHelpers", default_factory=dict)


class _Answer(Struct):
    username: str = field(name="Username", default="")
    secret: str = field(name="Secret", default="")


def load_credentials(environ: Mapping[str, str], host: str, repository: str) -> Credentials | None:
    """What is stored for `host`, or None: then the request goes without.

    The first file that knows the host decides: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`,
    `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.docker/config.json`. A helper may be run, which blocks up to 30 s.

    Raises:
        ConfigError: A file is not what `docker login` writes.
        FileError: A file cannot be read.
        HelperError: A helper is missing, failed or hung.
    """
    for path in _files(environ):
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
        try:
            known = msgspec.json.decode(data, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{str(path)!r} is not a file of registry credentials: {error}",
                hint="`docker login HOST` or `skopeo login HOST` writes one",
                path=str(path),
            ) from error
        found = _from_file(known, path, host, repository, environ)
        if found is not None:
            return found
    return None


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    if chosen := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(chosen)
    if folder := environ.get("DOCKER_CONFIG"):
        yield Path(folder) / "config.json"
    if folder := environ.get("XDG_RUNTIME_DIR"):
        yield Path(folder) / "containers" / "auth.json"
    if home := environ.get("HOME"):
        yield Path(home) / ".docker" / "config.json"


def _from_file(known: _File, path: Path, host: str, repository: str, environ: Mapping[str, str]) -> Credentials | None:
    keys = list(_keys(host, repository))
    for key in keys:
        if helper := known.helpers.get(key):
            return _ask(helper, key, environ)
    for key in keys:
        if (stored := known.auths.get(key)) and (found := _decoded(stored, path, key)):
            return found
    return _ask(known.creds_store, keys[-1], environ) if known.creds_store else None


def _keys(host: str, repository: str) -> Iterator[str]:
    """Every key under which something may stand, the most particular first."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join((host, *parts[:count]))
    yield from (f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/")
    if host in {"docker.io", "registry-1.docker.io"}:
        yield "docker.io"
        yield DOCKER_HUB
    else:
        yield host


def _decoded(stored: _Auth, path: Path, key: str) -> Credentials | None:
    if stored.identity_token:
        return Credentials(identity_token=stored.identity_token)
    if stored.username:
        return Credentials(username=stored.username, password=stored.password)
    if not stored.auth:
        return None
    try:
        username, _, password = base64.b64decode(stored.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ConfigError(
            f"`auths[{key!r}].auth` of {str(path)!r} is not base64 of USER:PASSWORD",
            hint=f"`docker login {key}` writes it again",
            path=str(path),
        ) from None
    return Credentials(username=username, password=password.rstrip("\0"))


def _ask(helper: str, key: str, environ: Mapping[str, str]) -> Credentials | None:
    """Run `docker-credential-HELPER get`; the key goes to its stdin, the secret comes from its stdout."""
    if _HELPER.match(helper) is None:
        raise ConfigError(f"{helper!r} is no name of a credential helper, expected letters, digits, '.', '_' and '-'")
    program = f"docker-credential-{helper}"
    try:
        run = subprocess.run(
            [program, "get"],
            input=key,
            capture_output=True,
            text=True,
            timeout=HELPER_TIMEOUT_S,
            env=dict(environ),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HelperError(
            f"the credential helper {program!r} for {key!r} did not answer: {error}",
            hint="install it, or remove it from the file that `docker login` writes",
        ) from error
    if run.returncode != 0:
        if _NOT_FOUND in (run.stdout + run.stderr).lower():
            return None
        raise HelperError(
            f"the credential helper {program!r} for {key!r} failed with status {run.returncode}: "
            f"{run.stderr.strip()[:200]}"
        )
    try:
        answer = msgspec.json.decode(run.stdout, type=_Answer)
    except msgspec.MsgspecError:
        raise HelperError(
            f"the credential helper {program!r} for {key!r} gave no JSON of Username and Secret"
        ) from None
    if answer.username == _IS_TOKEN:
        return Credentials(identity_token=answer.secret)
    return Credentials(username=answer.username, password=answer.secret)
