"""The shape of a load: how many requests a second are due at each moment, as straight pieces.

It makes no arrivals (arrivals.py does) and asks no clock. The invariant: the pieces follow each other without a gap,
from 0 to the end of the run, and no rate is negative; so every shape can be followed exactly, piece by piece. A sine is
drawn with 240 pieces a day, which is never further than 0.02 % of its swing from the curve.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from slipway_signals.gate.load_plan import Diurnal, LoadPlan, Ramp, Replay, Soak, Spike, Steady, Step

__all__ = ["Piece", "pieces_of"]

DAY_PIECES: Final = 240


class Piece(NamedTuple):
    """A stretch of time in which the rate changes evenly."""

    begin_s: float
    end_s: float
    first: float
    """Requests a second at its begin."""
    last: float
    """And at its end."""


def pieces_of(plan: LoadPlan) -> list[Piece]:
    """The pieces of a plan, in order.

    Raises:
        ValueError: the plan replays a trace, which has arrivals and no rate.
    """
    return list(_pieces(plan))


def _pieces(plan: LoadPlan) -> Iterator[Piece]:
    rate, seconds = plan.rate, plan.seconds
    match plan.shape:
        case Steady():
            yield Piece(0.0, seconds, rate, rate)
        case Step(first=first, steps=steps):
            for step in range(steps):
                height = first + (rate - first) * step / (steps - 1)
                yield Piece(seconds * step / steps, seconds * (step + 1) / steps, height, height)
        case Ramp(first=first):
            yield Piece(0.0, seconds, first, rate)
        case Spike(at_s=at_s, for_s=for_s, factor=factor):
            yield Piece(0.0, at_s, rate, rate)
            yield Piece(at_s, at_s + for_s, rate * factor, rate * factor)
            yield Piece(at_s + for_s, seconds, rate, rate)
        case Soak(rise_s=rise_s):
            risen = min(rise_s, seconds)
            yield Piece(0.0, risen, 0.0, rate * risen / rise_s)
            yield Piece(risen, seconds, rate, rate)
        case Diurnal(swing=swing, period_s=period_s):
            day_s = period_s or seconds
            count = max(1, math.ceil(seconds / day_s * DAY_PIECES))
            times = [seconds * place / count for place in range(count + 1)]
            for begin, end in pairwise(times):
                heights = [rate * (1.0 - swing * math.cos(2.0 * math.pi * at / day_s)) for at in (begin, end)]
                yield Piece(begin, end, *heights)
        case Replay():
            raise ValueError("a replay has arrivals, not a rate; this is a bug in slipway")
