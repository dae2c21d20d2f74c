"""`scripts/release.sh`: from a folder to a signed bundle in a registry, or to the reason why not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_fakes import train
from cli_commands import ROOT
from image_fakes import Workshop
from trust_fakes import Keys

from slipway_bundle import Store
from slipway_bundle.digest import parse_digest
from slipway_bundle.referrers import referrers

SCRIPT = ROOT / "scripts" / "release.sh"
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """What a release is made from; copy it to change it."""
    made = Workshop.make(tmp_path_factory.mktemp("bench") / "home", train())
    made.fetch()
    return made


@pytest.fixture
def workshop(bench: Workshop, tmp_path: Path) -> Workshop:
    return bench.copy(tmp_path / "home")


def release(workshop: Workshop, package: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Release `tiny`, while every version of `package` before 2.0 is known to be vulnerable."""
    record = {
        "id": "GHSA-wxyz-2345-6789",
        "modified": "2026-05-19T08:00:00Z",
        "aliases": ["CVE-2026-1001"],
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
            }
        ],
    }
    (workshop.root / "osv.json").write_text(json.dumps(record))
    environment = workshop.environ | {
        "SLIPWAY_HOME": str(workshop.root),
        "SLIPWAY_KEY": str(Keys(workshop.root).make("release")),
        "SLIPWAY_OSV": str(workshop.root / "osv.json"),
        "SLIPWAY_BASE": workshop.base,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **more,
    }
    return subprocess.run(
        ["sh", str(SCRIPT), str(workshop.folder), f"oci:{workshop.root / 'registry'}"],
        env=environment,
        cwd=workshop.root,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_release_ends_with_what_to_deploy(workshop: Workshop) -> None:
    said = release(workshop, "something-else")

    assert said.returncode == 0, said.stderr
    place, _, named = said.stdout.strip().partition("@")
    digest = parse_digest(named)
    there = Store.open(workshop.root / "registry")
    kinds = {
        one.annotations.get("dev.sigstore.bundle.predicateType", one.artifact_type) for one in referrers(there, digest)
    }
    assert place == f"oci:{workshop.root / 'registry'}"
    assert [ref.digest for ref in there.refs()] == [digest]
    assert "application/vnd.cyclonedx+json" in kinds
    assert "https://slsa.dev/provenance/v1" in kinds
    assert "https://sigstore.dev/cosign/sign/v1" in kinds


def test_a_wheel_that_is_known_to_be_vulnerable_stops_it_with_the_way_out(workshop: Workshop) -> None:
    said = release(workshop, "purepack")

    assert said.returncode == 1
    assert said.stdout == ""
    for part in ("purepack", "1.0", "2.0", "CVE-2026-1001", "[[vulnerabilities.exceptions]]", "approved_by"):
        assert part in said.stderr
    assert "signing" not in said.stderr
    assert not (workshop.root / "registry").exists()


def test_without_a_key_nothing_is_begun(workshop: Workshop) -> None:
    said = release(workshop, "purepack", SLIPWAY_KEY="")

    assert said.returncode == 2
    assert "SLIPWAY_KEY=FILE" in said.stderr
    assert "release: building" not in said.stderr


def test_a_release_that_cannot_be_compared_names_nothing_to_deploy(workshop: Workshop) -> None:
    """It is in the registry by then, and nobody is told its digest."""
    said = release(workshop, "something-else", SLIPWAY_STABLE=f"oci:{workshop.root / 'nowhere'}:tiny:1.0.0")

    assert said.returncode != 0
    assert said.stdout == ""
    assert "comparing it with" in said.stderr
    assert (workshop.root / "registry").exists()
