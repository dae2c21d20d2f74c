"""What the gate says, at each look and at the end: records only, which evidence stores and reports draw.

It decides nothing (`decide` does). Stored format: fields are only ever added, with defaults. The invariant: an
estimate, its bounds, the margin and the neutral value of a metric are on one scale, so a report draws them side by
side without knowing the metric; None is a bound that the data do not give yet.
"""

from typing import Literal

from msgspec import Struct

from slipway_signals.gate.records import Arm

__all__ = [
    "Check",
    "Criterion",
    "Decision",
    "Finding",
    "HardStop",
    "Judged",
    "Look",
    "Needed",
    "Verdict",
]

Verdict = Literal["pass", "fail", "inconclusive"]
Kind = Literal["proportion", "quantile", "limit", "distribution", "block"]
Role = Literal["must", "guard"]


class Criterion(Struct, frozen=True, kw_only=True):
    """One metric and what is demanded of it; fixed before the first look."""

    metric: str
    """`errors`, `slow`, `malformed`, `latency.p95`, `throughput`, `cpu`, `queue`, `gpu`, `cost`, `outputs.FIELD`,
    `labels.FIELD`, `disagreement.FIELD`, `wrong`."""

    title: str
    """As a person reads it: `share of failed requests`."""

    kind: Kind
    unit: Literal["share", "ratio"]
    """`share`: candidate less stable, of all requests (`limit`: a share itself). `ratio`: candidate over stable."""

    neutral: float
    """No difference: 0 of shares, 1 of ratios."""

    margin: float
    """Where worse begins to matter, on the scale of the estimate: 0.0005, 1.1."""

    role: Role = "must"
    """`must`: shown to be no worse, or nothing passes. `guard`: not shown to be worse."""

    quantile: float | None = None
    origin: Literal["default", "slo", "plan"]
    reason: str
    """Why this margin."""


class Judged(Struct, frozen=True, kw_only=True):
    """One metric at one look."""

    metric: str
    verdict: Verdict
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    """Bounds that hold at every look at once."""

    p_worse: float = 1.0
    """Of "the candidate is no worse than stable", valid at every look; small: it is worse."""

    p_worse_holm: float = 1.0
    """The same, adjusted for the number of metrics."""

    p_inferior: float = 1.0
    """Of "the candidate is worse by the margin or more"; small: it is not."""

    n_stable: int = 0
    n_candidate: int = 0
    """What was compared: requests, pairs or blocks."""

    design_effect: float = 1.0
    """How many requests told as much as one independent request would."""


class Look(Struct, frozen=True, kw_only=True):
    """One time at which the gate judged all that was counted until then."""

    window: int
    """Index of the last window in it."""

    at_s: float
    verdict: Verdict
    metrics: tuple[Judged, ...]
    """In the order of the criteria."""

    findings: tuple[str, ...] = ()
    """Codes of what was wrong with the measurement."""


class Finding(Struct, frozen=True, kw_only=True):
    """Something wrong with the measurement itself: nothing passes with it."""

    code: str
    """`generator_slip`, `sample_ratio`, `digest_wrong`, …: docs/gate.md has the table."""

    text: str
    """What was found, got, expected."""

    arm: Arm | None = None
    voids: Literal["pass", "any"] = "pass"
    """`any`: what was compared is not what should have been, so nothing fails by comparison with it either."""


class HardStop(Struct, frozen=True, kw_only=True):
    """An absolute breach: the run ended at once, apart from all comparison."""

    line: Literal["errors", "slow", "malformed"]
    arm: Arm
    window: int
    at_s: float
    bad: int
    n: int
    limit: float
    """Share that is allowed."""

    p_false: float
    """How probable a stop is, over the whole run, when the share is at the limit."""

    text: str


class Needed(Struct, frozen=True, kw_only=True):
    """What would probably have been enough."""

    metric: str
    """The one that takes longest."""

    requests: int
    """More, for each arm, at what is known now; an estimate, no promise."""

    seconds: float
    """More, at the plan's rate."""


class Check(Struct, frozen=True, kw_only=True):
    """Something that was asked before any traffic."""

    name: Literal["compatibility", "golden", "identity", "preflight"]
    arm: Arm | None = None
    status: Literal["ok", "failed", "skipped"]
    text: str
    details: tuple[str, ...] = ()


class Decision(Struct, frozen=True, kw_only=True):
    """The end of it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """Sentences, the most important first."""

    at_s: float
    """Since the start of the run; 0 when no request was sent."""

    requests: dict[Arm, int]
    """Sent and judged, without the warm-up."""

    metrics: tuple[Judged, ...] = ()
    """Of the last look."""

    findings: tuple[Finding, ...] = ()
    hard_stop: HardStop | None = None
    needed: Needed | None = None
    """Of an inconclusive verdict that more requests would help."""
