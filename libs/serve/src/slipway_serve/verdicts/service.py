"""What the verdict service does with evidence and with questions; HTTP is in `app.py`.

It believes nobody: evidence is judged again, by the code that a run uses, before its verdict is kept. The invariants: a
verdict that was acknowledged is on the disk; evidence that does not replay, or is not signed by a key that is asked
for, leaves nothing behind; evidence says itself which stage it is about, so an old pass cannot be posted for another
candidate.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from slipway_bundle import IntegrityError, UsageError
from slipway_serve.verdicts.answers import Answer, Recorded, Stage, answer_of
from slipway_serve.verdicts.store import VerdictStore

if TYPE_CHECKING:
    from slipway_bundle.trust.keys import TrustedKey
    from slipway_signals.gate.evidence import Subject

__all__ = ["ReplayDiffersError", "SubjectMissingError", "VerdictService", "page_of"]

REASON_CHARS: Final = 2_000


class SubjectMissingError(UsageError):
    """Evidence of a run that was about no rollout."""

    code = "gate_subject_missing"


class ReplayDiffersError(IntegrityError):
    """Evidence whose windows give another decision than the one that is written in it."""

    code = "gate_replay_differs"


class VerdictService:
    """Takes evidence, answers rollouts. Thread-safe; blocks for the disk, and `take` for the replay.

    Args:
        store: Where verdicts are.
        signers: Whose signature evidence must have; empty: it needs none.
        clock: Seconds since 1970.
        max_age_s: How long a verdict counts.
        keep_s: How long the bodies of evidence are kept; None: for ever.
    """

    def __init__(
        self,
        store: VerdictStore,
        signers: "Sequence[TrustedKey]",
        clock: Callable[[], float],
        *,
        max_age_s: float,
        keep_s: float | None,
    ) -> None:
        self._store = store
        self._signers = tuple(signers)
        self._clock = clock
        self._max_age_s = max_age_s
        self._keep_s = keep_s

    @property
    def store(self) -> VerdictStore:
        """Where verdicts are."""
        return self._store

    def take(self, body: bytes, by: str) -> tuple[Recorded, bool]:
        """Judge evidence again and keep its verdict; returns when it is on the disk.

        Args:
            body: What `slipway gate run --evidence` wrote, signed or not.
            by: Name of the caller.

        Returns:
            The verdict, and whether it is new: evidence that was taken before is not judged twice.

        Raises:
            SubjectMissingError: The evidence does not say which stage of which rollout it is about.
            IntegrityError, UsageError: It is no evidence, does not give the verdict that it claims, or is not signed.
            StoreError, StoreFullError: It could not be kept; nothing was.
        """
        from slipway_signals.gate.evidence import open_evidence

        opened = open_evidence(body, self._signers)
        known = self._store.find(opened.digest)
        if known is not None:
            return known, False
        recorded = self._judged(body, opened.evidence.subject, by)
        if self._keep_s is not None:
            self._store.forget(recorded.received_s - self._keep_s)
        return self._store.put(recorded, body), True

    def ask(self, stage: Stage) -> Answer:
        """What is known about a stage."""
        return answer_of(stage, self._store.of_stage(stage), self._clock(), self._max_age_s)

    def _judged(self, body: bytes, subject: "Subject | None", by: str) -> Recorded:
        from slipway_signals.gate.replaying import replay_evidence

        if subject is None:
            raise SubjectMissingError(
                "the evidence names no rollout, pod hash and stage, expected `subject`",
                hint="`slipway gate run --rollout R --pod-hash H --stage S` writes it",
            )
        replayed = replay_evidence(body, self._signers)
        evidence = replayed.evidence
        if not replayed.is_same:
            raise ReplayDiffersError(
                f"the evidence does not give the decision that it claims: {replayed.difference}",
                hint="it was changed, or another version of slipway wrote it; `slipway gate replay` shows the same",
            )
        return Recorded(
            number=0,
            stage=Stage(rollout=subject.rollout, pod_hash=subject.pod_hash, stage=subject.stage),
            verdict=evidence.decision.verdict,
            reason="; ".join(evidence.decision.reasons)[:REASON_CHARS],
            evidence=replayed.digest,
            finished_s=datetime.fromisoformat(evidence.finished).timestamp(),
            received_s=self._clock(),
            by=by,
        )


def page_of(body: bytes) -> str:
    """The report of evidence that was taken before, as HTML."""
    from slipway_signals.gate.evidence import open_evidence
    from slipway_signals.gate.report.page import render_page

    opened = open_evidence(body)
    return render_page(opened.evidence, digest=opened.digest)
