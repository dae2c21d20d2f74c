"""From counts to a verdict: one comparison a metric, and what all of them mean together.

It asks no clock and opens nothing. The invariants: what is judged was counted until now, and nothing else; a look may
come at any time, and as often as one likes (every comparison holds at all looks at once); a number that is kept is
rounded to six digits before it is judged, so that another processor's last bit cannot change a verdict.

A candidate passes when each metric is shown to be worse by less than its margin: no correction is needed, because all
must hold (intersection-union, Berger 1982). It fails when a metric is worse, after Holm's correction over all metrics
(1979), and by half of its margin at least: significant and material. All else is inconclusive.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from slipway_signals.gate.blocks import BlockComparison
from slipway_signals.gate.comparison import Comparison
from slipway_signals.gate.distributions import DistributionComparison
from slipway_signals.gate.histogram import Histogram, Sketch
from slipway_signals.gate.holm import holm
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.power import spread_at
from slipway_signals.gate.proportions import ProportionComparison, ProportionLimit
from slipway_signals.gate.quantiles import QuantileComparison
from slipway_signals.gate.records import Arm
from slipway_signals.gate.totals import Blocks, Totals
from slipway_signals.gate.verdict import Criterion, Finding, Judged, Needed, Verdict

__all__ = ["Metrics", "needed_of", "verdict_of"]

MATERIAL: Final = 0.5
"""Part of the margin beyond which a significant difference matters."""

FEW: Final = 20
"""Bad requests of both arms, below which a bound shrinks with the number of requests and not with its root."""

MOST: Final = 100.0
"""An estimate of more than so many times what was counted is no estimate."""

Look = Callable[[Totals, Blocks], Comparison]


class Metrics:
    """The comparisons of a run; each look is fed all that was counted until then.

    Args:
        plan: For the level and the shares of the arms.
        criteria: What is judged.
        threshold_us: Above which an answer is slow; None where nothing is promised.
        warm_up: Stable's latencies before the first look, which tune the bets on quantiles; may be empty.
    """

    def __init__(
        self, plan: GatePlan, criteria: Sequence[Criterion], threshold_us: int | None, warm_up: Histogram
    ) -> None:
        self._alpha = plan.alpha
        self._criteria = tuple(criteria)
        share = plan.candidate_share if plan.source == "split" else 0.5
        self._looks = [
            _quantile_look(one.quantile, one.margin, plan.alpha, share, warm_up)
            if one.quantile is not None
            else _look(one, plan.alpha, threshold_us)
            for one in criteria
        ]

    def look(self, totals: Totals, blocks: Blocks) -> tuple[Judged, ...]:
        """Every metric, in the order of the criteria."""
        found = [
            _rounded(one.metric, look(totals, blocks)) for one, look in zip(self._criteria, self._looks, strict=True)
        ]
        adjusted = holm({one.metric: one.p_worse for one in found})
        return tuple(
            self._judged(criterion, replace(one, p_worse_holm=_six(adjusted[one.metric])))
            for criterion, one in zip(self._criteria, found, strict=True)
        )

    def _judged(self, criterion: Criterion, one: Judged) -> Judged:
        if one.estimate is None or not one.n_stable or not one.n_candidate:
            return one
        material = criterion.neutral + MATERIAL * (criterion.margin - criterion.neutral)
        if one.p_inferior <= self._alpha:
            return replace(one, verdict="pass")
        if one.p_worse_holm <= self._alpha and one.estimate >= material:
            return replace(one, verdict="fail")
        return one


def verdict_of(criteria: Sequence[Criterion], metrics: Sequence[Judged], findings: Sequence[Finding]) -> Verdict:
    """What the metrics and the state of the measurement mean together."""
    is_void = any(finding.voids == "any" for finding in findings)
    if not is_void and any(one.verdict == "fail" for one in metrics):
        return "fail"
    must = [one.verdict for criterion, one in zip(criteria, metrics, strict=True) if criterion.role == "must"]
    is_guarded = all(one.verdict != "fail" for one in metrics)
    return "pass" if must and is_guarded and not findings and set(must) == {"pass"} else "inconclusive"


def needed_of(
    criteria: Sequence[Criterion], metrics: Sequence[Judged], totals: Totals, finest: Mapping[str, int]
) -> Needed | None:
    """About how much more would settle the metric that takes longest; None when nothing is open, or no amount would.

    Args:
        criteria: What was judged.
        metrics: The last look.
        totals: What was counted.
        finest: Metric -> bad requests of both arms, of those that count them.
    """
    settled = min(arm.settled for arm in totals.arms.values())
    found = []
    for criterion, one in zip(criteria, metrics, strict=True):
        if criterion.role != "must" or one.verdict != "inconclusive":
            continue
        if one.estimate is None or one.upper is None or one.estimate >= criterion.margin:
            continue
        factor = (one.upper - one.estimate) / (criterion.margin - one.estimate)
        if finest.get(criterion.metric, FEW) >= FEW:
            factor = factor**2
        if 1.0 < factor <= MOST:
            found.append((factor, criterion.metric))
    if not found or not settled or not totals.seconds:
        return None
    factor, metric = max(found)
    more = math.ceil((factor - 1.0) * settled)
    return Needed(metric=metric, requests=more, seconds=_six((factor - 1.0) * totals.seconds))


def bad_requests(totals: Totals, threshold_us: int | None) -> dict[str, int]:
    """Metric -> bad requests of both arms."""
    arms = totals.arms.values()
    slow = 0 if threshold_us is None else sum(arm.slower_than(threshold_us) for arm in arms)
    found = {"errors": sum(arm.failures for arm in arms), "malformed": sum(arm.malformed for arm in arms), "slow": slow}
    found |= {f"disagreement.{name}": count for name, count in totals.disagreed.items()}
    return found | {"wrong": sum(arm.labelled - arm.correct for arm in arms)}


def _quantile_look(quantile: float, margin: float, alpha: float, share: float, warm_up: Histogram) -> Look:
    comparison = QuantileComparison(
        quantile, margin, alpha, candidate_share=share, spread=_six(spread_at(warm_up, quantile))
    )
    return lambda totals, _: comparison.look(totals.arms["stable"].latency_us, totals.arms["candidate"].latency_us)


def _look(criterion: Criterion, alpha: float, threshold_us: int | None) -> Look:
    """The comparison of one metric, and where its numbers are."""
    match criterion.kind:
        case "quantile":
            raise ValueError(f"{criterion.metric} has no quantile: this is a bug in slipway")
        case "proportion":
            proportions = ProportionComparison(criterion.margin, alpha)
            count = _counting(criterion.metric, threshold_us)
            return lambda totals, _: proportions.look(count(totals, "stable"), count(totals, "candidate"))
        case "limit":
            limit = ProportionLimit(criterion.margin, alpha)
            field = criterion.metric.partition(".")[2]
            return lambda totals, _: limit.look(min(totals.disagreed[field], totals.compared), totals.compared)
        case "distribution":
            distributions = DistributionComparison(criterion.margin, alpha)
            return lambda totals, _: distributions.look(*_sketches(criterion.metric, totals))
        case "block":
            blocks_ = BlockComparison(criterion.margin, alpha)
            return lambda _, blocks: blocks_.look(blocks.values.get(criterion.metric, []))


def _counting(metric: str, threshold_us: int | None) -> Callable[[Totals, Arm], tuple[int, int]]:
    """(bad, n) of an arm."""
    if metric == "errors":
        return lambda totals, arm: (totals.arms[arm].failures, totals.arms[arm].settled)
    if metric == "malformed":
        return lambda totals, arm: (
            min(totals.arms[arm].malformed, totals.arms[arm].succeeded),
            totals.arms[arm].succeeded,
        )
    if metric == "wrong":
        return lambda totals, arm: (totals.arms[arm].labelled - totals.arms[arm].correct, totals.arms[arm].labelled)
    limit = threshold_us or 0
    return lambda totals, arm: (totals.arms[arm].slower_than(limit), totals.arms[arm].latency_us.count)


def _sketches(metric: str, totals: Totals) -> tuple[Sketch, Sketch]:
    """Both distributions of a field; words get numbers in alphabetical order, the same for both arms."""
    stable, candidate = totals.arms["stable"], totals.arms["candidate"]
    group, _, field = metric.partition(".")
    if group == "outputs":
        return stable.outputs.get(field) or Sketch(), candidate.outputs.get(field) or Sketch()
    ours, theirs = stable.labels.get(field, Counter()), candidate.labels.get(field, Counter())
    sketches = Sketch(), Sketch()
    for number, word in enumerate(sorted({*ours, *theirs})):
        for sketch, counts in zip(sketches, (ours, theirs), strict=True):
            if count := counts.get(word, 0):
                sketch.record(float(number), count)
    return sketches


def _rounded(metric: str, found: Comparison) -> Judged:
    has_data = bool(found.n_stable and found.n_candidate)
    return Judged(
        metric=metric,
        verdict="inconclusive",
        estimate=_finite(found.estimate) if has_data else None,
        lower=_finite(found.lower) if has_data else None,
        upper=_finite(found.upper) if has_data else None,
        p_worse=_six(found.p_worse),
        p_inferior=_six(found.p_inferior),
        n_stable=found.n_stable,
        n_candidate=found.n_candidate,
        design_effect=_six(found.design_effect),
    )


def _finite(value: float) -> float | None:
    return _six(value) if math.isfinite(value) else None


def _six(value: float) -> float:
    return float(f"{value:.6g}")
