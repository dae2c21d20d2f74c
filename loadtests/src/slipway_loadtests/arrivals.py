"""When requests are due: a schedule that is fixed before the first one is sent, and never waits for an answer.

Pure: it reads no clock and sleeps for nobody. The invariants: the same plan gives the same times on every machine and
for any number of workers; times ascend. An open loop is what users are: they do not wait for each other's answers, so a
slow server gets no less to do (Schroeder, Wierman and Harchol-Balter, "Open versus closed", NSDI 2006).

A varying rate is followed by the change of time: arrivals of a process with rate 1 are moved to where the integral of
the rate reaches them (Çinlar, Introduction to Stochastic Processes, 1975, section 4.7). Nothing is drawn and thrown
away, and the same code serves Poisson and constant arrivals.
"""

import math
import random
from collections.abc import Iterable, Iterator

from slipway_bundle.errors import ConfigError
from slipway_loadtests.shapes import Piece, pieces_of
from slipway_signals.gate.load_plan import LoadPlan, Replay

__all__ = ["due_times", "first_of_pair", "recorded_times"]


def due_times(plan: LoadPlan) -> Iterator[float]:
    """The times of a plan that has a rate, in seconds from the start, ascending and before `plan.seconds`; lazy."""
    generator = random.Random(plan.seed)  # noqa: S311  # arrivals, repeatable on purpose
    is_poisson = plan.arrivals == "poisson"
    done, wanted = 0.0, generator.expovariate(1.0) if is_poisson else 0.5
    for piece in pieces_of(plan):
        length = piece.end_s - piece.begin_s
        area = length * (piece.first + piece.last) / 2.0
        while wanted - done < area:
            yield piece.begin_s + _reached(piece, length, wanted - done)
            wanted += generator.expovariate(1.0) if is_poisson else 1.0
        done += area


def _reached(piece: Piece, length: float, area: float) -> float:
    """After how many seconds of the piece `area` arrivals were due: the root of `first·t + slope·t²/2 = area`."""
    slope = (piece.last - piece.first) / length
    root = math.sqrt(max(0.0, piece.first * piece.first + 2.0 * slope * area))
    return min(length, 2.0 * area / (piece.first + root))  # stable where the slope is next to nothing


def recorded_times(lines: Iterable[str], plan: LoadPlan, where: str) -> list[float]:
    """The times of a recorded trace, the first moved to 0, at the plan's speed, cut at `plan.seconds`.

    Args:
        lines: one arrival a line, seconds; what follows a comma is not read, nor are empty lines and `#` lines.
        plan: whose shape is a `Replay`; its `rate` is the highest that is allowed.
        where: the trace's name, for messages.

    Raises:
        ConfigError: a line is no time, they do not ascend, there is none, or a second has more than `rate` of them.
    """
    speed = plan.shape.speed if isinstance(plan.shape, Replay) else 1.0
    times: list[float] = []
    start = math.nan
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].partition(",")[0].strip()
        if not text:
            continue
        try:
            at = float(text)
        except ValueError:
            at = math.nan
        start = at if math.isnan(start) else start
        time_s = (at - start) / speed
        if not math.isfinite(time_s) or (times and time_s < times[-1]):
            raise ConfigError(f"line {number} of {where} is {text[:80]!r}, expected seconds, ascending")
        if time_s >= plan.seconds:
            break
        times.append(time_s)
        if len(times) > plan.rate and time_s - times[-math.ceil(plan.rate) - 1] < 1.0:
            raise ConfigError(
                f"{where} has more than {plan.rate:g} arrivals in a second, at its line {number}",
                hint="raise `rate` to what may be sent, or lower `shape.speed`",
            )
    if not times:
        raise ConfigError(f"{where} has no arrival", hint="one a line, in seconds: 0.125")
    return times


def first_of_pair(seed: int, index: int) -> bool:
    """Whether input `index` goes to stable first: a fair coin, the same for the same seed on every worker.

    The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014); a generator for each input would cost more than
    the rest of sending it.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return bool((mixed ^ mixed >> 31) & 1)
