"""What `[vulnerabilities]` says: what blocks, what an exception excuses, which reports count."""

import datetime as dt
import shutil
from pathlib import Path

import msgspec
import pytest
from bundle_fakes import Shelf
from scan_samples import IMAGE, MEDIUM, NOW, encoded, grype, record, trivy, write_records

from slipway_bundle.attestations import attach_statement
from slipway_bundle.digest import Digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.policy import Policy
from slipway_bundle.referrers import attach
from slipway_bundle.registry import pull, push
from slipway_bundle.scan.attested import PREDICATE_TYPE, read_reports, statement_of
from slipway_bundle.scan.errors import ReportSubjectError
from slipway_bundle.scan.judge import judge, verdict
from slipway_bundle.scan.osv_data import OSV_SCANNER
from slipway_bundle.scan.rules import VulnerabilityException, VulnerabilityRules
from slipway_bundle.scan.scanning import Scanned, scan
from slipway_bundle.scan.vulnerability import Report, Severity, Vulnerability
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.trust.findings import Finding
from slipway_bundle.trust.keys import Signer, load_signer, make_key

HIGH = VulnerabilityRules(block="high")
DAY = dt.timedelta(days=1)


def vulnerability(severity: Severity = "critical", **more: object) -> Vulnerability:
    values = {"id": "CVE-2031-1001", "aliases": ("GHSA-wxyz-2345-6789",), "package": "numpy", "installed": "2.0.1"}
    return Vulnerability(**(values | {"severity": severity, "fixed": "9.0"} | more))  # type: ignore[arg-type]


def report(*found: Vulnerability, age: dt.timedelta = DAY, scanner: str = "pkg:generic/one", **more: object) -> Report:
    values = {"scanned": NOW - age, "updated": NOW - age, "packages": 3} | more
    return Report(scanner=scanner, vulnerabilities=found, **values)  # type: ignore[arg-type]


def judged(rules: VulnerabilityRules, *reports: Report) -> tuple[Finding, ...]:
    return judge(reports, rules, now=NOW, digest="sha256:ab")


def refusals(findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.status == "refused"]


def exception(**more: object) -> VulnerabilityException:
    values = {
        "id": "CVE-2031-1001",
        "package": "numpy",
        "reason": "arrays come from our own code only",
        "until": (NOW + 10 * DAY).date(),
        "approved_by": "security@example.com",
    }
    return VulnerabilityException(**(values | more))  # type: ignore[arg-type]


def test_no_report_is_not_the_same_as_no_vulnerability() -> None:
    for rules in (HIGH, VulnerabilityRules(max_report_age="7d")):
        (one,) = refusals(judged(rules))
        assert "no vulnerability report" in one.got
        assert "slipway bundle scan sha256:ab" in (one.hint or "")

    assert refusals(judged(HIGH, report())) == []


def test_a_refusal_names_package_vulnerability_mended_version_and_the_exception() -> None:
    (one,) = refusals(judged(HIGH, report(vulnerability(score=9.8, summary="a crafted array runs code"))))

    assert one.rule == "vulnerabilities.block"
    assert one.got == (
        "numpy 2.0.1 has CVE-2031-1001 (also GHSA-wxyz-2345-6789), critical 9.8: a crafted array runs code; "
        "numpy 9.0 is without it"
    )
    assert one.hint is not None
    assert "numpy>=9.0" in one.hint
    asked = msgspec.toml.decode(one.hint.partition("it:\n")[2], type=dict[str, dict[str, list[VulnerabilityException]]])
    (excused,) = asked["vulnerabilities"]["exceptions"]
    assert refusals(judged(VulnerabilityRules(block="high", exceptions=(excused,)), report(vulnerability()))) == []


def test_what_a_report_says_cannot_steer_a_terminal_or_end_a_string() -> None:
    evil = vulnerability(
        id='X"\nblock = "critical', package="num\x1b[2Jpy", summary="fine\u202e\r\nok  all good", aliases=("a\x07",)
    )

    (one,) = refusals(judged(HIGH, report(evil, scanner="pkg:generic/\x1b]0;title\x07")))

    assert all(letter.isprintable() for letter in one.got)
    assert "fine ok all good" in one.got
    lines = (one.hint or "").partition("it:\n")[2].splitlines()
    assert lines[:2] == ["[[vulnerabilities.exceptions]]", 'id = "X\\" block = \\"critical"']
    told = judged(HIGH, report(scanner="pkg:generic/\x1b]0;title\x07"))
    assert all(letter.isprintable() for finding in told for letter in finding.got)


@pytest.mark.parametrize(
    ("block", "severity", "is_refused"),
    [
        ("high", "medium", False),
        ("high", "high", True),
        ("high", "critical", True),
        ("medium", "medium", True),
        ("low", "none", False),
        ("critical", "high", False),
        ("critical", "unknown", True),
    ],
)
def test_what_blocks_is_the_severity_and_above(block: str, severity: Severity, *, is_refused: bool) -> None:
    rules = msgspec.convert({"block": block}, VulnerabilityRules)

    assert bool(refusals(judged(rules, report(vulnerability(severity))))) is is_refused


def test_an_unknown_severity_may_be_allowed() -> None:
    rules = VulnerabilityRules(block="low", unknown="allow")

    findings = judged(rules, report(vulnerability("unknown")))

    assert refusals(findings) == []
    assert any("CVE-2031-1001" in finding.got for finding in findings if finding.status == "warning")


def test_what_does_not_block_is_told() -> None:
    many = [vulnerability("low", id=f"CVE-2031-{number}", aliases=()) for number in range(8)]

    warning, ok = judged(HIGH, report(*many))

    assert (warning.status, ok.status) == ("warning", "ok")
    assert "8 below high" in warning.got
    assert warning.got.endswith("and 3 more")


def test_an_exception_excuses_one_vulnerability_of_one_package_until_its_day() -> None:
    rules = VulnerabilityRules(block="high", exceptions=(exception(),))

    findings = judged(rules, report(vulnerability(), vulnerability(package="scipy")))

    assert [finding.got.split()[0] for finding in refusals(findings)] == ["scipy"]
    (excused,) = (finding for finding in findings if finding.rule == "vulnerabilities.exceptions")
    assert "excused until 2031-05-30 by security@example.com: arrays come from our own code only" in excused.got


@pytest.mark.parametrize("name", ["CVE-2031-1001", "GHSA-wxyz-2345-6789", "ghsa-WXYZ-2345-6789"])
def test_an_exception_may_use_any_name(name: str) -> None:
    rules = VulnerabilityRules(block="high", exceptions=(exception(id=name, package="NumPy"),))

    assert refusals(judged(rules, report(vulnerability()))) == []


def test_an_exception_stands_through_its_last_day() -> None:
    late = dt.datetime(2031, 5, 20, 23, 59, tzinfo=dt.UTC)
    last = VulnerabilityRules(block="high", exceptions=(exception(until=dt.date(2031, 5, 20)),))

    assert refusals(judge([report(vulnerability())], last, now=late, digest="")) == []
    over = judge([report(vulnerability())], last, now=late + dt.timedelta(minutes=2), digest="")
    (one,) = refusals(over)
    assert "ended on 2031-05-20" in (one.hint or "")
    assert any(finding.rule == "vulnerabilities.exceptions" and "ended" in finding.got for finding in over)


@pytest.mark.parametrize("field", ["reason", "until", "approved_by", "package"])
def test_an_exception_that_is_not_whole_excuses_nothing_and_says_what_is_missing(field: str) -> None:
    partial = exception(**{field: None if field == "until" else "  "})

    findings = judged(VulnerabilityRules(block="high", exceptions=(partial,)), report(vulnerability()))

    assert refusals(findings)
    assert any(f"it has no {field}" in finding.got for finding in findings if finding.status == "warning")


def test_an_exception_that_nothing_needs_is_told() -> None:
    (_, told) = judged(VulnerabilityRules(block="high", exceptions=(exception(),)), report())

    assert told.status == "warning"
    assert "excuses nothing here" in told.got


def test_a_report_grows_old_and_so_do_the_data_it_is_made_from() -> None:
    rules = VulnerabilityRules(max_report_age="7d")

    assert refusals(judged(rules, report(age=7 * DAY))) == []
    assert refusals(judged(rules, report(age=8 * DAY)))
    assert refusals(judged(rules, report(age=DAY, updated=NOW - 8 * DAY)))


def test_a_report_from_the_future_does_not_count() -> None:
    """It would never grow old, and it would hide what was found before it."""
    rules = VulnerabilityRules(block="high", max_report_age="7d")
    future = report(age=-1 * DAY)

    assert "future" in refusals(judged(rules, future))[0].got
    assert "CVE-2031-1001" in refusals(judged(rules, future, report(vulnerability())))[0].got


def test_the_newest_report_of_each_scanner_counts() -> None:
    older = report(vulnerability(), age=3 * DAY)

    assert refusals(judged(HIGH, report(age=DAY), older)) == []
    assert refusals(judged(HIGH, report(vulnerability(), age=DAY), report(age=3 * DAY)))


def test_an_empty_report_of_one_scanner_does_not_hide_what_another_found() -> None:
    assert refusals(judged(HIGH, report(vulnerability(), age=3 * DAY), report(scanner="pkg:generic/two")))


# -- with a bundle ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(store: Store, shelf: Shelf) -> StoredBundle:
    """The shelf's bundle in a store of the test's own."""
    shutil.copytree(shelf.store.root, store.root)
    return read_bundle(store, "tiny")


def scanned(store: Store, folder: Path, *records: dict[str, object], **more: object) -> Scanned:
    values = {"rules": HIGH, "now": NOW, "osv": str(write_records(folder, *records))} | more
    return scan(store, "tiny", **values)  # type: ignore[arg-type]


def test_a_report_that_is_attached_is_read_back_as_it_was(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    made = scanned(store, tmp_path / "osv", record(), record("PYSEC-2031-5", aliases=[], vector=MEDIUM))

    assert len(made.report.vulnerabilities) == 2
    assert read_reports(store, Digest(bundle.digest)) == (made.report,)
    assert not made.verdict.is_allowed


def test_the_attached_report_is_what_the_policy_judges(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    scanned(store, tmp_path / "osv", record())

    assert refusals(verdict(store, Digest(bundle.digest), HIGH, now=NOW))
    assert refusals(verdict(store, Digest("sha256:" + "0" * 64), HIGH, now=NOW))[0].got.startswith("no vulnerability")


def test_nothing_is_attached_when_nobody_wants_it(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    before = store.entries()

    made = scanned(store, tmp_path / "osv", record(), is_attaching=False)

    assert made.attached is None
    assert not made.verdict.is_allowed
    assert store.entries() == before


def test_a_report_of_another_scanner_is_attached_and_judged(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    path = tmp_path / "grype.json"
    path.write_bytes(encoded(grype(source={"type": "image", "target": {"manifestDigest": bundle.digest}})))

    made = scan(store, "tiny", rules=HIGH, now=NOW, report=path)

    assert "CVE-2031-1001" in refusals(made.verdict.findings)[0].got
    assert read_reports(store, Digest(bundle.digest)) == (made.report,)


def test_a_report_about_another_bundle_is_not_attached(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    path = tmp_path / "trivy.json"
    path.write_bytes(encoded(trivy()))

    with pytest.raises(ReportSubjectError, match=IMAGE):
        scan(store, "tiny", rules=HIGH, now=NOW, report=path)

    assert read_reports(store, Digest(bundle.digest)) == ()


def test_with_keys_only_what_they_signed_counts(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    """An attacker who may write to the registry attaches an empty report: unsigned, or signed by a key of his own."""
    signer, stranger = (signer_at(tmp_path / name) for name in ("ci", "stranger"))
    scanned(store, tmp_path / "osv", record(), signer=signer)
    digest = Digest(bundle.digest)
    clean = statement_of(report(age=dt.timedelta(0), scanner=OSV_SCANNER), name="tiny:1", digest=digest)

    attach_statement(store, bundle.descriptor, clean)
    attach_statement(store, bundle.descriptor, clean, signer=stranger)

    assert len(read_reports(store, digest)) == 3
    assert "CVE-2031-1001" in refusals(verdict(store, digest, HIGH, now=NOW, keys=(signer.key,)))[0].got


def test_a_key_past_its_day_opens_nothing(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    """Nor does it make unsigned reports count again."""
    signer = signer_at(tmp_path / "ci")
    clean = statement_of(report(), name="tiny:1", digest=Digest(bundle.digest))
    attach_statement(store, bundle.descriptor, clean)
    attach_statement(store, bundle.descriptor, clean, signer=signer)
    live, over = (msgspec.structs.replace(signer.key, until=NOW.date() + days * DAY) for days in (0, -1))

    assert refusals(verdict(store, Digest(bundle.digest), HIGH, now=NOW, keys=(live,))) == []
    assert refusals(verdict(store, Digest(bundle.digest), HIGH, now=NOW, keys=(over,)))


def test_a_vulnerable_bundle_is_not_pulled(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    """The report goes with the bundle to a registry, and the policy of whoever pulls is asked before a layer comes."""
    scanned(store, tmp_path / "osv", record(), now=dt.datetime.now(dt.UTC))
    push(store, "tiny", f"oci:{tmp_path / 'registry'}", environ={})
    source = f"oci:{tmp_path / 'registry'}:tiny:{bundle.manifest.version}"
    elsewhere = Store.open(tmp_path / "elsewhere")

    with pytest.raises(IntegrityError, match="CVE-2031-1001"):
        pull(source, elsewhere, environ={}, policy=Policy(vulnerabilities=HIGH))
    assert elsewhere.refs() == ()

    allowed = VulnerabilityRules(block="high", exceptions=(exception(until=dt.date(2999, 1, 1)),))
    pull(source, elsewhere, environ={}, policy=Policy(vulnerabilities=allowed))

    assert len(read_reports(elsewhere, Digest(bundle.digest))) == 1


def test_a_report_of_another_bundle_proves_nothing_here(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    """A signed and clean report, taken from another bundle and attached to this one."""
    signer = signer_at(tmp_path / "ci")
    foreign = statement_of(report(), name="other:1", digest=Digest("sha256:" + "3f" * 32))
    attach_statement(store, bundle.descriptor, foreign, signer=signer)

    (one,) = refusals(verdict(store, Digest(bundle.digest), HIGH, now=NOW, keys=(signer.key,)))

    assert "no vulnerability report" in one.got


def test_strange_referrers_are_passed_over(store: Store, bundle: StoredBundle, tmp_path: Path) -> None:
    scanned(store, tmp_path / "osv", record())
    for junk in (b"", b"{}", b"[" * 50_000, b'{"predicateType": "%s"}' % PREDICATE_TYPE.encode()):
        attach(store, bundle.descriptor, artifact_type="application/vnd.in-toto+json", blobs=[(junk, "text/plain")])

    assert len(read_reports(store, Digest(bundle.digest))) == 1


def signer_at(path: Path) -> Signer:
    """A new key, in a file."""
    private, _ = make_key("ed25519")
    path.write_bytes(private)
    return load_signer(str(path), environ={})
