"""A scanner's report as an in-toto statement beside the bundle, and back.

It judges nothing. The invariants: what is read back is what was attached; a report about another digest does not count;
a report whose predicate cannot be read is none.
Source: in-toto Attestation Framework, predicate `vulns/v0.2`; what it has no field for is in `annotations`.
"""

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

from slipway_bundle.attestations import read_statements
from slipway_bundle.digest import Digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.scan.vulnerability import Report, Severity, Vulnerability, merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import TrustedKey

__all__ = ["PREDICATE_TYPE", "read_reports", "statement_of"]

PREDICATE_TYPE: Final = "https://in-toto.io/attestation/vulns/v0.2"

MAX_SUMMARY: Final = 300
"""Characters of a summary that are kept; a statement has at most 4 MiB."""

Score = Annotated[float, Meta(ge=0, le=10)]


class _Wire(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is written to disk: camelCase, defaults left out, unknown fields accepted."""


class _Rated(_Wire, frozen=True, kw_only=True):
    method: str
    score: str


class _Details(_Wire, frozen=True, kw_only=True):
    package: str
    installed: str
    severity: Severity
    fixed: str | None = None
    score: Score | None = None
    aliases: tuple[str, ...] = ()
    summary: str = ""


class _Result(_Wire, frozen=True, kw_only=True):
    id: str
    severity: tuple[_Rated, ...] = ()
    annotations: tuple[_Details, ...] = ()


class _Database(_Wire, frozen=True, kw_only=True):
    last_update: dt.datetime


class _Scanner(_Wire, frozen=True, kw_only=True):
    uri: str
    version: str | None = None
    db: _Database
    result: tuple[_Result, ...]


class _Metadata(_Wire, frozen=True, kw_only=True):
    scan_started_on: dt.datetime
    scan_finished_on: dt.datetime
    packages: int | None = None


class _Predicate(_Wire, frozen=True, kw_only=True):
    scanner: _Scanner
    metadata: _Metadata


def statement_of(report: Report, *, name: str, digest: Digest) -> bytes:
    """The report as a statement about the bundle `name` whose index is `digest`; canonical JSON.

    Raises:
        JsonError: More than 4 MiB, which no registry need take.
    """
    from slipway_bundle.trust.statements import make_statement

    results = tuple(
        _Result(
            id=item.id,
            severity=_rated(item),
            annotations=(
                _Details(
                    package=item.package,
                    installed=item.installed,
                    severity=item.severity,
                    fixed=item.fixed,
                    score=item.score,
                    aliases=item.aliases,
                    summary=item.summary[:MAX_SUMMARY],
                ),
            ),
        )
        for item in report.vulnerabilities
    )
    predicate = _Predicate(
        scanner=_Scanner(
            uri=report.scanner, version=report.version, db=_Database(last_update=report.updated), result=results
        ),
        metadata=_Metadata(scan_started_on=report.scanned, scan_finished_on=report.scanned, packages=report.packages),
    )
    return make_statement(name, digest, predicate_type=PREDICATE_TYPE, predicate=predicate)


def read_reports(store: "Store", digest: Digest, *, keys: "Sequence[TrustedKey]" = ()) -> tuple[Report, ...]:
    """The reports that are attached to the bundle whose index is `digest`; raises as `read_statements`."""
    from slipway_bundle.trust.statements import decode_statement

    reports = []
    for found in read_statements(store, digest, PREDICATE_TYPE, keys=keys):
        try:
            _, predicate = decode_statement(found.statement, _Predicate, predicate_type=PREDICATE_TYPE, subject=digest)
        except IntegrityError:
            continue
        reports.append(_report(predicate))
    return tuple(reports)


def _report(predicate: _Predicate) -> Report:
    scanner = predicate.scanner
    return Report(
        scanner=scanner.uri,
        version=scanner.version,
        scanned=_utc(predicate.metadata.scan_finished_on),
        updated=_utc(scanner.db.last_update),
        packages=predicate.metadata.packages,
        vulnerabilities=merge(
            Vulnerability(
                id=result.id,
                aliases=details.aliases,
                package=details.package,
                installed=details.installed,
                fixed=details.fixed,
                severity=details.severity,
                score=details.score,
                summary=details.summary,
            )
            for result in scanner.result
            for details in result.annotations or (_nameless(),)
        ),
    )


def _nameless() -> _Details:
    """A result of another writer, who did not say which package: it still blocks, and no exception fits it."""
    return _Details(package="(not said)", installed="", severity="unknown")


def _rated(item: Vulnerability) -> tuple[_Rated, ...]:
    word = _Rated(method="severity", score=item.severity)
    return (word,) if item.score is None else (word, _Rated(method="cvss_score", score=f"{item.score:.1f}"))


def _utc(time: dt.datetime) -> dt.datetime:
    return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
