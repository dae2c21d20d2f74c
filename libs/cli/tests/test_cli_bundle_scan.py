"""`slipway bundle sbom`, `attest` and `scan`: what they print, and what stops a release."""

import json
import shutil
from pathlib import Path

import pytest
from cli_commands import Slipway

RECORD = {
    "id": "GHSA-wxyz-2345-6789",
    "modified": "2031-05-19T08:00:00Z",
    "aliases": ["CVE-2031-1001"],
    "summary": "a crafted array runs code",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "numpy"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}

POLICY = """\
[vulnerabilities]
block = "high"

[[vulnerabilities.exceptions]]
id = "CVE-2031-1001"
package = "numpy"
reason = "arrays come from our own code"
until = 2999-12-31
approved_by = "security@example.com"
"""


@pytest.fixture
def with_copy(
    built_home: Path, home: Path, slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Slipway:
    """`slipway` on a store of the test's own that holds churn, in a folder without a policy."""
    shutil.copytree(built_home, home)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return slipway


@pytest.fixture
def osv(tmp_path: Path) -> Path:
    """OSV data with one record, which means every numpy."""
    path = tmp_path / "record.json"
    path.write_text(json.dumps(RECORD))
    return path


def test_sbom_prints_the_document_and_nothing_else(with_churn: Slipway) -> None:
    said = with_churn("bundle", "sbom", "churn", "--platform", "linux/arm64", "--python", "3.12")

    assert said.status == 0
    assert said.document["bomFormat"] == "CycloneDX"
    assert {"name": "io.slipway.platform", "value": "linux/arm64"} in said.document["properties"]
    assert "linux/arm64, Python 3.12" in said.err


def test_sbom_for_an_unknown_platform_is_wrong_usage(with_churn: Slipway) -> None:
    said = with_churn("bundle", "sbom", "churn", "--platform", "linux/riscv64")

    assert said.status == 2
    assert "linux/amd64 or linux/arm64" in said.err


def test_what_is_attached_is_named_by_its_digest(with_copy: Slipway) -> None:
    sbom = with_copy("bundle", "sbom", "churn", "--attach").out
    attested = with_copy("bundle", "attest", "churn", "--builder", "https://ci.example.com/release")

    assert attested.status == 0
    assert attested.out.splitlines()[0] == sbom.strip()
    assert len(attested.out.splitlines()) == 2
    assert "https://ci.example.com/release, not signed" in attested.err


def test_a_known_vulnerable_wheel_stops_the_release_by_name(with_copy: Slipway, osv: Path) -> None:
    said = with_copy("-q", "bundle", "scan", "churn", "--osv", osv)

    assert said.status == 1
    assert "CVE-2031-1001" in said.err
    assert "numpy 99.0 is without it" in said.err
    assert "[[vulnerabilities.exceptions]]" in said.err


def test_an_exception_of_the_policy_lets_it_pass(with_copy: Slipway, osv: Path) -> None:
    Path("policy.toml").write_text(POLICY)

    said = with_copy("bundle", "scan", "churn", "--osv", osv)

    assert said.status == 0
    assert "excused until 2999-12-31 by security@example.com" in said.err
    assert said.out.startswith("sha256:")


def test_the_option_wins_over_the_policy(with_copy: Slipway, osv: Path) -> None:
    medium = {**RECORD, "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"}]}
    osv.write_text(json.dumps(medium | {"aliases": []}))
    Path("policy.toml").write_text(POLICY)

    assert with_copy("bundle", "scan", "churn", "--osv", osv).status == 0
    assert with_copy("bundle", "scan", "churn", "--osv", osv, "--block", "medium").status == 1


def test_the_report_is_one_document_under_json(with_copy: Slipway, osv: Path) -> None:
    said = with_copy("bundle", "scan", "churn", "--osv", osv, "--no-attach", "--json")

    assert said.status == 1
    assert said.document["attached"] is None
    assert said.document["report"]["vulnerabilities"][0]["fixed"] == "99.0"
    assert said.document["verdict"]["is_allowed"] is False


def test_a_report_is_signed_by_the_key_that_is_given(with_copy: Slipway, osv: Path) -> None:
    from slipway_bundle.trust.keys import make_key

    Path("ci.pem").write_bytes(make_key("ed25519")[0])

    said = with_copy("bundle", "scan", "churn", "--osv", osv, "--key", "ci.pem", "--json")

    assert said.document["attached"]["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_an_unsigned_report_where_signed_ones_are_asked_for_is_told(with_copy: Slipway, osv: Path) -> None:
    from slipway_bundle.trust.keys import make_key

    private, public = make_key("ed25519")
    Path("ci.pem").write_bytes(private)
    Path("ci.pub").write_bytes(public)
    Path("policy.toml").write_text(f'{POLICY}\n[keys.ci]\nfile = "ci.pub"\n\n[signatures]\nby = ["ci"]\n')

    unsigned = with_copy("bundle", "scan", "churn", "--osv", osv)
    judged = with_copy("policy", "check", "churn", "--json")
    signed = with_copy("bundle", "scan", "churn", "--osv", osv, "--key", "ci.pem")
    again = with_copy("policy", "check", "churn", "--json")

    assert "this report has none" in unsigned.err
    assert "this report has none" not in signed.err
    assert "no vulnerability report that counts" in judged.out
    assert "no vulnerability report that counts" not in again.out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "one of `--osv` and `--report`"),
        (("--osv", "a", "--report", "b"), "one of `--osv` and `--report`"),
        (("--report", "b", "--scanned-at", "noon"), "no RFC 3339 time"),
    ],
)
def test_scan_says_what_is_wrong_with_its_options(with_churn: Slipway, options: tuple[str, ...], reason: str) -> None:
    said = with_churn("bundle", "scan", "churn", *options)

    assert said.status == 2
    assert reason in said.err


def test_a_report_that_cannot_be_read_is_no_answer(with_churn: Slipway, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"version": "2.1.0", "runs": []}')

    said = with_churn("bundle", "scan", "churn", "--report", path, "--json")

    assert said.status == 1
    assert said.document["error"]["code"] == "report_invalid"
