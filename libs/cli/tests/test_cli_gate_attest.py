"""`slipway gate attest`: evidence stays with the bundle that it is about, and with no other."""

from pathlib import Path

import pytest
from cli_commands import Slipway
from gate_evidence import REFUSED, evidence_of
from gate_windows import Arms, gate_plan
from trust_fakes import Keys

from slipway_bundle import Store
from slipway_bundle.attestations import read_statements
from slipway_bundle.canonical import decode_json
from slipway_bundle.digest import parse_digest
from slipway_bundle.referrers import referrers
from slipway_bundle.trust.keys import load_key
from slipway_signals.gate.attesting import EVIDENCE_TYPE, PREDICATE
from slipway_signals.gate.evidence import encode_evidence

OTHER = f"sha256:{'a' * 64}"


@pytest.fixture
def digest(slipway: Slipway, churn: Path) -> str:
    """Of churn, built in a store of the test's own."""
    said = slipway("bundle", "build", churn, "--json")
    return str(said.document["digest"])


def refused(folder: Path, candidate: str, stable: str = OTHER) -> Path:
    """Evidence of a candidate that was refused before any traffic."""
    evidence = evidence_of(plan=gate_plan(digests={"stable": stable, "candidate": candidate}), checks=(REFUSED,))
    path = folder / "evidence.json"
    path.write_bytes(encode_evidence(evidence))
    return path


def test_evidence_and_a_signed_statement_become_referrers(
    slipway: Slipway, home: Path, digest: str, tmp_path: Path
) -> None:
    path, keys = refused(tmp_path, digest), Keys(tmp_path)

    said = slipway("gate", "attest", "churn", path, "--key", keys.make("ci"), "--json")

    store = Store.open(home / "store")
    (found,) = read_statements(store, parse_digest(digest), PREDICATE, keys=[load_key(tmp_path / "ci.pub")])
    predicate = decode_json(found.statement, dict[str, object], what="statement")["predicate"]
    (kept,) = referrers(store, parse_digest(digest), artifact_type=EVIDENCE_TYPE)
    assert said.status == 0
    assert said.document["verdict"] == "fail"
    assert said.document["is_signed"] is True
    assert isinstance(predicate, dict)
    assert (predicate["verdict"], predicate["stable"]) == ("fail", OTHER)
    assert kept.digest == said.document["evidence"]


def test_evidence_about_another_bundle_is_refused(slipway: Slipway, digest: str, tmp_path: Path) -> None:
    said = slipway("gate", "attest", "churn", refused(tmp_path, OTHER), "--json")

    assert said.status == 1
    assert said.document["error"]["code"] == "evidence_invalid"
    assert said.document["error"]["fields"] == {"got": OTHER, "expected": digest}


def test_who_answered_counts_and_not_only_who_should_have(slipway: Slipway, digest: str, tmp_path: Path) -> None:
    plan = gate_plan(digests={"stable": OTHER, "candidate": digest})
    path = tmp_path / "evidence.json"
    path.write_bytes(encode_evidence(evidence_of(Arms(7).windows(4), plan)))

    said = slipway("gate", "attest", "churn", path)

    assert said.status == 1
    assert "not about this bundle alone" in said.err


def test_evidence_that_was_changed_is_refused(slipway: Slipway, digest: str, tmp_path: Path) -> None:
    path = refused(tmp_path, digest)
    path.write_bytes(path.read_bytes().replace(b'"verdict":"fail"', b'"verdict":"pass"'))

    said = slipway("gate", "attest", "churn", path)

    assert said.status == 1
    assert "does not recompute" in said.err
