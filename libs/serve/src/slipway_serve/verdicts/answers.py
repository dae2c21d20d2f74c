"""What a rollout is told about one stage, from all that was judged of it.

It reads no clock and no file. The invariants: what is not known, or was judged too long ago, is inconclusive; a fail is
not outvoted by a later pass, because repeating a run until it passes is no evidence; a pass is not taken back by a run
that could not tell.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from slipway_signals.gate.verdict import Verdict

__all__ = ["Answer", "Recorded", "Stage", "answer_of"]

DECIDES: Final[tuple[Verdict, ...]] = ("fail", "pass", "inconclusive")
"""Which of several verdicts of a stage counts: the first of these that there is, the newest one of it."""


class Stage(Struct, frozen=True, kw_only=True):
    """What a verdict is about: one step of one rollout of one candidate."""

    rollout: str
    """Name of the rollout, with its namespace where names repeat: `shop/churn`."""
    pod_hash: str
    """Of the candidate's pods (`rollouts-pod-template-hash`), or its digest where there are no pods."""
    stage: str
    """Of the rollout: `10`, `30`, …"""


class Recorded(Struct, frozen=True, kw_only=True):
    """A verdict that was kept."""

    number: int
    """Counts up; no number is used twice."""
    stage: Stage
    verdict: Verdict
    reason: str
    evidence: str
    """Digest of what was posted: `sha256:…`."""
    finished_s: float
    """When the run ended, by its own clock; seconds since 1970."""
    received_s: float
    """When it was posted, by the service's clock."""
    by: str
    """Name of the key that posted it; empty: the service asks for none."""

    def age_s(self, now_s: float) -> float:
        """Seconds since the run ended; a run that ends in the future ended when it was posted."""
        return now_s - min(self.finished_s, self.received_s)


class Answer(Struct, frozen=True, kw_only=True):
    """The JSON that a rollout reads: `verdict` is its field to judge by."""

    verdict: Verdict
    reason: str
    """One sentence for whoever looks at the rollout."""
    rollout: str
    pod_hash: str
    stage: str
    evidence: str | None = None
    """Digest of the evidence that decides; None: there is none."""
    age_s: float | None = None
    """Since that run ended."""
    runs: int = 0
    """Verdicts of this stage, those that are too old included."""


def answer_of(stage: Stage, judged: Sequence[Recorded], now_s: float, max_age_s: float) -> Answer:
    """What is known about a stage.

    Args:
        stage: What was asked.
        judged: Every verdict of exactly this stage, oldest first.
        now_s: Seconds since 1970.
        max_age_s: A verdict older than this counts no more: pods of the same hash come back when a release is rolled
            back and forth, and then meet another stable.
    """
    fresh = [one for one in judged if one.age_s(now_s) <= max_age_s]
    decides = next((one for verdict in DECIDES for one in reversed(fresh) if one.verdict == verdict), None)
    if decides is not None:
        reason = decides.reason
    elif judged:
        ago = _hours(judged[-1].age_s(now_s))
        reason = f"the last run ended {ago} ago, and a verdict counts for {_hours(max_age_s)}"
    else:
        reason = f"no evidence was posted for stage {stage.stage!r} of {stage.rollout!r} at {stage.pod_hash!r}"
    return Answer(
        verdict="inconclusive" if decides is None else decides.verdict,
        reason=reason,
        rollout=stage.rollout,
        pod_hash=stage.pod_hash,
        stage=stage.stage,
        evidence=None if decides is None else decides.evidence,
        age_s=None if decides is None else max(0.0, decides.age_s(now_s)),
        runs=len(judged),
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
