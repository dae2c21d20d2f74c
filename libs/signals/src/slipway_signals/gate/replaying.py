"""Replay: the verdict again, from the evidence alone.

It believes nothing that was decided, only what was counted. The invariant: evidence that this version of the gate made
gives the same bytes; where a decision was changed, or a count from which it follows, it does not. That nothing else was
changed is what a signature says.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from slipway_signals.gate.evidence import Evidence, digest_of, encode_evidence, open_evidence
from slipway_signals.gate.judging import Judge

if TYPE_CHECKING:
    from slipway_bundle.trust.keys import TrustedKey

__all__ = ["Replayed", "recompute", "replay_evidence"]


class Replayed(Struct, frozen=True, kw_only=True):
    """What came of it."""

    evidence: Evidence
    """As recomputed: what it says is what the counts say."""

    digest: str
    """Of the evidence as it was given, sha256:…"""

    signer: str | None
    is_same: bool
    """Whether the bytes are the same."""

    difference: str | None
    """The first thing that differs, when something does."""


def replay_evidence(data: bytes, keys: Sequence["TrustedKey"] = ()) -> Replayed:
    """Recompute a file's decision. Takes about as long as the looks did: some 10 ms each.

    Args:
        data: Evidence, signed or not, 64 MiB at most.
        keys: Whose signature counts; with keys, unsigned evidence is refused.

    Raises:
        EvidenceError: It is no evidence.
        SignatureError, SignerError: As `open_evidence`.
    """
    opened = open_evidence(data, keys)
    again = recompute(opened.evidence)
    encoded = encode_evidence(again)
    is_same = encoded == opened.data
    return Replayed(
        evidence=again,
        digest=digest_of(opened.data),
        signer=opened.signer,
        is_same=is_same,
        difference=None if is_same else _difference(opened.evidence, again),
    )


def recompute(evidence: Evidence) -> Evidence:
    """The same counts, judged again."""
    judge = Judge(evidence.plan, evidence.promises, evidence.checks)
    for window in evidence.windows:
        judge.add(window)
    decision = judge.decision(has_load_failed=evidence.load.has_failed, said=evidence.load.said)
    return replace(evidence, criteria=judge.criteria, looks=tuple(judge.looks), decision=decision)


def _difference(given: Evidence, again: Evidence) -> str:
    if given.decision.verdict != again.decision.verdict:
        return f"the verdict is {given.decision.verdict!r}, and what was counted gives {again.decision.verdict!r}"
    for name in ("criteria", "looks", "decision"):
        if getattr(given, name) != getattr(again, name):
            return f"`{name}` does not follow from what was counted"
    return "the file is not canonical JSON, or has fields that this version does not know"
