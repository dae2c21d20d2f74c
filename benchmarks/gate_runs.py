"""Load runs with known truth, simulated: what `gate.py` and `gate_peers.py` judge.

One run is a number: the same number gives the same run. Each second both arms are asked `RATE` requests; latencies are
log-normal, with a standard deviation of the logarithm of 0.5. `clustered` worlds have seconds that are slower than
others (an autoregressive level, separate for each arm) and stalls that hit all requests of a third of a second.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RATE = 100
"""Requests a second, for each arm."""

SPREAD = 0.5
BLOCK_S = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What is true of the candidate; stable has the same with the neutral values."""

    name: str
    is_bad: bool = False
    slower: float = 1.0
    """All latencies times this."""
    slow_share: float = 0.0
    """Of requests that take 1.5 times as long."""
    errors: float = 0.002
    stable_errors: float = 0.002
    shift: float = 0.0
    """Of the model's answers, in standard deviations."""
    cpu: float = 1.0
    level: float = 0.0
    """Standard deviation of the logarithm of the level of a second; it decays by half in two seconds."""
    stalls: float = 0.0
    """Probability of a stall in a second."""


EQUAL = World("equal")
CLUSTERED = World("clustered", level=0.05, stalls=0.01)
ROUGH = World("rough", level=0.1, stalls=0.02)


@dataclass(frozen=True)
class Second:
    """What both arms did in one second: latencies in µs, failed requests, answers, CPU per request."""

    latencies: tuple[Floats, Floats]
    errors: tuple[int, int]
    answers: tuple[Floats, Floats]
    cpu: tuple[float, float]


def seconds_of(world: World, number: int, seconds: int, rate: int = RATE) -> list[Second]:
    """The run of this number in this world."""
    draw = np.random.default_rng([number, 8])
    stable = replace(world, slower=1.0, slow_share=0.0, errors=world.stable_errors, shift=0.0, cpu=1.0)
    arms = [_arm(one, draw, seconds, rate) for one in (stable, world)]
    return [
        Second(latencies=(a[0], b[0]), errors=(a[1], b[1]), answers=(a[2], b[2]), cpu=(a[3], b[3]))
        for a, b in zip(*arms, strict=True)
    ]


def _arm(one: World, draw: np.random.Generator, seconds: int, rate: int) -> list[tuple[Floats, int, Floats, float]]:
    found = []
    level = one.level * draw.normal()
    keep = 0.5**0.5
    for _ in range(seconds):
        level = keep * level + one.level * np.sqrt(1.0 - keep**2) * draw.normal()
        latencies = 10_000.0 * one.slower * np.exp(level + SPREAD * draw.normal(size=rate))
        latencies[draw.random(rate) < one.slow_share] *= 1.5
        if draw.random() < one.stalls:
            latencies[: rate // 3] += np.linspace(300_000.0, 0.0, rate // 3)
        errors = int(draw.binomial(rate, one.errors))
        found.append(
            (
                latencies[errors:],
                errors,
                draw.normal(one.shift, 1.0, rate - errors),
                one.cpu * draw.lognormal(0.0, 0.06),
            )
        )
    return found
