"""`slipway bundle compatible`, and the contract that a live server tells."""

import shutil
from pathlib import Path

import httpx
from cli_commands import Slipway, served

from slipway_bundle.compatibility import compare_contracts, contract_of_bundle, contract_of_openapi
from slipway_bundle.store import Store


def changed(churn: Path, folder: Path, old: str, new: str, version: str) -> Path:
    """Churn with another line in its service, under a version."""
    shutil.copytree(churn, folder, ignore=shutil.ignore_patterns("__pycache__"))
    service = folder / "src" / "churn_service" / "service.py"
    assert old in service.read_text()
    service.write_text(service.read_text().replace(old, new))
    settings = folder / "slipway.toml"
    settings.write_text(settings.read_text().replace('name = "churn"', f'name = "churn"\nversion = "{version}"', 1))
    golden = folder / "golden.jsonl"
    golden.write_text("".join(golden.read_text().splitlines(keepends=True)[:3]))  # the others are at the edges
    shutil.copy(churn.parents[1] / "requirements.lock", folder)
    return folder


def test_a_narrowed_field_needs_a_major_version(slipway: Slipway, churn: Path, tmp_path: Path) -> None:
    same = changed(churn, tmp_path / "one", "le=1_000", "le=1_000", "1.0.0")
    minor = changed(churn, tmp_path / "two", "le=1_000", "le=100", "1.1.0")
    major = changed(churn, tmp_path / "three", "le=1_000", "le=100", "2.0.0")
    for folder in (same, minor, major):
        assert slipway("bundle", "build", folder).status == 0

    refused = slipway("bundle", "compatible", "churn:1.0.0", "churn:1.1.0")
    allowed = slipway("bundle", "compatible", "churn:1.0.0", "churn:2.0.0", "--json")

    assert refused.status == 1
    assert refused.out.splitlines() == [
        "breaking\tPOST /predict request\t$.support_calls\tnarrowed\tmaximum\t1000\t100",
        "breaking\tmodel churn inputs\t$.support_calls\tnarrowed\tmaximum\t1000\t100",
    ]
    assert "cannot take the place of churn:1.0.0: 2 breaking changes" in refused.err
    assert "higher major version" in refused.err
    assert allowed.status == 0
    assert allowed.document["is_major"] is True
    assert [finding["is_breaking"] for finding in allowed.document["findings"]] == [True, True]


def test_a_server_tells_the_contract_of_its_bundle(with_churn: Slipway, built_home: Path) -> None:
    ref = with_churn("bundle", "list").out.split()[0]
    with served(ref, home=built_home) as url:
        told = contract_of_openapi(httpx.get(f"{url}/openapi.json").json())

    stored = contract_of_bundle(Store.open(built_home / "store"), ref)
    found = compare_contracts(stored, told)

    assert told.version == stored.version
    assert [route.path for route in told.endpoints] == ["/predict"]
    assert [one.what for one in found.findings if one.is_breaking] == ["model"]  # it does not tell the tensors of /v2
    assert [one for one in found.findings if "predict" in one.where] == []
