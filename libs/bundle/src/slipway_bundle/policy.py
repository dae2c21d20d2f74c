"""`policy.toml`: what must be true of a bundle before it is pulled, served or admitted, and what is allowed beyond the
safe defaults.

It enforces nothing: `trust.evaluation` judges bundles, `build` asks for `[pickle]`. The invariants: without a file, or
without a table, nothing is required and nothing is allowed; a key that nobody knows is an error, because a rule that is
not read protects nobody; the names in `by` are keys of `[keys]`.
"""

import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from slipway_bundle.config import Format
from slipway_bundle.durations import Duration
from slipway_bundle.errors import ConfigError, FileError
from slipway_bundle.keys import nearest, unknown_keys
from slipway_bundle.manifest import Trust
from slipway_bundle.scan.rules import VulnerabilityRules

__all__ = ["POLICY_NAME", "PicklePolicy", "Policy", "load_policy"]

POLICY_NAME = "policy.toml"

Names = tuple[str, ...]
OneOrMore = Annotated[tuple[str, ...], Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1, le=16)]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of `policy.toml`."""


class PicklePolicy(_Table, frozen=True, kw_only=True):
    """`[pickle]`: whose pickles may be loaded."""

    allow_signers: Names = ()
    """Names of keys. Bundles of version 1 have no format that runs code, so naming one allows nothing yet."""


class KeyEntry(_Table, frozen=True, kw_only=True):
    """`[keys.NAME]`: who NAME is: a key in a file, or an identity that a certificate names."""

    file: str | None = None
    """The public key, PEM, relative to `policy.toml`."""

    identity: str | None = None
    """Keyless: the e-mail address or the URI of the workflow in the certificate."""

    issuer: str | None = None
    """Keyless: the OIDC issuer, a URL."""

    until: date | None = None
    """The last day, UTC, on which what it signed counts."""

    def __post_init__(self) -> None:
        """One of the two, whole."""
        if (self.file is None) == (self.identity is None) or (self.identity is None) != (self.issuer is None):
            raise ValueError("expected `file`, or `identity` and `issuer`")


class SignaturePolicy(_Table, frozen=True, kw_only=True):
    """`[signatures]`: who must have signed the bundle."""

    by: OneOrMore
    """Names of `[keys]`."""

    threshold: Count = 1
    """How many of them."""

    max_age: Duration | None = None
    """A signature that is older counts no more."""

    models: bool = False
    """Also ask for an OpenSSF model signature over the weights, by one of them."""


class BuilderPolicy(_Table, frozen=True, kw_only=True):
    """`[builders]`: where the bundle must have been built, by its signed provenance."""

    by: OneOrMore
    """Names of `[keys]`: whose provenance is believed."""

    allow: OneOrMore
    """Builder identities; `*` stands for any characters."""

    sources: Names = ()
    """Repositories that the source may come from, with `*`; empty: any."""

    allow_dirty: bool = True
    """Whether a bundle built from uncommitted changes may pass."""


class ImagePolicy(_Table, frozen=True, kw_only=True):
    """`[images]`: what a bundle's runnable images may stand on."""

    bases: OneOrMore
    """Names (`registry/repository`, with `*`) or digests of base images."""

    required: bool = False
    """Whether the bundle must have an image at all."""


class LicencePolicy(_Table, frozen=True, kw_only=True):
    """`[licences]`: which licences the bundle may state."""

    allow: OneOrMore
    """SPDX identifiers. Of `A OR B` one must be here, of `A AND B` both."""


class FormatPolicy(_Table, frozen=True, kw_only=True):
    """`[formats]`: which model files may be loaded."""

    allow: Annotated[tuple[Format, ...], Meta(min_length=1)] | None = None
    trust: Annotated[tuple[Trust, ...], Meta(min_length=1)] | None = None
    """What loading a file may do: `safe-data`, `safe-graph`, `allowlisted-object`."""


class AgePolicy(_Table, frozen=True, kw_only=True):
    """`[age]`: how old a bundle may be."""

    max: Duration


class ApprovalPolicy(_Table, frozen=True, kw_only=True):
    """`[approvals]`: who must have said yes."""

    by: OneOrMore
    """Names of `[keys]`. Who signed the bundle does not count as an approver of it."""

    required: Count = 1
    max_age: Duration | None = None


class FolderPolicy(_Table, frozen=True, kw_only=True):
    """`[folders]`: service folders and unpacked images, which have no digest that anybody could sign."""

    allow: bool = True
    """Whether `slipway serve FOLDER` may run; false belongs on every machine that serves users."""


class AdmissionPolicy(_Table, frozen=True, kw_only=True):
    """`[admission]`: what the Kubernetes webhook does not judge."""

    exempt: Names = ()
    """Globs of image names that are no bundles, such as sidecars: `registry.k8s.io/*`."""


class Policy(_Table, frozen=True, kw_only=True):
    """The whole of `policy.toml`; a table that is None requires nothing."""

    keys: dict[str, KeyEntry] = {}
    signatures: SignaturePolicy | None = None
    builders: BuilderPolicy | None = None
    approvals: ApprovalPolicy | None = None
    images: ImagePolicy | None = None
    licences: LicencePolicy | None = None
    formats: FormatPolicy | None = None
    age: AgePolicy | None = None
    vulnerabilities: VulnerabilityRules | None = None
    folders: FolderPolicy = FolderPolicy()
    admission: AdmissionPolicy = AdmissionPolicy()
    pickle: PicklePolicy = PicklePolicy()

    def __post_init__(self) -> None:
        """Names stand for keys that are there, and thresholds can be met."""
        for table, names in self._names().items():
            for name in names:
                if name not in self.keys:
                    hint = nearest(name, frozenset(self.keys))
                    raise ValueError(
                        f"`{table}` names {name!r}, expected a name of `[keys]`" + (f" - {hint}" if hint else "")
                    )
            if len(set(names)) != len(names):
                raise ValueError(f"`{table}` has a name twice")
        if self.signatures is not None and self.signatures.threshold > len(self.signatures.by):
            raise ValueError("`signatures.threshold` is more than the names in `signatures.by`")
        if self.approvals is not None and self.approvals.required > len(self.approvals.by):
            raise ValueError("`approvals.required` is more than the names in `approvals.by`")

    def _names(self) -> dict[str, Names]:
        tables = {"signatures": self.signatures, "builders": self.builders, "approvals": self.approvals}
        return {f"{name}.by": table.by for name, table in tables.items() if table is not None}

    @property
    def judges_bundles(self) -> bool:
        """Whether any table asks something of a bundle; without one there is nothing to read."""
        asked = (self.signatures, self.builders, self.approvals, self.images, self.licences, self.formats, self.age)
        return any(table is not None for table in asked) or self.vulnerabilities is not None


def load_policy(place: Path) -> Policy:
    """The policy in the file `place`, or the nearest `policy.toml` at or above the folder `place`.

    The search ends at the root of a git repository; without a file, the default.

    Raises:
        ConfigError: The file is not TOML, or has an unknown key or a bad value.
        FileError: It cannot be read.
    """
    found = find_policy(place)
    return Policy() if found is None else _load(found)


def find_policy(place: Path) -> Path | None:
    """Where `load_policy` would find it; None when there is no file.

    Raises:
        FileError: `place` is neither a file nor a folder.
    """
    resolved = place.resolve()
    if not resolved.is_dir():
        if not resolved.is_file():
            raise FileError(f"there is no policy at {str(place)!r}", path=str(place))
        return resolved
    for parent in (resolved, *resolved.parents):
        path = parent / POLICY_NAME
        if path.is_file():
            return path
        if (parent / ".git").exists():
            break
    return None


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
        policy = msgspec.convert(raw, Policy)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{str(path)!r} is not valid: {error}", path=str(path)) from error
    # A key's file is named from where the policy is, whoever reads it from wherever.
    placed = {
        name: entry if entry.file is None else replace(entry, file=str(path.parent / entry.file))
        for name, entry in policy.keys.items()
    }
    return replace(policy, keys=placed)
