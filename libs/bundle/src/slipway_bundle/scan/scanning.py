"""Scanning a bundle: what it installs, looked up in OSV data or read from a scanner's report, attached and judged.

It is the one library call of `slipway bundle scan`. The invariant: a new report never hides what another scanner has
found; it takes the place of an older one of its own scanner only.
"""

import datetime as dt
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from slipway_bundle.attestations import attach_statement
from slipway_bundle.digest import Digest, parse_digest
from slipway_bundle.errors import FileError
from slipway_bundle.oci import Descriptor
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.sbom import locked_packages, targets_of
from slipway_bundle.scan.attested import read_reports, statement_of
from slipway_bundle.scan.judge import judge
from slipway_bundle.scan.osv_data import scan_osv
from slipway_bundle.scan.reports import MAX_REPORT_BYTES, read_report
from slipway_bundle.scan.rules import VulnerabilityRules
from slipway_bundle.scan.vulnerability import Report
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.targets import Target
from slipway_bundle.trust.findings import Verdict, verdict_of
from slipway_bundle.trust.keys import Signer

__all__ = ["Scanned", "scan"]


class Scanned(Struct, frozen=True, kw_only=True):
    """The answer of `scan`."""

    ref: str
    digest: Digest
    report: Report
    attached: Descriptor | None
    """Of the referrer that holds the report; None when it was not to be attached."""

    verdict: Verdict


def scan(
    store: Store,
    ref: str,
    *,
    rules: VulnerabilityRules,
    now: dt.datetime,
    osv: str | None = None,
    report: Path | None = None,
    scanned: dt.datetime | None = None,
    targets: Sequence[Target] = (),
    signer: Signer | None = None,
    is_attaching: bool = True,
    progress: Progress = QUIET,
) -> Scanned:
    """Finds the known vulnerabilities of the bundle that `ref` means, attaches the report, and judges it.

    Args:
        store: Where the bundle is.
        ref: Any form that means one bundle.
        rules: `[vulnerabilities]`.
        now: The time, aware.
        osv: OSV data: a record, a folder, a zip, or a URL. Exactly one of `osv` and `report`.
        report: A JSON report of Trivy, Grype or OSV-Scanner.
        scanned: When `report` was made, where it does not say.
        targets: Whose packages are looked up in `osv`: by default those of the bundle's images, else this
            interpreter's.
        signer: Who signs the report.
        is_attaching: Whether the report becomes a referrer of the bundle.
        progress: Told the bytes of `osv`.

    Raises:
        UsageError: The reference is wrong, or the report is about another image (ReportSubjectError).
        IntegrityError: The bundle, the data or the report cannot be read (ReportInvalidError, OsvDataError).
        HostError: A file or a feed cannot be read, or the store cannot be written.
    """
    bundle = read_bundle(store, ref)
    digest = parse_digest(bundle.digest)
    if report is not None:
        found = read_report(_read(report), where=str(report), digests=_digests(bundle), scanned=scanned)
    else:
        found = _look_up(store, bundle, osv or "", targets or targets_of(bundle), now, progress)
    name = f"{bundle.manifest.name}:{bundle.manifest.version}"
    attached = None
    if is_attaching:
        statement = statement_of(found, name=name, digest=digest)
        attached = attach_statement(store, bundle.descriptor, statement, signer=signer)
    findings = judge([*read_reports(store, digest), found], rules, now=now, digest=digest)
    return Scanned(ref=name, digest=digest, report=found, attached=attached, verdict=verdict_of(findings))


def _look_up(
    store: Store, bundle: StoredBundle, osv: str, targets: Sequence[Target], now: dt.datetime, progress: Progress
) -> Report:
    """One report for all targets: they differ in markers, so one may install what another does not."""
    packages: dict[str, tuple[str, ...]] = {}
    for target in targets:
        for package in locked_packages(store, bundle, target):
            versions = {*packages.get(package.name, ()), package.version}
            packages[package.name] = tuple(sorted(versions))
    version = importlib.metadata.version("slipway-bundle")
    return scan_osv(osv, packages, now=now, version=version, progress=progress)


def _digests(bundle: StoredBundle) -> set[str]:
    """What a scanner may call this bundle: its index, a child, or a child's configuration."""
    children = {child.digest for child in bundle.index.manifests}
    configs = {document.config.digest for documents in bundle.children.values() for document in documents}
    return {bundle.digest, *children, *configs}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_REPORT_BYTES + 1)
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
