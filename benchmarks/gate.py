"""How often the gate's statistics are wrong, what they see, after how many requests, and what a look costs.

    uv run python benchmarks/gate.py [--runs 1000] [--first 0] [--only aa,clustered,margin,power,speed] [--processes 2]

aa: equal arms, seven metrics, a look every second for a minute; an alarm is a Holm-adjusted p-value of at most 5 % at
any of the looks. clustered: the same with slow seconds and stalls. margin: a candidate exactly as bad as the margin;
each time it is shown "not worse by the margin" is a false pass. power: one metric alone, until it concludes.
Run number i is the same in every invocation: `--first` and `--runs` cut the work into parts.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from gate_runs import BLOCK_S, CLUSTERED, EQUAL, RATE, ROUGH, Second, World, seconds_of

from slipway_signals.gate.blocks import BlockComparison
from slipway_signals.gate.comparison import Comparison
from slipway_signals.gate.distributions import DistributionComparison
from slipway_signals.gate.histogram import Histogram, Sketch
from slipway_signals.gate.holm import holm
from slipway_signals.gate.power import distribution_requests, proportion_requests, quantile_requests
from slipway_signals.gate.proportions import ProportionComparison, ProportionLimit
from slipway_signals.gate.quantiles import QuantileComparison

ALPHA = 0.05
LOOKS = 60
MARGINS = {"p50": 1.1, "p95": 1.1, "p99": 1.15, "errors": 0.005, "answers": 0.1, "cpu": 1.1, "disagreement": 0.01}


class Judge:
    """All seven metrics of one run, a look every second."""

    def __init__(self, rate: int = RATE) -> None:
        self._rate = rate
        self._quantiles = {
            name: QuantileComparison(int(name[1:]) / 100, MARGINS[name], ALPHA) for name in ("p50", "p95", "p99")
        }
        self._errors = ProportionComparison(MARGINS["errors"], ALPHA)
        self._answers = DistributionComparison(MARGINS["answers"], ALPHA)
        self._blocks = BlockComparison(MARGINS["cpu"], ALPHA)
        self._limit = ProportionLimit(MARGINS["disagreement"], ALPHA)
        self._latencies = Histogram(), Histogram()
        self._sketches = Sketch(), Sketch()
        self._bad = [0, 0]
        self._sent = [0, 0]
        self._cpu: list[tuple[float, float]] = []
        self._at = 0

    def look(self, second: Second, disagreed: int) -> dict[str, Comparison]:
        """What is known after one more second."""
        self._at += 1
        for arm in (0, 1):
            self._latencies[arm].merge(Histogram.of(second.latencies[arm]))
            self._sketches[arm].merge(Sketch.of(second.answers[arm]))
            self._bad[arm] += second.errors[arm]
            self._sent[arm] += second.errors[arm] + len(second.latencies[arm])
        self._cpu.append(second.cpu)
        found = {name: one.look(*self._latencies) for name, one in self._quantiles.items()}
        found["errors"] = self._errors.look((self._bad[0], self._sent[0]), (self._bad[1], self._sent[1]))
        found["answers"] = self._answers.look(*self._sketches)
        blocks = np.array(self._cpu[: self._at // BLOCK_S * BLOCK_S]).reshape(-1, BLOCK_S, 2).mean(axis=1)
        found["cpu"] = self._blocks.look([(float(a), float(b)) for a, b in blocks])
        found["disagreement"] = self._limit.look(disagreed, self._at * self._rate)
        return found


def alarms_of(world: World, number: int) -> tuple[set[str], bool, set[str], float]:
    """One run: metrics alarmed alone, whether any is after Holm, metrics shown not worse, and p99's design effect."""
    judge, draw, disagreed = Judge(), np.random.default_rng([number, 9]), 0
    alone: set[str] = set()
    shown: set[str] = set()
    is_alarmed, effect = False, 1.0
    for second in seconds_of(world, number, LOOKS):
        disagreed += int(draw.binomial(RATE, MARGINS["disagreement"]))  # exactly at its limit: the least favourable
        found = judge.look(second, disagreed)
        worse = {name: one.p_worse for name, one in found.items()}
        alone |= {name for name, p in worse.items() if p <= ALPHA}
        is_alarmed |= min(holm(worse).values()) <= ALPHA
        shown |= {name for name, one in found.items() if one.p_inferior <= ALPHA}
        effect = found["p99"].design_effect
    return alone, is_alarmed, shown, effect


def share(count: int, runs: int) -> str:
    """A share of runs with the interval in which the true one lies at 95 % (Wilson 1927)."""
    z, p = 1.96, count / runs
    middle, half = p + z * z / (2 * runs), z * math.sqrt(p * (1 - p) / runs + z * z / (4 * runs * runs))
    low, high = ((middle + sign * half) / (1 + z * z / runs) for sign in (-1, 1))
    return f"{count:>4} of {runs} = {p:6.2%}  ({max(low, 0):.2%} to {high:.2%})"


def print_alarms(title: str, world: World, each: Callable[..., list[object]], numbers: range) -> None:
    """The table of one world."""
    started = time.monotonic()
    results: list[tuple[set[str], bool, set[str], float]] = each(partial(alarms_of, world), numbers)  # type: ignore[assignment]  # of alarms_of
    alone = Counter(name for one in results for name in one[0])
    shown = Counter(name for one in results for name in one[2])
    print(f"\n{title}: {LOOKS} looks, {RATE} requests/s an arm ({time.monotonic() - started:.0f} s)")
    print(f"  any metric, after Holm       {share(sum(one[1] for one in results), len(results))}")
    for name in MARGINS:
        shown_share = f"not worse by the margin {shown[name] / len(results):.1%}"
        print(f"  {name:<12} alone: worse    {share(alone[name], len(results))}; {shown_share}")
    print(f"  design effect of p99 at the end: {np.mean([one[3] for one in results]):.2f} on average")


def requests_until(metric: str, margin: float, wanted: str, world: World, step: int, number: int) -> int:
    """Requests of each arm until one metric concludes with p at most 5 %; a run has 90 looks of `step` requests."""
    quantile = QuantileComparison(int(metric[1:]) / 100, margin, ALPHA) if metric.startswith("p") else None
    errors, answers = ProportionComparison(margin, ALPHA), DistributionComparison(margin, ALPHA)
    latencies, sketches = (Histogram(), Histogram()), (Sketch(), Sketch())
    bad = [0, 0]
    for look, second in enumerate(seconds_of(world, number, 90, step), 1):
        for arm in (0, 1):
            latencies[arm].merge(Histogram.of(second.latencies[arm]))
            sketches[arm].merge(Sketch.of(second.answers[arm]))
            bad[arm] += second.errors[arm]
        if quantile:
            found = quantile.look(*latencies)
        elif metric == "errors":
            found = errors.look((bad[0], look * step), (bad[1], look * step))
        else:
            found = answers.look(*sketches)
        if (found.p_worse if wanted == "worse" else found.p_inferior) <= ALPHA:
            return look * step
    return 10**9


def print_power(each: Callable[..., list[object]], numbers: range) -> None:
    """How many requests each conclusion takes, beside what the preflight states and a test of fixed size needs."""
    slow = World("slow", slower=1.1)
    rows = [
        ("p95 10 % slower: worse", "p95", 1.1, "worse", slow, 60, quantile_requests(0.95, 1.1, ALPHA), 1_520),
        ("p95 15 % slower: worse", "p95", 1.1, "worse", replace(slow, slower=1.15), 30, None, 1_520),
        ("p95 equal: not 10 % worse", "p95", 1.1, "inferior", EQUAL, 60, quantile_requests(0.95, 1.1, ALPHA), 1_520),
        ("p50 15 % slower: worse", "p50", 1.1, "worse", replace(slow, slower=1.15), 15, None, 535),
        ("p99 equal: not 10 % worse", "p99", 1.1, "inferior", EQUAL, 180, quantile_requests(0.99, 1.1, ALPHA), 4_743),
        (
            "errors 1 %: not +1 point",
            "errors",
            0.01,
            "inferior",
            replace(EQUAL, errors=0.01, stable_errors=0.01),
            50,
            proportion_requests(0.01, 0.01, ALPHA),
            1_225,
        ),
        (
            "errors 0.1 %: not +0.5 point",
            "errors",
            0.005,
            "inferior",
            replace(EQUAL, errors=0.001, stable_errors=0.001),
            25,
            proportion_requests(0.001, 0.005, ALPHA),
            495,
        ),
        (
            "errors 1 % to 2.5 %: worse",
            "errors",
            0.01,
            "worse",
            replace(EQUAL, errors=0.025, stable_errors=0.01),
            40,
            None,
            1_225,
        ),
        (
            "answers equal: not 0.1 apart",
            "answers",
            0.1,
            "inferior",
            EQUAL,
            40,
            distribution_requests(0.1, ALPHA),
            None,
        ),
        ("answers shifted by 0.4 sd", "answers", 0.1, "worse", replace(EQUAL, shift=0.4), 20, None, None),
    ]
    print(f"\none metric alone at 5 %, {len(numbers)} runs: requests of each arm until it concludes")
    print(f"  {'':<30} {'median':>7} {'80 %':>7}  preflight  power there   fixed size  median of it")
    for title, metric, margin, wanted, world, step, stated, fixed in rows:
        found = np.array(each(partial(requests_until, metric, margin, wanted, world, step), numbers), dtype=float)
        median, most = np.median(found), np.quantile(found, 0.8)
        at = f"{stated:>9,} {np.mean(found <= stated):>11.1%}" if stated else " " * 21
        beside = f"{fixed:>12,} {median / fixed:>11.0%}" if fixed else ""
        print(f"  {title:<30} {median:>7,.0f} {most:>7,.0f}  {at}  {beside}", flush=True)


def half_margin(name: str) -> float:
    """Beyond it a metric is materially worse."""
    return (MARGINS[name] + 1.0) / 2.0 if MARGINS[name] > 1.0 else MARGINS[name] / 2.0


def requests_until_failed(world: World, number: int) -> int:
    """Requests of each arm until any of the seven metrics fails: Holm-adjusted, and beyond half its margin."""
    judge = Judge()
    for look, second in enumerate(seconds_of(world, number, LOOKS), 1):
        found = judge.look(second, 0)
        worse = holm({name: one.p_worse for name, one in found.items()})
        for name, one in found.items():
            if worse[name] <= ALPHA and one.estimate > half_margin(name):
                return look * RATE
    return 10**9


def print_gate(each: Callable[..., list[object]], numbers: range) -> None:
    """How soon the whole gate refuses a bad candidate."""
    print(f"\nall seven metrics, {len(numbers)} runs of {LOOKS} s: requests of each arm until one fails")
    for world in (
        World("all latencies 10 % longer", slower=1.1),
        World("all latencies 15 % longer", slower=1.15),
        World("one request in ten takes 1.5 times", slow_share=0.1),
        World("errors 0.2 % to 1.2 %", errors=0.012),
        World("answers shifted by 0.4 sd", shift=0.4),
        World("CPU 15 % more", cpu=1.15),
    ):
        found = np.array(each(partial(requests_until_failed, world), numbers), dtype=float)
        median, most = np.median(found), np.quantile(found, 0.8)
        print(
            f"  {world.name:<36} failed {np.mean(found < 1e9):>6.1%}  median {median:>7,.0f}  80 % {most:>14,.0f}",
            flush=True,
        )


def print_speed() -> None:
    """Milliseconds of one look at 100,000 requests an arm, the best of five."""
    draw = np.random.default_rng(3)
    latencies = [Histogram.of(10_000 * np.exp(0.5 * draw.normal(size=100_000))) for _ in range(2)]
    best = []
    for _ in range(5):
        folds = [QuantileComparison(q, 1.1, ALPHA) for q in (0.5, 0.95, 0.99)]
        started = time.perf_counter()
        for fold in folds:
            fold.look(*latencies)
        best.append(time.perf_counter() - started)
    print(f"\na look at three quantiles, 100,000 requests an arm: {min(best) * 1e3:.1f} ms")
    one, values = Histogram(), (10_000 * np.exp(0.5 * draw.normal(size=50_000))).astype(int).tolist()
    started = time.perf_counter()
    for value in values:
        one.record(value)
    print(f"one latency recorded: {(time.perf_counter() - started) / len(values) * 1e9:.0f} ns")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="speed,power,gate,margin,aa,clustered,rough")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.runs)
    wanted = options.only.split(",")
    with ProcessPoolExecutor(options.processes) as pool:
        each = partial(_each, pool)
        if "speed" in wanted:
            print_speed()
        if "power" in wanted:
            print_power(each, numbers)
        if "gate" in wanted:
            print_gate(each, numbers)
        if "margin" in wanted:
            print(f"\na candidate exactly as bad as the margin is shown not to be, within 90 looks of {RATE} requests")
            for metric, world in (
                ("p95", World("margin", slower=MARGINS["p95"])),
                ("errors", World("margin", errors=0.007)),
                ("answers", World("margin", shift=0.2513)),  # 2·Φ(0.2513/2) - 1 = 0.1
            ):
                one = partial(requests_until, metric, MARGINS[metric], "inferior", world, RATE)
                passes = sum(found < 10**9 for found in np.array(each(one, numbers)))
                print(f"  {metric:<12} {share(int(passes), len(numbers))}", flush=True)
        if "aa" in wanted:
            print_alarms("equal arms", EQUAL, each, numbers)
        if "clustered" in wanted:
            print_alarms("equal arms, seconds of 5 % more or less, stalls", CLUSTERED, each, numbers)
        if "rough" in wanted:
            print_alarms("equal arms, seconds of 10 % more or less, many stalls", ROUGH, each, numbers)


def _each(pool: ProcessPoolExecutor, one: Callable[[int], object], numbers: range) -> list[object]:
    return list(pool.map(one, numbers, chunksize=8))


if __name__ == "__main__":
    main()
