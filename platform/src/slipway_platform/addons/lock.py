"""`addons.lock`: which add-ons there are, and of which chart, version and digest each is.

It fetches nothing. The invariants: every version is exact; an add-on whose CRDs come from another is after it in
`ordered`; a name that is not in the file is an error that names the nearest one.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from slipway_bundle import IntegrityError, UsageError
from slipway_bundle.keys import nearest, unknown_keys
from slipway_platform.cluster.info import DnsLabel

__all__ = ["Addon", "AddonLock", "AddonLockError", "ChartDigestError", "chart_in", "load_lock"]

PodSecurity = Literal["privileged", "baseline", "restricted"]
"""https://kubernetes.io/docs/concepts/security/pod-security-standards/"""


class AddonLockError(UsageError):
    """`addons.lock` cannot be read, breaks its rules, or has no such add-on."""

    code = "addon_lock_invalid"


class ChartDigestError(IntegrityError):
    """A chart in a folder of one's own is not the one that `addons.lock` names."""

    code = "chart_digest"


class Addon(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file; the words at its top say what each key means."""

    repo: Annotated[str, Meta(pattern=r"^(https|oci)://\S+[^/\s]\Z")]
    chart: DnsLabel
    version: Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?\Z")]
    app_version: str
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")] | None = None
    namespace: DnsLabel
    pod_security: PodSecurity
    crds_from: DnsLabel | None = None
    crds: tuple[str, ...] = ()


class AddonLock(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    addons: dict[DnsLabel, Addon]

    def __post_init__(self) -> None:
        for name, addon in self.addons.items():
            if addon.crds_from is not None and addon.crds_from not in self.addons:
                raise ValueError(f"`addons.{name}.crds_from` names {addon.crds_from!r}, which is not in the file")

    def known(self, name: str) -> str:
        """The name itself.

        Raises:
            AddonLockError: There is no add-on of that name.
        """
        if name not in self.addons:
            known = frozenset(self.addons)
            raise AddonLockError(
                f"{name!r} is no add-on of addons.lock",
                hint=nearest(name, known) or f"known: {', '.join(sorted(known))}",
                name=name,
            )
        return name

    def ordered(self) -> tuple[str, ...]:
        """The names, those that bring CRDs for others first."""
        givers = {addon.crds_from for addon in self.addons.values()}
        return tuple(sorted(self.addons, key=lambda name: (name not in givers, name)))


def load_lock(path: Path) -> AddonLock:
    """The lock in the file `path`.

    Raises:
        AddonLockError: It cannot be read, is not TOML, or has an unknown key or a bad value.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AddonLockError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
    for unknown in unknown_keys(raw, AddonLock):
        raise AddonLockError(f"{str(path)!r} has an unknown key `{unknown.path}`", hint=unknown.hint, path=str(path))
    try:
        return msgspec.convert(raw, AddonLock)
    except msgspec.ValidationError as error:
        raise AddonLockError(f"{str(path)!r} is not valid: {error}", path=str(path)) from error


def chart_in(folder: Path, name: str, addons: Mapping[str, Addon]) -> Path:
    """The archive of an add-on's chart in a folder of one's own: `CHART-VERSION.tgz`, as `helm pull` writes it.

    Args:
        folder: Where the archives are.
        name: Of the add-on.
        addons: Of the lock.

    Raises:
        AddonLockError: There is no such archive.
        ChartDigestError: Its digest is not that of the lock; without one in the lock nothing is compared.
    """
    addon = addons[name]
    path = folder / f"{addon.chart}-{addon.version}.tgz"
    try:
        found = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise AddonLockError(
            f"the chart of {name!r} cannot be read: {error}",
            hint=f"`helm pull {addon.chart} --repo {addon.repo} --version {addon.version} --destination {folder}`",
            path=str(path),
        ) from error
    if addon.digest is not None and found != addon.digest:
        raise ChartDigestError(
            f"{str(path)!r} is not the chart of addons.lock: expected {addon.digest}, got {found}", path=str(path)
        )
    return path
