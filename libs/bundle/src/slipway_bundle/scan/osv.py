"""Which packages an OSV record means: names, version lists and version ranges of PyPI.

It loads no data (`osv_data.py` does). The invariant: what cannot be read is never taken for unaffected; an event whose
version is no version of PEP 440 makes its range count as affected, unless the record lists its versions and this one
is not among them.
Source: OSV schema 1.7, "affected", "Evaluation"; PEP 440 (by `packaging`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from slipway_bundle.scan.vulnerability import Severity, Vulnerability, highest, severity_of

__all__ = ["ECOSYSTEM", "Affected", "OsvRecord", "match"]

ECOSYSTEM: Final = "PyPI"

MALWARE: Final = "MAL-"
"""Identifiers of the OpenSSF's list of malicious packages; they carry no severity and need none."""


class OsvPackage(Struct, frozen=True):
    """Whose versions are meant."""

    ecosystem: str = ""
    name: str = ""


class OsvEvent(Struct, frozen=True):
    """One end of a range; exactly one field is set."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class OsvRange(Struct, frozen=True):
    """Events in the order of versions; ranges of commits are passed over."""

    type: str = ""
    events: tuple[OsvEvent, ...] = ()


class OsvSeverity(Struct, frozen=True):
    """A CVSS vector."""

    type: str = ""
    score: str = ""


class OsvNotes(Struct, frozen=True):
    """What GitHub's database adds."""

    severity: object = None


class Affected(Struct, frozen=True):
    """One package and its versions."""

    package: OsvPackage = OsvPackage()
    ranges: tuple[OsvRange, ...] = ()
    versions: tuple[str, ...] = ()
    severity: tuple[OsvSeverity, ...] | None = None


class OsvRecord(Struct, frozen=True):
    """The fields of a record that a verdict needs."""

    id: str
    modified: str = ""
    withdrawn: str | None = None
    aliases: tuple[str, ...] | None = None
    summary: str = ""
    severity: tuple[OsvSeverity, ...] | None = None
    affected: tuple[Affected, ...] | None = None
    database_specific: OsvNotes | None = None

    def covers(self, ecosystem: str) -> bool:
        """Whether it says anything about a package of `ecosystem`."""
        return any(item.package.ecosystem.partition(":")[0] == ecosystem for item in self.affected or ())


def match(record: OsvRecord, packages: Mapping[str, Sequence[str]]) -> list[Vulnerability]:
    """What `record` says about `packages` (normalised name -> installed versions); nothing when it was withdrawn."""
    if record.withdrawn:
        return []
    found = []
    for item in record.affected or ():
        if item.package.ecosystem != ECOSYSTEM:
            continue
        name = canonicalize_name(item.package.name)
        for installed in packages.get(name, ()):
            is_affected, fixed = _judge(item, installed)
            if not is_affected:
                continue
            severity, score = _severity(record, item)
            found.append(
                Vulnerability(
                    id=record.id,
                    aliases=tuple(sorted(record.aliases or ())),
                    package=name,
                    installed=installed,
                    fixed=fixed,
                    severity=severity,
                    score=score,
                    summary=" ".join(record.summary.split()),
                )
            )
    return found


def _severity(record: OsvRecord, item: Affected) -> tuple[Severity, float | None]:
    vectors = [entry.score for entry in (*(item.severity or ()), *(record.severity or ()))]
    word = record.database_specific.severity if record.database_specific else None
    severity, score = severity_of(vectors, word if isinstance(word, str) else None)
    return highest((severity, "critical")) if record.id.startswith(MALWARE) else severity, score


def _judge(item: Affected, installed: str) -> tuple[bool, str | None]:
    """Whether `installed` is affected, and the lowest later version that is fixed."""
    here = _public(installed)
    is_listed = installed in item.versions or (here is not None and here in map(_version, item.versions))
    is_affected = is_listed
    fixes: list[Version] = []
    for each in item.ranges:
        if each.type not in ("ECOSYSTEM", "SEMVER"):
            continue
        inside = _in_range(each.events, here)
        is_affected |= inside if inside is not None else not item.versions
        fixes += [fix for event in each.events if event.fixed and (fix := _version(event.fixed)) is not None]
    later = [fix for fix in fixes if here is None or fix > here]
    return is_affected, str(min(later)) if later else None


def _in_range(events: Sequence[OsvEvent], here: Version | None) -> bool | None:
    """The specification's evaluation; None when a version of it cannot be compared."""
    ends: list[tuple[Version, int, bool]] = []
    limits: list[Version] = []
    if here is None:
        return None
    for event in events:
        text = event.introduced or event.fixed or event.last_affected or event.limit
        if text is None or text == "*":
            continue
        version = Version("0.dev0") if event.introduced == "0" else _version(text)
        if version is None:
            return None
        if event.limit:
            limits.append(version)
        elif event.introduced:
            ends.append((version, 0, True))
        elif event.fixed:
            ends.append((version, 1, False))
        else:
            ends.append((version, 2, False))
    if limits and not any(here < limit for limit in limits):
        return False
    if not any(starts for _, _, starts in ends):
        ends.append((Version("0.dev0"), 0, True))  # the specification asks for one; without it, all versions are meant
    is_inside = False
    for version, kind, starts in sorted(ends, key=lambda end: end[:2]):
        if starts and here >= version:
            is_inside = True
        elif not starts and (here > version if kind == 2 else here >= version):
            is_inside = False
    return is_inside


def _public(text: str) -> Version | None:
    """Without the local part: `2.4.0+cpu` is what a database calls 2.4.0, and would sort after it."""
    version = _version(text)
    return None if version is None else Version(version.public)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
