"""Trust over a real registry: signatures travel with their bundle, and what the policy refuses does not arrive."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from bundle_fakes import Shelf
from registry_process import RegistryProcess
from trust_fakes import Keys, copy_of

from slipway_bundle.registry import pull, push
from slipway_bundle.store import Store
from slipway_bundle.trust.approvals import approve
from slipway_bundle.trust.evaluation import PolicyRefusedError, evaluate
from slipway_bundle.trust.signing import sign_release

RULES = '[signatures]\nby = ["release"]\nmodels = true\n[approvals]\nby = ["ann"]\n'


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def copy(tmp_path: Path, shelf: Shelf) -> Store:
    return copy_of(shelf, tmp_path / "copy")


def test_what_was_signed_here_is_allowed_where_it_was_pulled(
    tmp_path: Path, copy: Store, keys: Keys, registry: RegistryProcess
) -> None:
    policy = keys.policy(RULES, "release", "ann")
    sign_release(copy, "tiny", keys.signer("release"))
    approve(copy, "tiny", keys.signer("ann"))
    source = f"{registry.host}/trust/signed:1"
    push(copy, "tiny", source, environ={})
    fresh = Store.open(tmp_path / "fresh")

    pulled = pull(source, fresh, environ={}, policy=policy)

    verdict = evaluate(fresh, pulled.ref, policy, now=datetime.now(UTC), with_blobs=True)
    assert verdict.is_allowed
    assert {finding.rule for finding in verdict.findings} == {
        "signatures.by",
        "signatures.models",
        "approvals.required",
        "bundle.blobs",
    }


def test_what_the_policy_refuses_does_not_arrive(
    tmp_path: Path, copy: Store, keys: Keys, registry: RegistryProcess
) -> None:
    policy = keys.policy(RULES, "release", "ann")
    sign_release(copy, "tiny", keys.signer("stranger"))
    source = f"{registry.host}/trust/unsigned:1"
    push(copy, "tiny", source, environ={})
    fresh = Store.open(tmp_path / "fresh")

    with pytest.raises(PolicyRefusedError, match=r"signatures\.by"):
        pull(source, fresh, environ={}, policy=policy)

    assert fresh.refs() == ()
    layers = {layer.digest for layer in copy.walk(copy.find("tiny").descriptor) if "layer" in layer.media_type}
    assert not [digest for digest in layers if fresh.layout.blob(digest).exists()]
    fresh.gc()
    assert fresh.entries() == ()
