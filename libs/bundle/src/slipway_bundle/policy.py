"""`policy.toml`: what this repository allows beyond the safe defaults.

It enforces nothing. The invariant: without a file, nothing is allowed.
"""

import tomllib
from pathlib import Path

import msgspec
from msgspec import Struct

from slipway_bundle.errors import ConfigError, FileError
from slipway_bundle.keys import unknown_keys

__all__ = ["PicklePolicy", "Policy", "load_policy"]

POLICY_NAME = "policy.toml"


class PicklePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[pickle]`: whose pickles may be loaded."""

    allow_signers: tuple[str, ...] = ()
    """Identities, as they stand in the signature. Until bundles are signed, naming one allows nothing."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `policy.toml`."""

    pickle: PicklePolicy = PicklePolicy()


def load_policy(folder: Path) -> Policy:
    """The nearest `policy.toml` at or above `folder`, up to the root of its git repository; the default without one.

    Raises:
        ConfigError: The file is not TOML, or has an unknown key or a bad value.
        FileError: It cannot be read.
    """
    resolved = folder.resolve()
    for parent in (resolved, *resolved.parents):
        path = parent / POLICY_NAME
        if path.is_file():
            return _load(path)
        if (parent / ".git").exists():
            break
    return Policy()


def _load(path: Path) -> Policy:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not TOML: {error}", path=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
    for unknown in unknown_keys(raw, Policy):
        raise ConfigError(
            f"{str(path)!r} has an unknown key `{unknown.path}`, expected one of {', '.join(sorted(unknown.known))}",
            hint=unknown.hint,
            path=str(path),
            key=unknown.path,
        )
    try:
        return msgspec.convert(raw, Policy)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{str(path)!r} is not valid: {error}", path=str(path)) from error
