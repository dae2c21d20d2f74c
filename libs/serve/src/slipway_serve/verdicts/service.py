"""What the verdict service does with evidence and with questions; HTTP is in `app.py`.

It believes nobody: evidence is judged again, by the code that a run uses, before its verdict is kept. The invariants: a
verdict that was acknowledged is on the disk; evidence that does not replay, or is not signed by a key that is asked
for, leaves nothing behind; evidence says itself which stage it is about, so an old pass cannot be posted for another
candidate; a policy and a freeze keep a pass from counting, and neither changes what was kept.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway_bundle import IntegrityError, UsageError
from slipway_bundle.errors import FileError
from slipway_serve.access.followed_files import FollowedFiles
from slipway_serve.verdicts.answers import Answer, Freeze, Recorded, Stage, answer_of, as_counted
from slipway_serve.verdicts.store import VerdictStore
from slipway_signals.gate.plan_policy import PlanPolicy, decode_policy, terms_of

if TYPE_CHECKING:
    from slipway_bundle.trust.keys import TrustedKey
    from slipway_signals.gate.evidence import Subject

__all__ = ["FreezePastError", "ReplayDiffersError", "SubjectMissingError", "VerdictService", "page_of"]

REASON_CHARS: Final = 2_000


class SubjectMissingError(UsageError):
    """Evidence of a run that was about no rollout."""

    code = "gate_subject_missing"


class ReplayDiffersError(IntegrityError):
    """Evidence whose windows give another decision than the one that is written in it."""

    code = "gate_replay_differs"


class FreezePastError(UsageError):
    """A freeze that would have ended before it began."""

    code = "freeze_past"


class VerdictService:
    """Takes evidence, answers rollouts. Thread-safe; blocks for the disk, and `take` for the replay.

    Args:
        store: Where verdicts are.
        signers: Whose signature evidence must have; empty: it needs none.
        clock: Seconds since 1970.
        max_age_s: How long a verdict counts.
        keep_s: How long the bodies of evidence are kept; None: for ever.
        policy: TOML file with the least that evidence must have asked for; None: every plan will do.

    Raises:
        ConfigError: The policy cannot be followed.
        FileError: It cannot be read.
    """

    def __init__(
        self,
        store: VerdictStore,
        signers: "Sequence[TrustedKey]",
        clock: Callable[[], float],
        *,
        max_age_s: float,
        keep_s: float | None,
        policy: Path | None = None,
    ) -> None:
        self._store = store
        self._signers = tuple(signers)
        self._clock = clock
        self._max_age_s = max_age_s
        self._keep_s = keep_s
        self._policy: PlanPolicy | None = None
        self.files: Final[FollowedFiles | None] = (
            None if policy is None else FollowedFiles([policy], lambda: self._follow(policy))
        )

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
            The verdict as it counts, and whether it is new: evidence that was taken before is not judged twice.

        Raises:
            SubjectMissingError: The evidence does not say which stage of which rollout it is about.
            IntegrityError, UsageError: It is no evidence, does not give the verdict that it claims, or is not signed.
            StoreError, StoreFullError: It could not be kept; nothing was.
        """
        from slipway_signals.gate.evidence import open_evidence

        opened = open_evidence(body, self._signers)
        known = self._store.find(opened.digest)
        if known is not None:
            return as_counted(known, self._policy), False
        recorded = self._judged(body, opened.evidence.subject, by)
        if self._keep_s is not None:
            self._store.forget(recorded.received_s - self._keep_s)
        return as_counted(self._store.put(recorded, body), self._policy), True

    def ask(self, stage: Stage) -> Answer:
        """What is known about a stage."""
        now_s = self._clock()
        judged = [as_counted(one, self._policy) for one in self._store.of_stage(stage)]
        return answer_of(stage, judged, now_s, self._max_age_s, self._store.frozen(now_s, stage.rollout))

    def newest(self, rollout: str | None, count: int) -> list[Recorded]:
        """The last `count` verdicts as they count, of one rollout or of all, newest first."""
        return [as_counted(one, self._policy) for one in self._store.newest(rollout, count)]

    def freeze(self, rollout: str, reason: str, until: datetime | None, by: str) -> Freeze:
        """Let nothing of a rollout pass until then; returns when it is on the disk.

        Args:
            rollout: Its name, or `*`. What was frozen under this name is replaced.
            reason: What a rollout is told.
            until: With a time zone; None: until `unfreeze`.
            by: Name of the caller.

        Raises:
            FreezePastError: `until` is over.
            StoreError, StoreFullError: It could not be kept.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        if until is not None and until <= now:
            raise FreezePastError(f"`until` is {until.isoformat()}, expected later than {now.isoformat()}")
        wanted = Freeze(rollout=rollout, reason=reason, until=until and until.astimezone(UTC), since=now, by=by)
        self._store.freeze(wanted)
        return wanted

    def frozen(self) -> list[Freeze]:
        """Everything that is frozen now."""
        return self._store.frozen(self._clock())

    def _follow(self, policy: Path) -> None:
        try:
            data = policy.read_bytes()
        except OSError as error:
            raise FileError(f"the plan policy {str(policy)!r} cannot be read: {error.strerror}") from error
        self._policy = decode_policy(data, str(policy))

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
            terms=terms_of(evidence),
        )


def page_of(body: bytes) -> str:
    """The report of evidence that was taken before, as HTML."""
    from slipway_signals.gate.evidence import open_evidence
    from slipway_signals.gate.report.page import render_page

    opened = open_evidence(body)
    return render_page(opened.evidence, digest=opened.digest)
