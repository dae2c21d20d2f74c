"""What other scanners wrote: JSON reports of Trivy, Grype and OSV-Scanner, read into one form.

It trusts no report beyond its findings and judges nothing. The invariants: a report is told apart by what only its
scanner writes; it is strict JSON of a bounded size; one that says which image it is about must be about this bundle;
one that does not say when it was made needs somebody who does.
Sources: Trivy, "Reporting" (schema 2); Grype, JSON output; OSV-Scanner, "Output", JSON.
"""

import datetime as dt
import re
from collections.abc import Collection, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from packaging.utils import canonicalize_name

from slipway_bundle.canonical import decode_json
from slipway_bundle.scan.errors import ReportInvalidError, ReportSubjectError
from slipway_bundle.scan.osv import Affected, OsvRecord, match
from slipway_bundle.scan.vulnerability import Report, Vulnerability, merge, plain, severity_of
from slipway_bundle.store_errors import JsonError

__all__ = ["MAX_REPORT_BYTES", "read_report"]

MAX_REPORT_BYTES: Final = 64 << 20
MAX_FINDINGS: Final = 100_000

TRIVY: Final = "pkg:github/aquasecurity/trivy"
GRYPE: Final = "pkg:github/anchore/grype"
OSV: Final = "pkg:github/google/osv-scanner"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

PYTHON_TYPES: Final = frozenset({"python", "python-pkg", "pip", "pipenv", "poetry", "uv", "pypi", "PyPI"})
"""What the three call a package of PyPI; those of an operating system keep their names as they are."""

Word = Annotated[str, Meta(min_length=1, max_length=512)]


class _TrivyCvss(Struct, frozen=True, rename="pascal"):
    v2_vector: str = ""
    v3_vector: str = ""
    v40_vector: str = ""


class _TrivyFinding(Struct, frozen=True, rename="pascal"):
    vulnerability_id: Word = msgspec.field(name="VulnerabilityID")
    pkg_name: Word
    installed_version: str
    vendor_ids: tuple[str, ...] | None = msgspec.field(name="VendorIDs", default=None)
    fixed_version: str = ""
    severity: str = ""
    title: str = ""
    cvss: dict[str, _TrivyCvss] | None = msgspec.field(name="CVSS", default=None)


class _TrivyResult(Struct, frozen=True, rename="pascal"):
    type: str = ""
    packages: tuple[msgspec.Raw, ...] | None = None
    vulnerabilities: tuple[_TrivyFinding, ...] | None = None


class _TrivyMetadata(Struct, frozen=True, rename="pascal"):
    image_id: str = msgspec.field(name="ImageID", default="")
    repo_digests: tuple[str, ...] | None = None


class _TrivyTool(Struct, frozen=True, rename="pascal"):
    version: str | None = None


class _Trivy(Struct, frozen=True, rename="pascal"):
    schema_version: int
    artifact_name: str
    created_at: dt.datetime | None = None
    metadata: _TrivyMetadata | None = None
    trivy: _TrivyTool | None = None
    results: tuple[_TrivyResult, ...] | None = None


class _GrypeCvss(Struct, frozen=True):
    vector: str = ""


class _GrypeFix(Struct, frozen=True):
    versions: tuple[str, ...] | None = None


class _GrypeVulnerability(Struct, frozen=True):
    id: Word
    severity: str = ""
    description: str = ""
    cvss: tuple[_GrypeCvss, ...] | None = None
    fix: _GrypeFix | None = None


class _GrypeRelated(Struct, frozen=True):
    id: str
    cvss: tuple[_GrypeCvss, ...] | None = None


class _GrypeArtifact(Struct, frozen=True):
    name: Word
    version: str
    type: str = ""


class _GrypeMatch(Struct, frozen=True, rename="camel"):
    vulnerability: _GrypeVulnerability
    artifact: _GrypeArtifact
    related_vulnerabilities: tuple[_GrypeRelated, ...] | None = None


class _GrypeBuilt(Struct, frozen=True):
    built: dt.datetime | None = None


class _GrypeData(Struct, frozen=True):
    built: dt.datetime | None = None
    status: _GrypeBuilt | None = None


class _GrypeDescriptor(Struct, frozen=True):
    name: str
    version: str | None = None
    timestamp: dt.datetime | None = None
    db: _GrypeData | None = None


class _GrypeSource(Struct, frozen=True):
    target: object = None


class _Grype(Struct, frozen=True):
    matches: tuple[_GrypeMatch, ...]
    descriptor: _GrypeDescriptor
    source: _GrypeSource | None = None


class _OsvPackage(Struct, frozen=True):
    name: Word
    version: str
    ecosystem: str = ""


class _OsvGroup(Struct, frozen=True):
    ids: tuple[str, ...] = ()
    aliases: tuple[str, ...] | None = None
    max_severity: str = ""


class _OsvPackageVulnerabilities(Struct, frozen=True):
    package: _OsvPackage
    vulnerabilities: tuple[OsvRecord, ...] | None = None
    groups: tuple[_OsvGroup, ...] | None = None


class _OsvSource(Struct, frozen=True):
    packages: tuple[_OsvPackageVulnerabilities, ...] | None = None


class _OsvScanner(Struct, frozen=True):
    results: tuple[_OsvSource, ...] | None


def read_report(data: bytes, *, where: str, digests: Collection[str], scanned: dt.datetime | None = None) -> Report:
    """A scanner's report in slipway's form.

    Args:
        data: JSON of Trivy, Grype or OSV-Scanner.
        where: Names the report in messages.
        digests: Of the bundle: its index, its children, their configurations. A report that names the image it is
            about must name one of them.
        scanned: When it was made, for a report that does not say (OSV-Scanner's never do); UTC.

    Raises:
        ReportInvalidError: Too long, not strict JSON, of no known scanner, of a wrong shape, or without its time.
        ReportSubjectError: It is about another image.
    """
    try:
        kinds = decode_json(data, dict[str, msgspec.Raw], what=where, max_bytes=MAX_REPORT_BYTES)
        report, about = _read(kinds, data, where, scanned)
    except JsonError as error:
        raise ReportInvalidError(error.message, path=where) from error
    except msgspec.MsgspecError as error:
        raise ReportInvalidError(
            f"{where} does not have the shape of its scanner's reports: {error}",
            hint="make it again with `--format json` (Trivy, OSV-Scanner) or `-o json` (Grype)",
            path=where,
        ) from error
    if about and not about & set(digests):
        raise ReportSubjectError(
            f"{where} is about another image: got {', '.join(sorted(about))}, "
            f"expected one of {', '.join(sorted(digests)[:4])}",
            hint="scan this bundle's image, by its digest",
            path=where,
        )
    if len(report.vulnerabilities) > MAX_FINDINGS:
        raise ReportInvalidError(
            f"{where} has {len(report.vulnerabilities)} findings, expected at most {MAX_FINDINGS}", path=where
        )
    return report


def _read(
    kinds: dict[str, msgspec.Raw], data: bytes, where: str, scanned: dt.datetime | None
) -> tuple[Report, set[str]]:
    """The report, and the digests of the image that it says it is about."""
    if "SchemaVersion" in kinds and "ArtifactName" in kinds:
        trivy = msgspec.json.decode(data, type=_Trivy)
        metadata = trivy.metadata or _TrivyMetadata()
        about = set(_DIGEST.findall(" ".join((metadata.image_id, *(metadata.repo_digests or ())))))
        results = trivy.results or ()
        listed = [len(result.packages) for result in results if result.packages is not None]
        version = trivy.trivy.version if trivy.trivy else None
        time = _time(trivy.created_at or scanned, where)
        report = _report(TRIVY, version, time, time, _of_trivy(results), packages=sum(listed) if listed else None)
    elif "matches" in kinds and "descriptor" in kinds:
        grype = msgspec.json.decode(data, type=_Grype)
        about = set(_DIGEST.findall(_digests_of_target(grype)))
        database = grype.descriptor.db or _GrypeData()
        built = database.built or (database.status.built if database.status else None)
        time = _time(grype.descriptor.timestamp or scanned, where)
        report = _report(GRYPE, grype.descriptor.version, time, _time(built or time, where), _of_grype(grype.matches))
    elif "results" in kinds:
        found = msgspec.json.decode(data, type=_OsvScanner)
        about = set()
        time = _time(scanned, where)
        report = _report(OSV, None, time, time, _of_osv_scanner(found))
    else:
        keys = plain(", ".join(sorted(kinds)))[:120]
        raise ReportInvalidError(
            f"{where} is of no scanner that slipway knows: got the keys {keys or 'none'}",
            hint="JSON reports of Trivy, Grype and OSV-Scanner are read",
            path=where,
        )
    return report, about


def _report(
    scanner: str,
    version: str | None,
    scanned: dt.datetime,
    updated: dt.datetime,
    found: Iterator[Vulnerability],
    *,
    packages: int | None = None,
) -> Report:
    return Report(
        scanner=scanner,
        version=version,
        scanned=scanned,
        updated=min(updated, scanned),
        packages=packages,
        vulnerabilities=merge(found),
    )


def _time(time: dt.datetime | None, where: str) -> dt.datetime:
    if time is None:
        raise ReportInvalidError(
            f"{where} does not say when it was made, and a verdict on an old report is worth nothing",
            hint="say it: `--scanned-at 2026-01-31T12:00:00Z`",
            path=where,
        )
    return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


def _of_trivy(results: tuple[_TrivyResult, ...]) -> Iterator[Vulnerability]:
    for result in results:
        for item in result.vulnerabilities or ():
            vectors = [
                vector
                for each in (item.cvss or {}).values()
                for vector in (each.v2_vector, each.v3_vector, each.v40_vector)
                if vector
            ]
            # Trivy's word is its choice among the sources; the vectors are all sources. The careful one of both.
            yield _vulnerability(
                id=item.vulnerability_id,
                aliases=item.vendor_ids or (),
                name=item.pkg_name,
                kind=result.type,
                installed=item.installed_version,
                fixed=item.fixed_version,
                vectors=vectors,
                word=item.severity,
                summary=item.title,
            )


def _of_grype(matches: tuple[_GrypeMatch, ...]) -> Iterator[Vulnerability]:
    for item in matches:
        related = item.related_vulnerabilities or ()
        cvss = [*(item.vulnerability.cvss or ()), *(each for one in related for each in one.cvss or ())]
        fix = item.vulnerability.fix.versions if item.vulnerability.fix else None
        yield _vulnerability(
            id=item.vulnerability.id,
            aliases=tuple(one.id for one in related),
            name=item.artifact.name,
            kind=item.artifact.type,
            installed=item.artifact.version,
            fixed=(fix or ("",))[0],
            vectors=[each.vector for each in cvss if each.vector],
            word=item.vulnerability.severity,
            summary=item.vulnerability.description,
        )


def _of_osv_scanner(report: _OsvScanner) -> Iterator[Vulnerability]:
    for source in report.results or ():
        for item in source.packages or ():
            for record in item.vulnerabilities or ():
                yield from _of_record(record, item)


def _of_record(record: OsvRecord, item: _OsvPackageVulnerabilities) -> Iterator[Vulnerability]:
    """OSV-Scanner has matched already: the record only adds what is known of the fix and the severity."""
    if record.withdrawn:
        return
    name = canonicalize_name(item.package.name)
    known = match(record, {name: (item.package.version,)}) if item.package.ecosystem == "PyPI" else []
    if known:
        yield from known
        return
    groups = [group for group in item.groups or () if record.id in group.ids]
    own: tuple[Affected, ...] = record.affected or ()
    vectors = [each.score for each in (*(record.severity or ()), *(one for a in own for one in a.severity or ()))]
    yield _vulnerability(
        id=record.id,
        aliases=tuple({*(record.aliases or ()), *(alias for group in groups for alias in group.aliases or ())}),
        name=item.package.name,
        kind=item.package.ecosystem,
        installed=item.package.version,
        fixed="",
        vectors=vectors or [group.max_severity for group in groups if group.max_severity],
        word=str(record.database_specific.severity) if record.database_specific else "",
        summary=record.summary,
    )


def _vulnerability(
    *,
    id: str,  # noqa: A002 - the field's word
    aliases: tuple[str, ...],
    name: str,
    kind: str,
    installed: str,
    fixed: str,
    vectors: list[str],
    word: str,
    summary: str,
) -> Vulnerability:
    severity, score = severity_of(vectors, word)
    return Vulnerability(
        id=id,
        aliases=tuple(sorted({alias for alias in aliases if alias and alias != id})),
        package=canonicalize_name(name) if kind in PYTHON_TYPES else name,
        installed=installed,
        fixed=fixed.partition(",")[0].strip() or None,
        severity=severity,
        score=score,
        summary=plain(summary)[:300],
    )


def _digests_of_target(report: _Grype) -> str:
    """The digests that Grype's `source.target` has: an object for an image, a path for a folder."""
    return msgspec.json.encode(report.source.target).decode() if report.source else ""
