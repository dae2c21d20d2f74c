"""Small OSV records and scanners' reports, in the shapes of their documentation; names and versions are invented."""

import datetime as dt
import json
import zipfile
from pathlib import Path
from typing import Any

NOW = dt.datetime(2031, 5, 20, 12, 0, tzinfo=dt.UTC)

CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
MEDIUM = "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"

IMAGE = "sha256:" + "1d" * 32


def record(
    identity: str = "GHSA-wxyz-2345-6789",
    *,
    name: str = "NumPy",
    events: list[dict[str, str]] | None = None,
    vector: str | None = CRITICAL,
    **more: Any,
) -> dict[str, Any]:
    """An OSV record about one package; by default every version below 9.0 is affected."""
    affected = {
        "package": {"ecosystem": "PyPI", "name": name, "purl": f"pkg:pypi/{name.lower()}"},
        "ranges": [{"type": "ECOSYSTEM", "events": events or [{"introduced": "0"}, {"fixed": "9.0"}]}],
    }
    affected |= {key: more.pop(key) for key in ("versions", "ranges") if key in more}
    return {
        "schema_version": "1.7.0",
        "id": identity,
        "modified": "2031-05-19T08:00:00.123456Z",
        "published": "2031-05-01T00:00:00Z",
        "aliases": ["CVE-2031-1001"],
        "summary": "a crafted array runs code",
        "details": "long",
        "severity": [{"type": "CVSS_V3", "score": vector}] if vector else [],
        "affected": [affected],
        "references": [{"type": "WEB", "url": "https://example.com/advisory"}],
        **more,
    }


def write_records(folder: Path, *records: dict[str, Any]) -> Path:
    """A folder of records, one a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in records:
        (folder / f"{item['id']}.json").write_text(json.dumps(item))
    return folder


def write_export(path: Path, *records: dict[str, Any]) -> Path:
    """A zip as OSV exports it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in records:
            archive.writestr(f"{item['id']}.json", json.dumps(item))
    return path


def trivy(**more: Any) -> dict[str, Any]:
    """Schema 2, `trivy image --format json`."""
    return {
        "SchemaVersion": 2,
        "Trivy": {"Version": "0.70.1"},
        "ReportID": "0197a0a0-0000-7000-8000-000000000001",
        "CreatedAt": "2031-05-20T09:00:00.000000005Z",
        "ArtifactName": "registry.example.com/tiny",
        "ArtifactType": "container_image",
        "Metadata": {
            "Size": 123456,
            "OS": {"Family": "debian", "Name": "12.9"},
            "ImageID": IMAGE,
            "RepoDigests": [f"registry.example.com/tiny@{IMAGE}"],
        },
        "Results": [
            {
                "Target": "tiny (debian 12.9)",
                "Class": "os-pkgs",
                "Type": "debian",
                "Packages": [{"Name": "libexample1", "Version": "1.2-3"}],
                "Vulnerabilities": [
                    {
                        "VulnerabilityID": "CVE-2031-2002",
                        "PkgName": "libexample1",
                        "InstalledVersion": "1.2-3",
                        "Status": "affected",
                        "Severity": "LOW",
                        "Title": "libexample: a leak",
                    }
                ],
            },
            {
                "Target": "Python",
                "Class": "lang-pkgs",
                "Type": "python-pkg",
                "Packages": [{"Name": "numpy", "Version": "2.0.1"}],
                "Vulnerabilities": [
                    {
                        "VulnerabilityID": "CVE-2031-1001",
                        "VendorIDs": ["GHSA-wxyz-2345-6789"],
                        "PkgName": "Num.Py",
                        "InstalledVersion": "2.0.1",
                        "FixedVersion": "9.0, 10.0",
                        "Status": "fixed",
                        "Severity": "MEDIUM",
                        "SeveritySource": "ghsa",
                        "Title": "a crafted array runs code",
                        "CVSS": {
                            "ghsa": {"V3Vector": MEDIUM, "V3Score": 6.1},
                            "nvd": {"V2Vector": "AV:N/AC:L/Au:N/C:C/I:C/A:C", "V3Vector": CRITICAL, "V3Score": 9.8},
                        },
                    }
                ],
            },
            {"Target": "usr/bin/python3.11", "Class": "lang-pkgs", "Type": "gobinary"},
        ],
        **more,
    }


def grype(**more: Any) -> dict[str, Any]:
    """`grype IMAGE -o json`, database of version 6."""
    return {
        "matches": [
            {
                "vulnerability": {
                    "id": "GHSA-wxyz-2345-6789",
                    "dataSource": "https://github.com/advisories/GHSA-wxyz-2345-6789",
                    "namespace": "github:language:python",
                    "severity": "Critical",
                    "description": "a crafted array runs code",
                    "cvss": [
                        {"type": "Secondary", "version": "3.1", "vector": CRITICAL, "metrics": {"baseScore": 9.8}}
                    ],
                    "fix": {"versions": ["9.0"], "state": "fixed"},
                    "advisories": [],
                    "risk": 12.5,
                },
                "relatedVulnerabilities": [{"id": "CVE-2031-1001", "cvss": [], "severity": "Critical"}],
                "matchDetails": [{"type": "exact-direct-match", "matcher": "python-matcher"}],
                "artifact": {
                    "id": "ab12",
                    "name": "numpy",
                    "version": "2.0.1",
                    "type": "python",
                    "purl": "pkg:pypi/numpy@2.0.1",
                },
            }
        ],
        "ignoredMatches": [],
        "source": {
            "type": "image",
            "target": {"userInput": "registry.example.com/tiny", "imageID": "", "manifestDigest": IMAGE},
        },
        "distro": {"name": "debian", "version": "12", "idLike": []},
        "descriptor": {
            "name": "grype",
            "version": "0.119.0",
            "timestamp": "2031-05-20T09:30:00.5Z",
            "db": {"status": {"schemaVersion": "v6.1.9", "built": "2031-05-19T06:30:41Z", "valid": True}},
        },
        **more,
    }


def osv_scanner(**more: Any) -> dict[str, Any]:
    """`osv-scanner scan --format json`; it names no image and no time."""
    return {
        "results": [
            {
                "source": {"path": "/src/requirements.lock", "type": "lockfile"},
                "packages": [
                    {
                        "package": {"name": "numpy", "version": "2.0.1", "ecosystem": "PyPI"},
                        "vulnerabilities": [record()],
                        "groups": [
                            {"ids": ["GHSA-wxyz-2345-6789"], "aliases": ["CVE-2031-1001"], "max_severity": "9.8"}
                        ],
                    }
                ],
            }
        ],
        "experimental_config": {"licenses": {"summary": False, "allowlist": None}},
        **more,
    }


def encoded(document: object) -> bytes:
    """As a file has it."""
    return json.dumps(document).encode()
