"""How much worse is too much: the criteria of a run, from what a service promises and what its plan says.

It opens nothing: `promises_of` takes objectives that were read. The invariants: each margin says where it comes from;
what a plan puts in its place has the plan's reason. Margins of latency are fixed on the warm-up, which nobody judges,
so no look can move them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.plan import GatePlan, named
from slipway_signals.gate.verdict import Criterion, Kind
from slipway_signals.slo.model import Counters, ServiceSlos, Slo

__all__ = ["Fields", "Promises", "criteria_of", "promises_of", "quantile_name"]

ERRORS: Final = 0.005
"""Share of failed requests that a candidate may add where nothing is promised."""

MALFORMED: Final = 0.001
WRONG: Final = 0.02
"""Share of labelled inputs that it may answer wrong beyond stable."""

OUTPUTS: Final = 0.05
"""Largest difference of two distribution functions: a classifier of drift calls 0.05 small (KS)."""

DISAGREEMENT: Final = 0.02
THROUGHPUT: Final = 1.05
CPU: Final = 1.25
SATURATION: Final = 1.5
COST: Final = 1.1


class Promises(Struct, frozen=True, kw_only=True):
    """What `slo.yaml` says, as far as it matters to a gate."""

    service: str
    digest: str
    """Of the file, sha256:…"""

    error_budget: float | None = None
    """Share of requests that may fail: of the tightest objective of availability."""

    latency_threshold_s: float | None = None
    latency_budget: float | None = None
    """Share of answers that may take longer."""


class Fields(Struct, frozen=True, kw_only=True):
    """What the windows before the first look have."""

    latency_us: Histogram
    """Stable's, of the warm-up; empty without one."""

    outputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    disagreement: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    """Of `cpu`, `queue`, `gpu`, `cost`: what stable's admin port shows."""

    is_labelled: bool = False


def promises_of(service: ServiceSlos, digest: str, paths: Sequence[str] = ()) -> Promises:
    """The promises about the endpoints that are asked.

    Args:
        service: As `slo.openslo.load_slos` reads it.
        digest: Of the file.
        paths: Of the plan's scenarios; an objective about another route does not count. Empty: all count.
    """
    about = [slo for slo in service.slos if _is_about(slo, paths)]
    budgets = [float(slo.budget) for slo in about if slo.category == "availability"]
    fast = [
        (slo.indicator.threshold_s, float(slo.budget))
        for slo in about
        if isinstance(slo.indicator, Counters) and slo.indicator.threshold_s is not None
    ]
    threshold, budget = min(fast, default=(None, None))
    return Promises(
        service=service.service,
        digest=digest,
        error_budget=min(budgets, default=None),
        latency_threshold_s=threshold,
        latency_budget=budget,
    )


def criteria_of(plan: GatePlan, promises: Promises | None, fields: Fields) -> tuple[Criterion, ...]:
    """What is judged, and by which margin, in the order in which a report shows it."""
    found = [
        *_shares(plan, promises),
        *_latencies(plan, promises, fields.latency_us),
        *_answers(fields),
        *_work(fields),
    ]
    if plan.source != "load":  # the generator's schedule is what makes these comparable
        found = [one for one in found if one.metric != "throughput"]
    if plan.source == "split":
        found = [one for one in found if not one.metric.startswith("disagreement.")]
    kept = [one for one in found if named(one.metric, plan.without) is None]
    return tuple(_overridden(plan, one) for one in kept)


def quantile_name(quantile: float) -> str:
    """`latency.p95`, `latency.p99.9`."""
    return f"latency.p{quantile * 100:.6g}"


def _shares(plan: GatePlan, promises: Promises | None) -> list[Criterion]:
    share = plan.fractions.error_budget
    found = []
    if promises is not None and promises.error_budget is not None:
        reason = f"{share:g} of the error budget of {promises.error_budget:.4g} that slo.yaml leaves"
        found.append(_share("errors", "share of failed requests", share * promises.error_budget, "slo", reason))
    else:
        found.append(_share("errors", "share of failed requests", ERRORS, "default", "no objective of availability"))
    if promises is not None and promises.latency_threshold_s is not None and promises.latency_budget is not None:
        title = f"share of answers above {promises.latency_threshold_s * 1000:g} ms"
        reason = f"{share:g} of the {promises.latency_budget:.4g} that slo.yaml lets be slower"
        found.append(_share("slow", title, share * promises.latency_budget, "slo", reason))
    found.append(_share("malformed", "share of malformed answers", MALFORMED, "default", "one in a thousand"))
    return found


def _latencies(plan: GatePlan, promises: Promises | None, warm_up: Histogram) -> list[Criterion]:
    fractions = plan.fractions
    threshold = None if promises is None else promises.latency_threshold_s
    found = []
    for quantile in plan.quantiles:
        rise, origin = fractions.latency_most, "default"
        reason = f"{fractions.latency_most:.0%} of stable's"
        if threshold is not None and warm_up.count:
            stable_s = max(warm_up.quantile(quantile), 1) / 1e6
            wanted = fractions.latency_threshold * threshold / stable_s
            if wanted < fractions.latency_most:
                rise, origin = max(wanted, fractions.latency_least), "slo"
                reason = (
                    f"{fractions.latency_threshold:.0%} of the threshold of {threshold * 1000:g} ms, at least "
                    f"{fractions.latency_least:.0%} of stable's {stable_s * 1000:.3g} ms in the warm-up"
                )
        found.append(
            Criterion(
                metric=quantile_name(quantile),
                title=f"latency, {quantile * 100:.6g} %",
                kind="quantile",
                unit="ratio",
                neutral=1.0,
                margin=1.0 + rise,
                quantile=quantile,
                origin="slo" if origin == "slo" else "default",
                reason=reason,
            )
        )
    return found


def _answers(fields: Fields) -> list[Criterion]:
    small = f"a shift of {OUTPUTS:g} of all answers is small"
    found = [
        _share(f"outputs.{name}", f"distribution of {name}", OUTPUTS, "default", small, kind="distribution")
        for name in fields.outputs
    ]
    found += [
        _share(f"labels.{name}", f"shares of the values of {name}", OUTPUTS, "default", small, kind="distribution")
        for name in fields.labels
    ]
    found += [
        _share(
            f"disagreement.{name}",
            f"pairs that differ in {name}",
            DISAGREEMENT,
            "default",
            "one pair in fifty beyond the tolerance",
            kind="limit",
        )
        for name in fields.disagreement
    ]
    if fields.is_labelled:
        found.append(_share("wrong", "share of wrong answers", WRONG, "default", "two inputs of a hundred"))
    return found


def _work(fields: Fields) -> list[Criterion]:
    table: Mapping[str, tuple[str, float, str]] = {
        "cpu": ("CPU seconds a request", CPU, "a quarter more"),
        "queue": ("rows that wait", SATURATION, "half as many again"),
        "gpu": ("share of time in which the GPU computes", SATURATION, "half as much again"),
        "cost": ("cost of 1,000 requests", COST, "a tenth more"),
    }
    found = [_ratio("throughput", "seconds an answer, at the same load", THROUGHPUT, "one answer in twenty")]
    for name, (title, margin, reason) in table.items():
        if name in fields.resources:
            one = _ratio(name, title, margin, reason)
            # Gauges, seen once a window: enough to show that something fills up, not that nothing does.
            found.append(replace(one, role="guard") if name in {"queue", "gpu"} else one)
    return found


def _share(metric: str, title: str, margin: float, origin: str, reason: str, *, kind: Kind = "proportion") -> Criterion:
    return Criterion(
        metric=metric,
        title=title,
        kind=kind,
        unit="share",
        neutral=0.0,
        margin=margin,
        origin="slo" if origin == "slo" else "default",
        reason=reason,
    )


def _ratio(metric: str, title: str, margin: float, reason: str) -> Criterion:
    return Criterion(
        metric=metric,
        title=title,
        kind="block",
        unit="ratio",
        neutral=1.0,
        margin=margin,
        origin="default",
        reason=reason,
    )


def _overridden(plan: GatePlan, criterion: Criterion) -> Criterion:
    key = named(criterion.metric, plan.margins)
    if key is None:
        return criterion
    wanted = plan.margins[key]
    return replace(
        criterion,
        margin=criterion.margin if wanted.margin is None else wanted.margin,
        role=wanted.role or criterion.role,
        origin="plan",
        reason=wanted.reason,
    )


def _is_about(slo: Slo, paths: Sequence[str]) -> bool:
    """Whether an objective counts requests to one of `paths`."""
    if not isinstance(slo.indicator, Counters):
        return False
    routes = [matcher for matcher in slo.indicator.total.matchers if matcher.label == "http_route"]
    return not paths or not routes or any(all(route.accepts(path) for route in routes) for path in paths)
