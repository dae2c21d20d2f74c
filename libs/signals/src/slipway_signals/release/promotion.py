"""May this digest go to the next environment? Its policy, and the gate's evidence, asked again from what is beside it.

It changes no stack file and no registry. The invariants: nothing is believed that does not recompute: a statement needs
a signature of a key that counts, the evidence that it names must be there, give the same verdict again, and be about
this digest; one fail refuses, whatever passed before or after it; no evidence never passes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from slipway_bundle.attestations import read_statements
from slipway_bundle.digest import Digest
from slipway_bundle.errors import IntegrityError, UsageError
from slipway_bundle.oci import ImageManifest
from slipway_bundle.policy import Policy
from slipway_bundle.referrers import referrers
from slipway_bundle.store import Store
from slipway_bundle.stored import read_descriptor
from slipway_signals.gate.attesting import EVIDENCE_TYPE, PREDICATE, who_was
from slipway_signals.gate.replaying import replay_evidence

if TYPE_CHECKING:
    from slipway_bundle.trust.keys import TrustedKey

__all__ = ["Evidenced", "NoEvidenceError", "examine", "judge_evidence"]


class NoEvidenceError(IntegrityError):
    """Nothing that counts says that a digest passed, or something says that it did not."""

    code = "no_evidence"


class Evidenced(Struct, frozen=True, kw_only=True):
    """A bundle that may go on."""

    name: str
    version: str
    digest: Digest
    evidence: str
    """Digest of the evidence that passed."""

    signer: str
    finished: str
    """When that run ended."""


class _Predicate(Struct, frozen=True, rename="camel"):
    verdict: str
    evidence: str
    finished: str = ""


def examine(
    source: str,
    folder: Path,
    policy: Policy,
    keys: "Sequence[TrustedKey]",
    *,
    environ: Mapping[str, str],
    now: datetime,
    is_insecure: bool = False,
) -> Evidenced:
    """Read a bundle's documents and all that refers to it from a registry, and judge both. No layer comes.

    Args:
        source: `HOST/REPOSITORY@sha256:…`.
        folder: Of a store of its own; made when it is not there.
        policy: What must be true of the bundle.
        keys: Whose statements about evidence count; at least one.
        environ: See `registry.open_registry`.
        now: Aware.
        is_insecure: Allow plain HTTP beyond this machine.

    Raises:
        PolicyRefusedError: The policy refuses the bundle.
        NoEvidenceError: As `judge_evidence`.
        UsageError: There is no such bundle; no key counts.
        HostError: Registry, network or disk.
    """
    from slipway_bundle.registry.pulling import pull_documents
    from slipway_bundle.trust.evaluation import require_allowed

    if not keys:
        raise UsageError(
            "nobody says whose evidence counts: got no key, expected one at least",
            hint="give `--signer FILE`, or name keys in `[signatures]` of policy.toml",
        )
    store = Store.open(folder)
    with store.lease():
        entry = pull_documents(source, store, environ=environ, is_insecure=is_insecure)
        require_allowed(store, entry.digest, policy, now=now, shown=source)
        manifest = read_descriptor(store, entry).manifest
        return judge_evidence(store, manifest.name, manifest.version, Digest(entry.digest), keys)


def judge_evidence(store: Store, name: str, version: str, digest: Digest, keys: "Sequence[TrustedKey]") -> Evidenced:
    """The newest evidence with which a digest passed.

    Args:
        store: With what refers to the bundle.
        name: Of the bundle.
        version: Of the bundle.
        digest: Of its index.
        keys: Whose statements count.

    Raises:
        NoEvidenceError: There is none, it does not recompute, or some says that the bundle failed.
    """
    found = []
    for attested in read_statements(store, digest, PREDICATE, keys=keys):
        said = _said(attested.statement, digest)
        if said.verdict == "fail":
            raise NoEvidenceError(
                f"the gate said fail about {name}:{version}, and so did {attested.signer}: evidence {said.evidence}",
                hint="a fail is not outvoted by a later pass; build another version",
                evidence=said.evidence,
            )
        if said.verdict == "pass":
            found.append((said.finished, said.evidence, attested.signer or ""))
    if not found:
        raise NoEvidenceError(
            f"no evidence that counts says that {name}:{version} passed: expected a statement by "
            f"{' or '.join(key.name for key in keys)} about {digest}",
            hint="`slipway gate attest REF evidence.json --key KEY`, then push it again",
            digest=digest,
        )
    finished, evidence, signer = max(found)
    _recompute(store, digest, evidence)
    return Evidenced(name=name, version=version, digest=digest, evidence=evidence, signer=signer, finished=finished)


def _said(statement: bytes, digest: Digest) -> _Predicate:
    from slipway_bundle.trust.statements import decode_statement

    _, said = decode_statement(statement, _Predicate, predicate_type=PREDICATE, subject=digest)
    return said


def _recompute(store: Store, digest: Digest, expected: str) -> None:
    """The evidence itself is there, about this digest, and gives pass again."""
    for listed in referrers(store, digest, artifact_type=EVIDENCE_TYPE):
        layers = store.read_json(listed.digest, ImageManifest).layers
        try:
            replayed = replay_evidence(store.read(layers[0].digest))
        except (IntegrityError, IndexError, msgspec.MsgspecError):
            continue  # anybody who may write to a registry can put it there
        if replayed.digest != expected:
            continue
        if not replayed.is_same:
            raise NoEvidenceError(
                f"evidence {expected} does not recompute: {replayed.difference}",
                hint="`slipway gate replay` with the version that made it says more",
            )
        candidate = who_was(replayed.evidence, "candidate")
        if candidate != {digest} or replayed.evidence.decision.verdict != "pass":
            got = ", ".join(sorted(candidate)) or "nobody"
            raise NoEvidenceError(
                f"evidence {expected} is {replayed.evidence.decision.verdict} about {got}, expected pass about {digest}"
            )
        return
    raise NoEvidenceError(
        f"evidence {expected} is stated and not there: expected a referrer of {digest} that is it",
        hint="push the bundle again with all that refers to it",
        evidence=expected,
    )
