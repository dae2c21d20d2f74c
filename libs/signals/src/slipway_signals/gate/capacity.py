"""The highest rate at which a server keeps its promises: which rate to try next, and what the tries add up to.

Pure: it sends nothing and asks no clock; the load process tries, the command line draws. The invariants: the answer is
a rate that was tried and kept every promise; a rate counts as broken only when it was tried twice; a generator that
could not keep up ends the search, because then the figures are its own and not the server's.

Doubling until a rate breaks, then bisection on the logarithm between the best that held and the worst that broke. The
knee is where latency begins to rise faster than load: the largest distance between the two when both are scaled to
0 … 1 (Satopää, Albrecht, Irwin and Raghavan, "Finding a Kneedle in a Haystack", ICDCS-W 2011).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.records import Window

__all__ = ["Capacity", "Search", "Step", "capacity_of", "judge_step", "knee_of", "next_rate"]

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
TRIES: Final = 2
"""Of a rate that breaks: one bad second of a busy machine is no limit."""
SLIP_SHARE: Final = 0.25
"""Of the latency threshold: where requests leave later than this at p99, the generator is what is measured."""
CPU_SHARE: Final = 0.9
"""Of one core, of a worker: beyond it the generator is the limit."""


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised, and between which rates the limit is looked for."""

    threshold_s: Positive
    """Latency at `quantile` must be below it."""
    quantile: Annotated[float, Meta(gt=0, lt=1)] = 0.99
    success: Share = 0.999
    """Share of the requests that must succeed."""
    lowest: Positive = 10.0
    highest: Positive = 10_000.0
    precision: Annotated[float, Meta(gt=0, le=1)] = 0.05
    """The search ends when what broke is at most this share above what held."""
    step_s: Positive = 5.0
    """Of each try, after a warm-up of a fifth of it."""


class Step(Struct, frozen=True, kw_only=True):
    """One rate that was tried."""

    rate: float
    succeeded_per_s: float
    """Over the length of the try."""
    failed: float
    """Share of what was due: failed, or dropped because too much was in flight."""
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    at_quantile_s: float | None
    """None where nothing succeeded."""
    held: bool
    why: str
    """Which promise broke, or that none did."""
    is_generator: bool = False
    """Whether who asked could not keep up, so that this says nothing about the server."""


class Capacity(Struct, frozen=True, kw_only=True):
    """What a search found."""

    search: Search
    steps: tuple[Step, ...]
    """In the order of the tries."""
    rate: float | None
    """The highest that held; None: not even the lowest did."""
    knee: float | None
    """Where latency begins to rise faster than load; None: too few rates were tried to tell."""
    ended: str
    """Why no other rate was tried."""


def next_rate(search: Search, steps: Sequence[Step]) -> float | None:
    """The rate to try next; None: the search is over."""
    if steps and steps[-1].is_generator:
        return None
    held, broke = _held(steps), _broke(steps)
    if steps and not steps[-1].held and steps[-1].rate != broke:
        return steps[-1].rate  # once more
    if broke is None:
        if held is None:
            return search.lowest
        return min(2.0 * held, search.highest) if held < search.highest else None
    if held is None or broke <= held * (1.0 + search.precision):
        return None
    return math.sqrt(held * broke)


def judge_step(search: Search, rate: float, windows: Sequence[Window]) -> Step:
    """What the windows of one try say; those of the warm-up are left out."""
    counted = [window for window in windows if not window.is_warm_up]
    latency, slip = Histogram(), Histogram()
    failed = due = 0
    for window in counted:
        counts = window.arms["stable"]
        latency.merge(counts.latency_us)
        slip.merge(window.generator.slip_us)
        failed += sum(counts.failed.values()) + window.generator.dropped
        due += window.generator.offered
    seconds = sum(window.end_s - window.begin_s for window in counted)
    share = min(1.0, failed / due) if due else 1.0
    busiest = max((window.generator.cpu_share for window in counted), default=0.0)
    slip_s = _at(slip, 0.99) or 0.0
    at_quantile_s = _at(latency, search.quantile)
    is_generator = busiest > CPU_SHARE or slip_s > SLIP_SHARE * search.threshold_s
    held, why = _kept(search, share, at_quantile_s)
    if is_generator and not held:
        why = f"the generator could not keep up: {busiest:.0%} of a core, p99 of its slip {slip_s * 1e3:.1f} ms"
    return Step(
        rate=rate,
        succeeded_per_s=latency.count / seconds if seconds else 0.0,
        failed=share,
        p50_s=_at(latency, 0.5),
        p95_s=_at(latency, 0.95),
        p99_s=_at(latency, 0.99),
        at_quantile_s=at_quantile_s,
        held=held,
        why=why,
        is_generator=is_generator and not held,
    )


def capacity_of(search: Search, steps: Sequence[Step]) -> Capacity:
    """What the tries add up to."""
    rate, broke = _held(steps), _broke(steps)
    if steps and steps[-1].is_generator:
        ended = steps[-1].why
    elif rate is None:
        ended = f"not even {search.lowest:g} requests a second held"
    elif broke is None:
        ended = f"{search.highest:g} requests a second held, the highest that was allowed"
    else:
        ended = f"{broke:g} requests a second broke twice"
    return Capacity(search=search, steps=tuple(steps), rate=rate, knee=knee_of(search, steps), ended=ended)


def knee_of(search: Search, steps: Sequence[Step]) -> float | None:
    """The rate at the knee of latency over load; None with fewer than four rates, or where latency does not rise.

    Latencies beyond twice what is promised count as that: how bad a collapse was must not move the knee.
    """
    most_s = 2.0 * search.threshold_s
    by_rate = {step.rate: min(most_s, step.at_quantile_s) for step in steps if step.at_quantile_s is not None}
    points = [(rate, by_rate[rate]) for rate in sorted(by_rate)]
    if len(points) < 4:
        return None
    (low, _), (high, _) = points[0], points[-1]
    least, most = min(y for _, y in points), max(y for _, y in points)
    if most < 2.0 * least:
        return None
    distances = [((x - low) / (high - low) - (y - least) / (most - least), x) for x, y in points]
    return max(distances)[1]


def _kept(search: Search, failed: float, at_quantile_s: float | None) -> tuple[bool, str]:
    if failed > 1.0 - search.success:
        return False, f"{failed:.2%} failed, expected at most {1.0 - search.success:.2%}"
    if at_quantile_s is None or at_quantile_s > search.threshold_s:
        got = (
            "nobody was answered"
            if at_quantile_s is None
            else f"p{100 * search.quantile:g} {at_quantile_s * 1e3:.1f} ms"
        )
        return False, f"{got}, expected at most {search.threshold_s * 1e3:g} ms"
    return True, "kept its promises"


def _held(steps: Sequence[Step]) -> float | None:
    return max((step.rate for step in steps if step.held), default=None)


def _broke(steps: Sequence[Step]) -> float | None:
    """The lowest rate above what held that broke as often as it may."""
    held = _held(steps) or 0.0
    rates = [step.rate for step in steps if not step.held]
    return min((rate for rate in rates if rate > held and rates.count(rate) >= TRIES), default=None)


def _at(histogram: Histogram, quantile: float) -> float | None:
    return histogram.quantile(quantile) / 1e6 if histogram.count else None
