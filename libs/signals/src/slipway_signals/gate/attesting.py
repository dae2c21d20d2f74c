"""Evidence beside the bundle that it is about: the file itself, and a statement that a policy or a person can read.

It judges nothing: what the evidence says is computed again, and only what follows is attached. The invariants: evidence
about one bundle is never attached to another, whoever asks; a verdict is attached whatever it is, because a refusal is
worth keeping too. Two referrers, as a bill of materials and the provenance that names it (ADR 23).
"""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from slipway_bundle.attestations import attach_statement
from slipway_bundle.digest import Digest
from slipway_bundle.referrers import attach
from slipway_bundle.stored import read_bundle
from slipway_bundle.trust.statements import make_statement
from slipway_signals.gate.evidence import FORMAT, Evidence, EvidenceError
from slipway_signals.gate.records import Arm
from slipway_signals.gate.replaying import replay_evidence
from slipway_signals.gate.verdict import Verdict

if TYPE_CHECKING:
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import Signer

__all__ = ["EVIDENCE_TYPE", "PREDICATE", "AttestedGate", "attest_evidence", "who_was"]

EVIDENCE_TYPE: Final = "application/vnd.slipway.evidence.v1+json"
"""Artifact type of the file."""

PREDICATE: Final = "https://slipway.dev/gate/attestation/v1"
"""Type of the statement about the bundle; the one inside a signed file is about the file."""


class AttestedGate(Struct, frozen=True, kw_only=True):
    """What was attached."""

    bundle: str
    """Digest of the bundle."""

    verdict: Verdict
    evidence: str
    """Digest of the referrer that holds the file."""

    statement: str
    """Digest of the referrer that holds the statement."""

    is_signed: bool


class _Predicate(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the statement says."""

    format: str
    verdict: Verdict
    evidence: str
    """Digest of the evidence without its own signature, as `slipway gate replay` shows it."""

    stable: str
    """Digest of what it was compared with."""

    finished: str
    versions: dict[str, str]


def attest_evidence(store: "Store", ref: str, data: bytes, *, signer: "Signer | None" = None) -> AttestedGate:
    """Attach evidence to the bundle that was its candidate.

    Args:
        store: Where the bundle is.
        ref: What it is called there.
        data: The evidence, signed or not.
        signer: Who signs the statement; None stores it as it is.

    Raises:
        EvidenceError: It is no evidence, does not recompute, or is about other bundles.
        UsageError: The reference means no bundle or several.
        SignerError: The key service does not answer or refuses.
        HostError: Disk full, not allowed, busy.
    """
    bundle = read_bundle(store, ref)
    replayed = replay_evidence(data)
    evidence = replayed.evidence
    if not replayed.is_same:
        raise EvidenceError(
            f"the evidence does not recompute: {replayed.difference}",
            hint="`slipway gate replay` with the version that made it says more",
        )
    candidate, stable = who_was(evidence, "candidate"), who_was(evidence, "stable")
    if candidate != {bundle.digest} or len(stable) != 1:
        got = ", ".join(sorted(candidate)) or "a bundle that it does not name"
        raise EvidenceError(
            f"the evidence is not about this bundle alone: its candidate is {got}, expected {bundle.digest}",
            hint="serve the bundle from a store, so that its answers say which bundle they come from",
            got=got,
            expected=bundle.digest,
        )
    verdict = evidence.decision.verdict
    predicate = _Predicate(
        format=FORMAT,
        verdict=verdict,
        evidence=replayed.digest,
        stable=next(iter(stable)),
        finished=evidence.finished,
        versions=evidence.versions,
    )
    name = f"{bundle.manifest.name}:{bundle.manifest.version}"
    statement = make_statement(name, Digest(bundle.digest), predicate_type=PREDICATE, predicate=predicate)
    attached = attach(
        store,
        bundle.descriptor,
        artifact_type=EVIDENCE_TYPE,
        blobs=[(data, EVIDENCE_TYPE)],
        annotations={"io.slipway.gate.verdict": verdict},
    )
    stated = attach_statement(store, bundle.descriptor, statement, signer=signer)
    return AttestedGate(
        bundle=bundle.digest,
        verdict=verdict,
        evidence=attached.digest,
        statement=stated.digest,
        is_signed=signer is not None,
    )


def who_was(evidence: Evidence, arm: Arm) -> set[str]:
    """The digests of an arm: those that its answers named, and the one that it should be."""
    answered = {
        digest
        for window in evidence.windows
        if arm in window.arms
        for digest, count in window.arms[arm].digests.items()
        if count
    }
    return answered | ({evidence.plan.digests[arm]} if arm in evidence.plan.digests else set())
