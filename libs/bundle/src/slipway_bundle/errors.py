"""The errors of slipway: one root, three families, one exit status each.

It does not print, log or translate: the CLI renders `as_dict()`, the server maps `code` to an HTTP status. The
invariant: every error carries a stable `code` (part of the public interface, tested), an `exit_status` that follows
from its family, and a message that says what happened, got, expected, where; `hint` says what to do next.

    SlipwayError
    ├── UsageError        exit 2   what was written is wrong: configuration, reference, schema, service code
    │   ├── ChildFailedError        child_failed            user code failed in a child process (child.py)
    │   ├── ConfigError             config_invalid          `slipway.toml` or `policy.toml`
    │   ├── DescribeError           describe_failed         the service could not be imported and described
    │   ├── GoldenError             golden_invalid          `golden.jsonl` cannot be read
    │   ├── LockError               lock_missing            no lock, or a dependency is not in it
    │   ├── ManifestVersionError    manifest_version        the manifest has a major version this slipway cannot read
    │   └── … subclasses live beside what raises them (references, schemas, adapters)
    ├── IntegrityError    exit 1   the answer is no: bytes are not what they should be
    │   ├── ManifestError           manifest_invalid        `slipway.json` breaks its own rules
    │   ├── GoldenMismatchError     golden_mismatch         a golden example did not replay
    │   ├── PickleRefusedError      pickle_refused          a model file can run code when loaded
    │   ├── SecretRefusedError      secret_refused          a private key or `.env` would be published
    │   └── SourceError             source_refused          a source file that a bundle cannot hold
    └── HostError         exit 3   this machine cannot do it now: disk, permissions, lock, missing package
        ├── FileError               file_unreadable
        ├── ChildHostError          child_host              a child process met a HostError (child.py)
        └── ChildStartError         child_not_started       a child process could not be started
"""

from typing import ClassVar

__all__ = [
    "ChildStartError",
    "ConfigError",
    "DescribeError",
    "FileError",
    "GoldenError",
    "GoldenMismatchError",
    "HostError",
    "IntegrityError",
    "LockError",
    "ManifestError",
    "ManifestVersionError",
    "PickleRefusedError",
    "SecretRefusedError",
    "SlipwayError",
    "SourceError",
    "UsageError",
]


class SlipwayError(Exception):
    """The root of every error that slipway raises on purpose.

    Args:
        message: What happened, got, expected, where. One sentence, no full stop.
        hint: What the reader can do about it, or None.
        fields: Named parts of the message for programs (`path`, `got`, `expected`, …); values are JSON scalars.
    """

    code: ClassVar[str] = "slipway"
    exit_status: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str | None = None, **fields: str | int | float | bool | None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def as_dict(self) -> dict[str, object]:
        """The error as one JSON-ready object: `code`, `message`, `exit_status`; `hint` and `fields` when present."""
        rendered: dict[str, object] = {"code": self.code, "message": self.message, "exit_status": self.exit_status}
        if self.hint is not None:
            rendered["hint"] = self.hint
        if self.fields:
            rendered["fields"] = dict(self.fields)
        return rendered

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class UsageError(SlipwayError):
    """What somebody wrote is wrong: configuration, reference, schema, code of a service."""

    code = "usage"
    exit_status = 2


class IntegrityError(SlipwayError):
    """The answer is no: a digest, a golden example or a file format is not acceptable."""

    code = "integrity"
    exit_status = 1


class HostError(SlipwayError):
    """This machine cannot do it now: disk full, permission, busy lock, missing package."""

    code = "host"
    exit_status = 3


class ConfigError(UsageError):
    """A configuration file cannot be read, or holds a key or value that slipway does not know."""

    code = "config_invalid"


class DescribeError(UsageError):
    """The child process could not import the service and describe it."""

    code = "describe_failed"


class GoldenError(UsageError):
    """The golden file is missing, empty or has a line that is not a golden example."""

    code = "golden_invalid"


class LockError(UsageError):
    """No environment lock, or the lock does not hold a dependency of the service."""

    code = "lock_missing"


class ManifestVersionError(UsageError):
    """The manifest has a major version that this slipway cannot read."""

    code = "manifest_version"


class ManifestError(IntegrityError):
    """A manifest breaks the rules of its format: not canonical, a duplicate key, a missing field."""

    code = "manifest_invalid"


class GoldenMismatchError(IntegrityError):
    """A golden example did not give its expected output."""

    code = "golden_mismatch"


class PickleRefusedError(IntegrityError):
    """A model file is a pickle in some wrapping: loading it may run any code."""

    code = "pickle_refused"


class SecretRefusedError(IntegrityError):
    """A file that looks like a secret would become part of a bundle."""

    code = "secret_refused"


class SourceError(IntegrityError):
    """A file in the service folder cannot be part of a bundle, or changed while it was read."""

    code = "source_refused"


class FileError(HostError):
    """A file that is needed cannot be read."""

    code = "file_unreadable"


class ChildStartError(HostError):
    """A child process could not be started."""

    code = "child_not_started"
