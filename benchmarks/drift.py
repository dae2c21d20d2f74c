"""What drift detection costs a row, how often it is wrong, and what it sees.

    uv run python benchmarks/drift.py [--months 24]

Costs: microseconds a row in one process, the best of five rounds, below the rate at which rows are sampled (the dear
case). Alarms: months of 50 features and the predictions, drawn and judged as the rules do. Power: shifts of the
predictions, each seen or not within three hours.
"""

import argparse
import os
import time
import timeit
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from msgspec import Struct, defstruct

from slipway_bundle import RowCodec
from slipway_signals.drift import DriftCounters, build_profile, encode_profile, simulate
from slipway_signals.drift.binning import CHUNK
from slipway_signals.drift.promql import Thresholds
from slipway_signals.slots import Slots

ROUNDS = 5
SAMPLE = 15_000
WORDS = ("monthly", "yearly", "weekly", "two years", "never")


class Answer(Struct, frozen=True):
    """The answer of the models here."""

    p: float


def rows_of(kind: str, count: int) -> tuple[type[Struct], Callable[[np.random.Generator], Struct]]:
    """A row type of `count` features of a kind, and how to draw one."""
    word = Literal[WORDS]  # type: ignore[valid-type]  # made here
    types: dict[str, Any] = {"numbers": float, "words": word, "integers": int}
    kinds = list(types) if kind == "mixed" else [kind]
    fields = [(f"feature_{n}", kinds[n % len(kinds)]) for n in range(count)]
    row = defstruct("Row", [(name, types[one]) for name, one in fields], frozen=True)
    makes: dict[str, Callable[[np.random.Generator], Any]] = {
        "numbers": lambda draw: float(draw.normal()),
        "integers": lambda draw: int(draw.poisson(4)),
        "words": lambda draw: WORDS[draw.integers(4)],
    }
    return row, lambda draw: row(**{name: makes[one](draw) for name, one in fields})


def cost_us(kind: str, count: int, *, every: int = 1) -> tuple[float, int]:
    """Microseconds a row, and bytes of the profile; with `every`, where one row in so many is looked at."""
    row, make = rows_of(kind, count)
    codec, draw = RowCodec(row), np.random.default_rng(1)
    sample = [make(draw) for _ in range(2_000)]
    table = {spec.name: [getattr(one, spec.name) for one in sample] for spec in codec.specs}
    scores = draw.random(2_000)
    profile = build_profile(
        "m", codec.specs, table, outputs=RowCodec(Answer).specs, predictions=scores, labels=draw.random(2_000) < scores
    )
    slots, fd = Slots.create()
    os.close(fd)
    now = [0.0]
    rate = 500.0 * every
    counters = DriftCounters(slots, "m", profile, codec, clock=lambda: now[0], seed=1)
    payloads = [codec.pack(one) for one in sample[:CHUNK]]
    answers = {"p": draw.random(64).astype(np.float32)}
    places = [at % 64 for at in range(CHUNK)]

    def run() -> None:
        now[0] += 0.999 * CHUNK / rate
        for payload, place in zip(payloads, places, strict=True):
            counters.observe(payload, 1, answers, place)

    passes = max(40, 4 * every)
    run()
    empty = min(timeit.repeat(lambda: [None for _ in zip(payloads, places, strict=True)], number=passes, repeat=ROUNDS))
    best = min(timeit.repeat(run, number=passes, repeat=ROUNDS))
    return (best - empty) / passes / CHUNK * 1e6, len(encode_profile(profile))


def costs() -> None:
    """Print the cost of a row."""
    print(f"{'cost of a row':<44} {'µs':>7}  limit  profile")
    for kind, count in (("numbers", 5), ("numbers", 50), ("integers", 50), ("words", 50), ("mixed", 50)):
        cost, size = cost_us(kind, count)
        limit = "2.0" if (kind, count) == ("numbers", 50) else ""
        print(f"{f'{count} {kind}, every row':<44} {cost:>7.2f}  {limit:>5}  {size:,} bytes")
    for every in (10, 30):
        cost, _ = cost_us("numbers", 50, every=every)
        print(f"{f'50 numbers, {500 * every:,} rows/s: one row in {every}':<44} {cost:>7.2f}")


def alarms(months: int, rows_an_hour: float, draw: np.random.Generator) -> tuple[int, int]:
    """False alarms about predictions and about features in so many months of 720 hours."""
    limits = Thresholds()
    wrong = [0, 0]
    for _ in range(months):
        reference, truth = simulate.numeric(SAMPLE, draw)
        one = simulate.Watched(reference, truth, limits.prediction_psi, 1, 1)
        wrong[0] += simulate.alerts_in(one, rows_an_hour, 720, SAMPLE, draw, limits)
        for _ in range(50):
            reference, truth = simulate.numeric(SAMPLE, draw, missing=0.02)
            one = simulate.Watched(reference, truth, limits.feature_psi, 3, 50)
            wrong[1] += simulate.alerts_in(one, rows_an_hour, 720, SAMPLE, draw, limits)
    return wrong[0], wrong[1]


def power(psi: float, rows_an_hour: float, trials: int, draw: np.random.Generator) -> float:
    """Share of shifts of the predictions that are told within three hours."""
    limits = Thresholds()
    seen = 0
    for _ in range(trials):
        reference, truth = simulate.numeric(SAMPLE, draw)
        one = simulate.Watched(reference, simulate.shifted(truth, psi), limits.prediction_psi, 1, 1)
        seen += simulate.alerts_in(one, rows_an_hour, 3, SAMPLE, draw, limits) > 0
    return seen / trials


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--months", type=int, default=24)
    months = parser.parse_args().months
    costs()
    draw = np.random.default_rng(2)
    print(f"\nfalse alarms in {months} months: 50 features, 720 hours a month, the rules asked every 5 minutes")
    for rows_an_hour in (500, 600, 1_000, 5_000):
        started = time.monotonic()
        predictions, features = alarms(months, rows_an_hour, draw)
        total = (predictions + features) / months
        print(
            f"  {rows_an_hour:>6,} rows/h  predictions {predictions}, features {features}: {total:.2f} a month"
            f"  ({time.monotonic() - started:.0f} s)"
        )
    print("\npower: predictions shifted, told within 3 hours")
    for psi in (0.03, 0.05, 0.07, 0.1, 0.2):
        shares = "  ".join(f"{rows:,} rows/h {power(psi, rows, 400, draw):.3f}" for rows in (600, 1_000, 5_000))
        print(f"  PSI {psi:<5} {shares}")


if __name__ == "__main__":
    main()
