"""Evidence of simulated runs, judged by the gate itself."""

from collections.abc import Sequence

from gate_windows import DIGESTS, PROMISES, gate_plan
from msgspec.structs import replace

from slipway_signals.gate.evidence import Evidence, LoadEnd, Subject
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.records import Window
from slipway_signals.gate.replaying import recompute
from slipway_signals.gate.verdict import Check, Decision

SUBJECT = Subject(rollout="shop/churn", pod_hash="6d5f8b7c9", stage="10")
REFUSED = Check(
    name="compatibility",
    arm="candidate",
    status="failed",
    text="the response has lost a field that callers read",
    details=("`risk`: before a number, after nothing",),
)
"""Fails a candidate before any traffic: evidence that is small and replays at once."""


def evidence_of(
    windows: Sequence[Window] = (),
    plan: GatePlan | None = None,
    *,
    subject: Subject | None = SUBJECT,
    checks: Sequence[Check] = (),
    finished: str = "2026-11-22T07:01:05Z",
) -> Evidence:
    """What a run writes that has counted these windows."""
    counted = Evidence(
        subject=subject,
        started="2026-11-22T07:00:00Z",
        finished=finished,
        versions={"slipway": "0.1.0"},
        plan=plan or gate_plan(digests=dict(DIGESTS)),
        promises=PROMISES,
        checks=tuple(checks),
        criteria=(),
        looks=(),
        decision=Decision(verdict="inconclusive", reasons=(), at_s=0.0, requests={}),
        load=LoadEnd(status=0, was_stopped=False),
        windows=tuple(windows),
    )
    return recompute(counted)


def refused(stage: str, finished: str = "2026-11-22T07:01:05Z") -> Evidence:
    """Small evidence about a stage: the candidate is refused before any traffic."""
    return evidence_of(subject=replace(SUBJECT, stage=stage), checks=(REFUSED,), finished=finished)
