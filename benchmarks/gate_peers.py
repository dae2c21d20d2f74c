"""The gate beside Kayenta's judge and Argo's plain thresholds: who passes what is bad, and fails what is good.

    uv run python benchmarks/gate_peers.py [--runs 500] [--first 0] [--processes 1]

Runs are simulated with known truth (`gate_runs.py`): five worlds in turn, two good (equal arms; equal arms with slow
seconds and stalls) and three bad (all latencies 10 % longer; errors 0.2 % to 0.9 %; answers shifted by 0.3 standard
deviations). A run is a minute of 100 requests/s an arm. All three judge the same seconds. The peers are written from
their documentation, with their own defaults and what helps them most:

Kayenta, NetflixACAJudge (https://spinnaker.io/docs/guides/user/canary/judge/): per metric a Mann-Whitney test at 98 %
confidence on time series; high if the lower end of the interval of the shift is above a quarter of its estimate. The
score is the share of metrics that are not; 95 passes, less than 75 fails, between is marginal. It is given a point each
second, 60 of them (its guide asks for 50), of all six metrics.

Argo Rollouts, AnalysisTemplate (https://argo-rollouts.readthedocs.io/en/stable/features/analysis/): each 5 s each
metric of the candidate is compared with stable's and the same margin as the gate's; more than `failureLimit: 3`
measurements beyond it fail the run, otherwise it passes.
"""

import argparse
import math
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from statistics import NormalDist

import gate
import numpy as np
from gate_runs import CLUSTERED, EQUAL, Floats, Second, World, seconds_of

from slipway_signals.gate.holm import holm

RATE = 100
SECONDS = 60
FIRST_VERDICT = 16
"""Looks before the gate says anything: it learns how seconds cluster."""

WORLDS = (
    EQUAL,
    CLUSTERED,
    World("10 % slower", is_bad=True, slower=1.1),
    World("errors 0.9 %", is_bad=True, errors=0.009),
    World("answers shifted", is_bad=True, shift=0.3),
)

METRICS = ("p50", "p95", "p99", "errors", "cpu", "answers")


def slipway(run: list[Second]) -> str:
    """The rules of docs/gate.md at every look: fail if worse and beyond half the margin, pass if all are shown."""
    judge = gate.Judge(RATE)
    for look, second in enumerate(run, 1):
        found = judge.look(second, 0)
        if look < FIRST_VERDICT:
            continue
        worse = holm({name: one.p_worse for name, one in found.items()})
        if any(worse[name] <= gate.ALPHA and one.estimate > gate.half_margin(name) for name, one in found.items()):
            return "fail"
        if all(one.p_inferior <= gate.ALPHA for one in found.values()):
            return "pass"
    return "undecided"


def kayenta(run: list[Second]) -> str:
    """Pass, fail, or undecided for what it calls marginal."""
    low = sum(not _is_high(*_series(run, name, 1)) for name in METRICS)
    score = 100.0 * low / len(METRICS)
    return "pass" if score >= 95.0 else "undecided" if score >= 75.0 else "fail"


def argo(run: list[Second]) -> str:
    """Pass or fail; it has no third word for data that say nothing."""
    for name in METRICS:
        stable, candidate = _series(run, name, 5)
        margin = gate.MARGINS[name]
        if name == "answers":
            beyond = np.abs(candidate - stable) > 0.25  # standard deviations: the shift that is the margin of 0.1
        else:
            beyond = candidate > stable * margin if margin > 1.0 else candidate > stable + margin
        if beyond.sum() > 3:
            return "fail"
    return "pass"


def _series(run: list[Second], name: str, step: int) -> tuple[Floats, Floats]:
    """One value each `step` seconds, of both arms."""
    arms = []
    for arm in (0, 1):
        values = []
        for at in range(0, len(run), step):
            some = run[at : at + step]
            latencies = np.concatenate([one.latencies[arm] for one in some])
            if name.startswith("p"):
                values.append(np.quantile(latencies, int(name[1:]) / 100))
            elif name == "errors":
                values.append(sum(one.errors[arm] for one in some) / (RATE * len(some)))
            elif name == "cpu":
                values.append(np.mean([one.cpu[arm] for one in some]))
            else:
                values.append(np.concatenate([one.answers[arm] for one in some]).mean())
        arms.append(np.array(values))
    return arms[0], arms[1]


def _is_high(control: Floats, experiment: Floats) -> bool:
    """Kayenta's classifier: the interval of the Hodges-Lehmann shift, at 98 %, by the normal approximation."""
    shifts = np.sort((experiment[:, None] - control).ravel())
    n, m = len(experiment), len(control)
    z = NormalDist().inv_cdf(0.99)
    rank = max(0, math.floor(n * m / 2 - z * math.sqrt(n * m * (n + m + 1) / 12)))
    return bool(shifts[rank] > 0.25 * abs(np.median(shifts)))


def judged(number: int) -> tuple[int, tuple[str, str, str]]:
    """The world of a run, and what the three say."""
    at = number % len(WORLDS)
    run = seconds_of(WORLDS[at], number, SECONDS, RATE)
    return at, (slipway(run), kayenta(run), argo(run))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        results = list(pool.map(judged, range(options.first, options.first + options.runs), chunksize=5))
    print(f"{len(results)} runs of {SECONDS} s, {RATE} requests/s an arm: pass / fail / undecided")
    print(f"{'':<20} {'slipway gate':>16} {'Kayenta judge':>16} {'Argo thresholds':>16}")
    for at, world in enumerate(WORLDS):
        cells = []
        for peer in range(3):
            counts = Counter(said[peer] for where, said in results if where == at)
            cells.append(f"{counts['pass']} / {counts['fail']} / {counts['undecided']}")
        print(
            f"{('bad: ' if world.is_bad else 'good: ') + world.name:<20} " + " ".join(f"{cell:>16}" for cell in cells)
        )
    for title, is_bad, word in (("false passes", True, "pass"), ("false fails", False, "fail")):
        among = [said for where, said in results if WORLDS[where].is_bad == is_bad]
        cells = [f"{sum(said[peer] == word for said in among)} of {len(among)}" for peer in range(3)]
        print(f"{title:<20} " + " ".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
