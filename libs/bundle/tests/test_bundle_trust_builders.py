"""`[builders]` and `[vulnerabilities]`: evidence that others made counts when a key of the policy stands behind it."""

from datetime import timedelta
from pathlib import Path

import pytest
from bundle_fakes import Shelf
from msgspec.structs import replace
from trust_fakes import NOW, Keys, copy_of

from slipway_bundle.attestations import attach_statement
from slipway_bundle.manifest import Source
from slipway_bundle.policy import Policy, load_policy
from slipway_bundle.provenance import Invocation, make_provenance
from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle
from slipway_bundle.trust.evaluation import evaluate
from slipway_bundle.trust.findings import Finding
from slipway_bundle.trust.keys import Signer
from slipway_bundle.trust.signatures import sign

RULES = """\
[builders]
by = ["ci"]
allow = ["https://ci.example.com/release@*"]
sources = ["https://git.example.com/ml/*"]
"""


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def copy(tmp_path: Path, shelf: Shelf) -> Store:
    return copy_of(shelf, tmp_path / "copy")


def attest(
    store: Store,
    signer: Signer | None,
    *,
    builder: str = "https://ci.example.com/release@main",
    source: str = "https://git.example.com/ml/tiny.git",
) -> None:
    """Attaches provenance that says this."""
    bundle = read_bundle(store, "tiny")
    claimed = replace(bundle.manifest, source=Source(commit="5a" * 20, url=source))
    statement = make_provenance(replace(bundle, manifest=claimed), Invocation(builder=builder), environ={})
    attach_statement(store, bundle.descriptor, statement, signer=signer)


def judge(store: Store, policy: Policy, *, days: float = 0) -> list[Finding]:
    """What refuses."""
    verdict = evaluate(store, "tiny", policy, now=NOW + timedelta(days=days))
    return [finding for finding in verdict.findings if finding.status == "refused"]


def test_provenance_counts_when_the_named_key_signed_it(copy: Store, keys: Keys) -> None:
    policy = keys.policy(RULES, "ci")

    (finding,) = judge(copy, policy)
    assert (finding.rule, finding.got) == ("builders.allow", "no provenance signed by ci")
    attest(copy, None)
    attest(copy, keys.signer("stranger"))
    assert [each.got for each in judge(copy, policy)] == ["no provenance signed by ci"]
    attest(copy, keys.signer("ci"))
    assert judge(copy, policy) == []


@pytest.mark.parametrize(
    "said",
    [
        {"builder": "https://laptop.example.com/release@main"},
        {"builder": "https://ci.example.com/test@main"},
        {"source": "https://git.example.org/ml/tiny.git"},
    ],
)
def test_another_builder_or_source_is_refused_by_its_name(copy: Store, keys: Keys, said: dict[str, str]) -> None:
    attest(copy, keys.signer("ci"), **said)

    (finding,) = judge(copy, keys.policy(RULES, "ci"))

    assert finding.rule == "builders.allow"
    assert next(iter(said.values())) in finding.got
    assert "slipway bundle attest" in (finding.hint or "")


def test_a_key_whose_last_day_has_passed_vouches_for_no_build_and_no_report(copy: Store, keys: Keys) -> None:
    """Above all, no key that counts must not mean that none is asked for."""
    keys.policy("", "ci")
    until = '[keys.ci]\nfile = "ci.pub"\nuntil = 2026-12-01\n'
    (keys.folder / "policy.toml").write_text(
        until + RULES + '[signatures]\nby = ["ci"]\n[vulnerabilities]\nblock = "high"\n'
    )
    policy = load_policy(keys.folder)
    attest(copy, keys.signer("ci"))
    attest(copy, None)
    sign(copy, "tiny", keys.signer("ci"), now=NOW)

    assert [each.rule for each in judge(copy, policy)] == ["vulnerabilities.block"]
    late = [each.rule for each in judge(copy, policy, days=30)]
    assert late == ["signatures.by", "builders.allow", "vulnerabilities.signed"]


def test_a_bundle_without_a_commit_is_refused_where_a_clean_one_is_asked_for(copy: Store, keys: Keys) -> None:
    attest(copy, keys.signer("ci"))

    (finding,) = judge(copy, keys.policy(RULES + "allow_dirty = false\n", "ci"))

    assert (finding.rule, finding.got) == ("builders.allow_dirty", "a bundle without a commit")
