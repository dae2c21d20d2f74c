"""Can this plan conclude? Said before any traffic, with what would do.

It sends nothing. The invariant: a plan is refused when some metric would, with a candidate that is exactly as good as
stable, not be settled with the probability `POWER` by the requests that the plan sends.
"""

import math
from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.errors import UsageError
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.margins import Fields, Promises, criteria_of
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.power import (
    blocks_needed,
    distribution_requests,
    limit_requests,
    proportion_requests,
    quantile_requests,
)
from slipway_signals.gate.reasons import amount_text
from slipway_signals.gate.verdict import Check, Criterion

__all__ = ["CannotConcludeError", "Forecast", "Preflight", "foresee", "refuse"]

POWER: Final = 0.8

BLOCK_NOISE: Final = 0.05
"""Standard deviation of the logarithm of the ratio of the arms' CPU seconds a request, of a block of equal arms."""

THROUGHPUT_NOISE: Final = 0.005
"""The same of the answers: both arms are sent the same."""

BASE: Final = 0.1
"""Part of what is promised that stable is taken to use up: a service at its limit should not be released."""


class CannotConcludeError(UsageError):
    """The plan cannot conclude."""

    code = "gate_cannot_conclude"


class Forecast(Struct, frozen=True, kw_only=True):
    """One metric before any traffic."""

    metric: str
    margin: float
    requests: int
    """Of each arm, that settle it with a probability of 80 %."""

    seconds: float
    """At the plan's rate."""

    is_enough: bool


class Preflight(Struct, frozen=True, kw_only=True):
    """The plan as a whole."""

    requests: int
    """Of each arm, that the plan sends and judges."""

    seconds: float
    """That are judged."""

    forecasts: tuple[Forecast, ...]
    """The one that takes longest first."""

    can_conclude: bool
    advice: tuple[str, ...]
    """What would do, each of them alone; empty when it can."""

    @property
    def check(self) -> Check:
        """As evidence keeps it."""
        first = self.forecasts[0]
        text = f"{self.requests:,} requests for each arm; {first.metric} takes longest, with {first.requests:,}"
        return Check(name="preflight", status="ok" if self.can_conclude else "failed", text=text, details=self.advice)


def foresee(plan: GatePlan, promises: Promises | None) -> Preflight:
    """What the plan can show, of the metrics that are known before any traffic.

    Raises:
        ValueError: The plan has no load: a bug of the caller.
    """
    load = plan.load
    if load is None:
        raise ValueError("a plan without load has no preflight: this is a bug in slipway")
    seconds = load.seconds - load.warm_up_s
    resources = ("cpu",) if all(target.admin for target in load.arms.values()) else ()
    criteria = criteria_of(plan, promises, Fields(latency_us=Histogram(), resources=resources))
    must = [one for one in criteria if one.role == "must"]
    needed = {one.metric: _needed(one, plan, promises) for one in must}
    forecasts = [
        Forecast(
            metric=one.metric,
            margin=one.margin,
            requests=needed[one.metric],
            seconds=needed[one.metric] / load.rate,
            is_enough=needed[one.metric] <= seconds * load.rate,
        )
        for one in must
    ]
    forecasts.sort(key=lambda one: (-one.requests, one.metric))
    most = max(max((one.requests for one in forecasts), default=0), plan.at_least)
    can = all(one.is_enough for one in forecasts) and plan.at_least <= seconds * load.rate
    can = can and plan.at_least_s <= seconds
    advice = () if can else _advice(plan, promises, must, most, seconds)
    return Preflight(
        requests=int(seconds * load.rate),
        seconds=seconds,
        forecasts=tuple(forecasts),
        can_conclude=can,
        advice=advice,
    )


def refuse(preflight: Preflight) -> None:
    """Raise CannotConcludeError when the plan cannot conclude; the hint says what would do."""
    if preflight.can_conclude:
        return
    open_ = [one for one in preflight.forecasts if not one.is_enough]
    first = open_[0] if open_ else preflight.forecasts[0]
    raise CannotConcludeError(
        f"the plan cannot conclude: {first.metric} takes about {first.requests:,} requests for each arm, and "
        f"{preflight.requests:,} are planned",
        hint="; or ".join(preflight.advice),
        metric=first.metric,
        got=preflight.requests,
        expected=first.requests,
    )


def _advice(
    plan: GatePlan, promises: Promises | None, must: list[Criterion], most: int, seconds: float
) -> tuple[str, ...]:
    load = plan.load
    if load is None:
        return ()
    planned = seconds * load.rate
    whole_s = max(most / load.rate, plan.at_least_s) + load.warm_up_s
    found = [f"`seconds` = {math.ceil(whole_s)} ({whole_s / 60:.1f} minutes)"]
    rate = most / seconds
    if seconds >= plan.at_least_s and rate <= load.caps.rate:
        found.append(f"`rate` = {math.ceil(rate)}")
    wider = []
    for one in must:
        if _needed(one, plan, promises) > planned:
            margin = _smallest(one, lambda wanted: _needed(wanted, plan, promises) <= planned)
            if margin is None:
                return tuple(found)
            wider.append(f"{one.metric} {margin:.6g} ({amount_text(one, margin)})")
    if wider:
        found.append(f"a wider margin, with a reason: {', '.join(wider)}")
    return tuple(found)


def _smallest(criterion: Criterion, is_enough: Callable[[Criterion], bool]) -> float | None:
    """The smallest margin that would do, rounded up to two digits of its width; None when none is worth a name."""
    low, high = criterion.margin - criterion.neutral, 0.5 if criterion.unit == "share" else 2.0

    def tried(width: float) -> bool:
        return is_enough(replace(criterion, margin=criterion.neutral + width))

    if low >= high or not tried(high):
        return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if tried(middle) else (middle, high)
    digits = 1 - math.floor(math.log10(high))
    scale: float = 10.0**digits
    return round(criterion.neutral + math.ceil(high * scale) / scale, digits)


def _needed(criterion: Criterion, plan: GatePlan, promises: Promises | None) -> int:
    """Requests of each arm that settle a metric, of a candidate that is exactly as good as stable."""
    margin, rate = criterion.margin, plan.load.rate if plan.load is not None else 1.0
    match criterion.kind:
        case "quantile":
            return quantile_requests(criterion.quantile or 0.5, margin, plan.alpha, power=POWER)
        case "proportion":
            return proportion_requests(_base(criterion.metric, promises), margin, plan.alpha, power=POWER)
        case "limit":
            return limit_requests(margin * BASE, margin, plan.alpha, power=POWER)
        case "distribution":
            return distribution_requests(margin, plan.alpha, power=POWER)
        case "block":
            noise = BLOCK_NOISE if criterion.metric == "cpu" else THROUGHPUT_NOISE
            return math.ceil(blocks_needed(noise, margin, plan.alpha, power=POWER) * plan.block_s * rate)


def _base(metric: str, promises: Promises | None) -> float:
    """Share of bad requests that stable is taken to have."""
    budget = None
    if promises is not None:
        budget = {"errors": promises.error_budget, "slow": promises.latency_budget}.get(metric)
    return BASE * budget if budget is not None else 0.0
