"""Reports of other scanners: read into one form, refused where they are strange, about something else or too old."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scan_samples import IMAGE, NOW, encoded, grype, osv_scanner, record, trivy

from slipway_bundle.scan import reports
from slipway_bundle.scan.errors import ReportInvalidError, ReportSubjectError
from slipway_bundle.scan.reports import read_report
from slipway_bundle.scan.vulnerability import Report


def read(document: object, *, scanned: dt.datetime | None = None, digests: tuple[str, ...] = (IMAGE,)) -> Report:
    data = document if isinstance(document, bytes) else encoded(document)
    return read_report(data, where="report.json", digests=digests, scanned=scanned)


def test_trivy_is_read() -> None:
    report = read(trivy())

    system, python = report.vulnerabilities
    assert (report.scanner, report.version) == ("pkg:github/aquasecurity/trivy", "0.70.1")
    assert report.scanned == dt.datetime(2031, 5, 20, 9, tzinfo=dt.UTC)
    assert report.packages == 2
    assert (system.package, system.installed, system.severity, system.fixed) == ("libexample1", "1.2-3", "low", None)
    assert (python.package, python.installed, python.fixed) == ("num-py", "2.0.1", "9.0")
    assert (python.id, python.aliases) == ("CVE-2031-1001", ("GHSA-wxyz-2345-6789",))


def test_of_two_vendors_the_careful_one_counts() -> None:
    """Trivy's word is `MEDIUM`, after GitHub; NVD's vector is critical."""
    assert read(trivy()).vulnerabilities[1].severity == "critical"


def test_grype_is_read() -> None:
    report = read(grype())

    (one,) = report.vulnerabilities
    assert (report.scanner, report.version) == ("pkg:github/anchore/grype", "0.119.0")
    assert report.updated == dt.datetime(2031, 5, 19, 6, 30, 41, tzinfo=dt.UTC)
    assert (one.id, one.aliases) == ("CVE-2031-1001", ("GHSA-wxyz-2345-6789",))
    assert (one.package, one.installed, one.fixed, one.severity) == ("numpy", "2.0.1", "9.0", "critical")


def test_grype_with_an_older_database_is_read() -> None:
    descriptor = {"name": "grype", "version": "0.79.1", "timestamp": "2031-05-20T09:30:00Z"}
    older = grype(descriptor=descriptor | {"db": {"built": "2031-05-18T00:00:00Z", "schemaVersion": 5}})

    assert read(older).updated == dt.datetime(2031, 5, 18, tzinfo=dt.UTC)


def test_osv_scanner_is_read() -> None:
    report = read(osv_scanner(), scanned=NOW)

    (one,) = report.vulnerabilities
    assert report.scanner == "pkg:github/google/osv-scanner"
    assert (one.id, one.package, one.installed, one.fixed) == ("CVE-2031-1001", "numpy", "2.0.1", "9.0")
    assert one.severity == "critical"


def test_what_osv_scanner_has_matched_is_believed_without_a_range() -> None:
    """A record that is about a commit, or another ecosystem: the group has the severity."""
    item = record(vector=None, ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}])
    report = osv_scanner()
    report["results"][0]["packages"][0]["vulnerabilities"] = [item]

    (one,) = read(report, scanned=NOW).vulnerabilities

    assert (one.package, one.severity, one.fixed) == ("numpy", "critical", None)


def test_a_report_without_findings_is_a_report() -> None:
    assert read(trivy(Results=None)).vulnerabilities == ()
    assert read(grype(matches=[])).vulnerabilities == ()
    assert read(osv_scanner(results=None), scanned=NOW).vulnerabilities == ()


def test_a_report_about_another_image_is_refused() -> None:
    other = "sha256:" + "2e" * 32

    for document in (trivy(), grype()):
        with pytest.raises(ReportSubjectError, match="another image") as refused:
            read(document, digests=(other,))
        assert IMAGE in refused.value.message


def test_a_report_that_names_no_image_is_taken_at_its_word() -> None:
    folder = grype(source={"type": "directory", "target": "/src"})

    assert read(folder, digests=()).vulnerabilities


@pytest.mark.parametrize("document", [osv_scanner(), trivy(CreatedAt=None), grype(descriptor={"name": "grype"})])
def test_a_report_without_its_time_needs_somebody_who_says_it(document: dict[str, object]) -> None:
    with pytest.raises(ReportInvalidError, match="does not say when") as refused:
        read(document)

    assert "--scanned-at" in (refused.value.hint or "")
    assert read(document, scanned=NOW).scanned == NOW


HOSTILE = {
    "empty": b"",
    "no JSON": b"<html>",
    "a list": b"[]",
    "another scanner": b'{"version": "2.1.0", "runs": []}',
    "half": encoded(trivy())[:-40],
    "a key twice": b'{"results": [], "results": []}',
    "deep": b'{"results": ' + b"[" * 200_000,
    "not finite": b'{"results": NaN}',
    "a huge integer": b'{"results": [], "n": 1' + b"0" * 5000 + b"}",
    "a wrong type": encoded(trivy(Results={"Target": 1})),
    "a wrong type within": encoded(grype(matches=[{"vulnerability": {"id": 7}, "artifact": {}}])),
    "no name": encoded(grype(matches=[{"vulnerability": {"id": ""}, "artifact": {"name": "x", "version": "1"}}])),
    "a long name": encoded(grype(matches=[{"vulnerability": {"id": "x" * 600}, "artifact": {"name": "x"}}])),
    "no UTF-8": b'{"results": "\xff"}',
    "half a surrogate": b'{"results": [], "x": "\\ud800"}',
    "no time": encoded(trivy(CreatedAt="yesterday")),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_strange_report_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ReportInvalidError) as refused:
        read(data, scanned=NOW)

    assert "report.json" in refused.value.message
    assert len(refused.value.message) < 2_000


def test_a_report_that_is_too_long_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_REPORT_BYTES", 1_000)

    with pytest.raises(ReportInvalidError, match="too long"):
        read(trivy())


def test_a_report_of_too_many_findings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_FINDINGS", 1)

    with pytest.raises(ReportInvalidError, match="2 findings"):
        read(trivy())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    which=st.sampled_from([trivy, grype, osv_scanner]),
    path=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    value=VALUES,
)
def test_whatever_stands_anywhere_in_a_report_is_read_or_refused(which: object, path: list[int], value: object) -> None:
    """One place of a report is replaced by something else: an error of ours or a report, never another exception."""
    document = which()  # type: ignore[operator]  # one of the three
    place = document
    for step in path:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[step % len(keys)]
        if not isinstance(place[key], dict | list) or not place[key] or step == path[-1]:
            break
        place = place[key]
    place[key] = value

    try:
        made = read(document, scanned=NOW)
    except (ReportInvalidError, ReportSubjectError):
        return
    assert made.scanner
