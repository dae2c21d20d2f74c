"""What a rollout is told about one stage, from all that was judged of it.

It reads no clock and no file. The invariants: what is not known, or was judged too long ago, is inconclusive; a fail is
not outvoted by a later pass, because repeating a run until it passes is no evidence; a pass is not taken back by a run
that could not tell; while a rollout is frozen nothing is a pass, and a fail is one all the same.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from slipway_signals.gate.plan_policy import PlanPolicy, Terms, shortfalls
from slipway_signals.gate.verdict import Verdict

__all__ = ["EVERY", "Answer", "Freeze", "Recorded", "Stage", "answer_of", "as_counted"]

EVERY: Final = "*"
"""In place of a rollout's name: all of them."""

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
    terms: Terms | None = None
    """What the run asked of its candidate; None: kept by a slipway that did not write it down."""

    def age_s(self, now_s: float) -> float:
        """Seconds since the run ended; a run that ends in the future ended when it was posted."""
        return now_s - min(self.finished_s, self.received_s)


class Freeze(Struct, frozen=True, kw_only=True):
    """Somebody wants nothing to be released for a while."""

    rollout: str
    """Name of the rollout, or `*`: every one."""
    reason: str
    until: datetime | None
    """With a time zone; None: until it is taken back."""
    since: datetime
    by: str
    """Name of the key that asked for it; empty: the service asks for none."""

    def said(self) -> str:
        """What a rollout is told."""
        return f"frozen: {self.reason}" + ("" if self.until is None else f" (until {self.until:%Y-%m-%dT%H:%M:%SZ})")


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


def as_counted(recorded: Recorded, policy: PlanPolicy | None) -> Recorded:
    """What a kept verdict counts as: a pass that asked for less than the policy wants is inconclusive."""
    if policy is None or recorded.verdict != "pass":
        return recorded
    if recorded.terms is None:
        reason = "it was kept before this service wrote down what a run asks for; run the gate again"
    elif short := shortfalls(recorded.terms, policy):
        reason = f"it passed and asked for less than the policy of this service: {'; '.join(short)}"
    else:
        return recorded
    return replace(recorded, verdict="inconclusive", reason=reason)


def answer_of(
    stage: Stage, judged: Sequence[Recorded], now_s: float, max_age_s: float, frozen: Sequence[Freeze] = ()
) -> Answer:
    """What is known about a stage.

    Args:
        stage: What was asked.
        judged: Every verdict of exactly this stage, oldest first.
        now_s: Seconds since 1970.
        max_age_s: A verdict older than this counts no more: pods of the same hash come back when a release is rolled
            back and forth, and then meet another stable.
        frozen: What holds for this rollout now.
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
    verdict: Verdict = "inconclusive" if decides is None else decides.verdict
    if frozen and verdict != "fail":
        verdict, reason = "inconclusive", "; ".join(one.said() for one in frozen)
    return Answer(
        verdict=verdict,
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
