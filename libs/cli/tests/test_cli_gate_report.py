"""`slipway gate report`, as somebody types it."""

from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from cli_commands import Slipway
from gate_evidence import refused

from slipway_bundle.trust.key_files import write_pair
from slipway_bundle.trust.keys import load_signer
from slipway_signals.gate.evidence import encode_evidence, sign_evidence


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    file = tmp_path / "evidence.json"
    file.write_bytes(encode_evidence(refused("10")))
    return file


def test_without_options_the_page_is_written_beside_the_evidence(slipway: Slipway, evidence: Path) -> None:
    said = slipway("gate", "report", str(evidence))

    page = evidence.with_suffix(".html")
    assert (said.status, said.out) == (0, f"{page}\n")
    assert "fail: sha256:" in said.err
    assert "the response has lost a field that callers read" in page.read_text()


def test_every_form_is_written_where_it_is_wanted(slipway: Slipway, evidence: Path, tmp_path: Path) -> None:
    names = {name: tmp_path / f"gate.{name}" for name in ("html", "markdown", "junit")}

    said = slipway("gate", "report", str(evidence), *(f"--{name}={path}" for name, path in names.items()), "--json")

    assert said.document["verdict"] == "fail"
    assert said.document["paths"] == [str(path) for path in names.values()]
    assert names["markdown"].read_text().startswith("## ▲ Fail: the candidate may not take this traffic")
    assert fromstring(names["junit"].read_bytes()).find("testsuite") is not None  # noqa: S314  # ours
    assert not evidence.with_suffix(".html").exists()


def test_a_report_of_a_signature_is_written_only_when_it_is_right(
    slipway: Slipway, evidence: Path, tmp_path: Path
) -> None:
    release, other = write_pair(tmp_path, "release", "ed25519"), write_pair(tmp_path, "other", "ed25519")
    signed = tmp_path / "signed.json"
    signed.write_bytes(sign_evidence(refused("10"), load_signer(release.private, environ={})))

    right = slipway("gate", "report", str(signed), "--signer", release.public)
    page = signed.with_suffix(".html")
    assert (right.status, "signed by release" in page.read_text()) == (0, True)
    page.unlink()
    for file, key in ((signed, other.public), (evidence, release.public)):
        wrong = slipway("gate", "report", str(file), "--signer", key, "--html", str(page), "--json")
        assert (wrong.status, wrong.document["error"]["code"]) == (1, "signature_invalid")
    assert not page.exists()


@pytest.mark.parametrize(("content", "status", "code"), [(None, 3, "file_unreadable"), (b"{}", 1, "evidence_invalid")])
def test_what_cannot_be_read_is_an_error_with_its_name(
    slipway: Slipway, tmp_path: Path, content: bytes | None, status: int, code: str
) -> None:
    file = tmp_path / "evidence.json"
    if content is not None:
        file.write_bytes(content)

    said = slipway("gate", "report", str(file), "--json")

    assert (said.status, said.document["error"]["code"]) == (status, code)
    assert not file.with_suffix(".html").exists()
