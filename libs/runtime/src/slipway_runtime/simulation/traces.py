"""Arrivals to simulate: made from a seed, or recorded.

The invariant: the same arguments give the same trace, on every machine and Python version that slipway knows
(`random.Random` with integer seeds is stable).
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from slipway_bundle.errors import UsageError

__all__ = ["Arrival", "TraceError", "bursts", "decode_trace", "diurnal", "poisson"]

MOST_ARRIVALS: Final = 5_000_000


class TraceError(UsageError):
    """A trace cannot be made, or a recorded one cannot be read."""

    code = "trace_invalid"


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One request."""

    at: float
    """Seconds from the start."""
    rows: int = 1


def poisson(rate: float, seconds: float, seed: int, rows: int = 1) -> list[Arrival]:
    """Independent arrivals, `rate` a second on average."""
    return list(_thinned(lambda _: rate, rate, seconds, seed, rows))


def bursts(
    rate: float, seconds: float, seed: int, *, factor: float = 5.0, burst_s: float = 0.2, pause_s: float = 0.8
) -> list[Arrival]:
    """Arrivals that come in bursts, `rate` a second on average over long times.

    A Markov-modulated Poisson process: bursts and pauses of exponential lengths, means `burst_s` and `pause_s`; in a
    burst `factor` times as many arrive as in a pause.
    """
    generator = random.Random(seed)  # noqa: S311  # a simulation, repeatable on purpose
    share = burst_s / (burst_s + pause_s)
    slow = rate / (factor * share + 1.0 - share)
    arrivals: list[Arrival] = []
    now, is_burst = 0.0, False
    while now < seconds:
        ends = min(seconds, now + generator.expovariate(1.0 / (burst_s if is_burst else pause_s)))
        at = now + generator.expovariate(slow * (factor if is_burst else 1.0))
        while at < ends:
            arrivals.append(Arrival(at))
            at += generator.expovariate(slow * (factor if is_burst else 1.0))
        now, is_burst = ends, not is_burst
    return arrivals


def diurnal(
    rate: float, seconds: float, seed: int, *, swing: float = 0.8, period_s: float | None = None
) -> list[Arrival]:
    """Arrivals whose rate follows a day: a sine of `swing` around `rate`; a day lasts `period_s`, by default all."""
    if not 0.0 <= swing <= 1.0:
        raise TraceError(f"swing is {swing}, expected 0 to 1: the share by which the rate rises and falls")
    period = period_s or seconds
    return list(
        _thinned(
            lambda at: rate * (1.0 - swing * math.cos(2.0 * math.pi * at / period)),
            rate * (1.0 + swing),
            seconds,
            seed,
            1,
        )
    )


def decode_trace(lines: Iterable[str], where: str = "the trace") -> list[Arrival]:
    """A recorded trace: one arrival a line, `SECONDS` or `SECONDS,ROWS`; the first becomes time 0.

    Empty lines and lines that begin with `#` are skipped; a header line without a number is too.

    Raises:
        TraceError: a line is neither; or there is no arrival, or too many.
    """
    arrivals: list[Arrival] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        seconds, _, rows = text.partition(",")
        try:
            arrival = Arrival(float(seconds), int(rows or 1))
        except ValueError as error:
            if not arrivals and number == 1:
                continue
            raise TraceError(
                f"line {number} of {where} is {text[:80]!r}, expected SECONDS or SECONDS,ROWS",
                hint="for example 0.125,1",
            ) from error
        if not math.isfinite(arrival.at) or arrival.rows < 1:
            raise TraceError(f"line {number} of {where} is {text[:80]!r}, expected a finite time and at least 1 row")
        if len(arrivals) >= MOST_ARRIVALS:
            raise TraceError(f"{where} has more than {MOST_ARRIVALS} arrivals")
        arrivals.append(arrival)
    if not arrivals:
        raise TraceError(f"{where} has no arrival", hint="one a line: SECONDS or SECONDS,ROWS")
    arrivals.sort(key=lambda arrival: arrival.at)
    start = arrivals[0].at
    return [Arrival(arrival.at - start, arrival.rows) for arrival in arrivals]


def _thinned(
    rate_at: Callable[[float], float], highest: float, seconds: float, seed: int, rows: int
) -> Iterator[Arrival]:
    """A Poisson process of varying rate, by thinning (Lewis and Shedler, 1979)."""
    if not (highest > 0.0 and math.isfinite(highest) and seconds > 0.0):
        raise TraceError(
            f"a trace of {highest:g} arrivals a second over {seconds:g} s cannot be made, expected both > 0"
        )
    if highest * seconds > MOST_ARRIVALS:
        raise TraceError(f"a trace of {highest * seconds:.0f} arrivals is too long, expected at most {MOST_ARRIVALS}")
    generator = random.Random(seed)  # noqa: S311  # a simulation, repeatable on purpose
    at = generator.expovariate(highest)
    while at < seconds:
        if generator.random() * highest <= rate_at(at):
            yield Arrival(at, rows)
        at += generator.expovariate(highest)
