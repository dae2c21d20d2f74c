"""What a batch costs in a simulation: a line with noise, or points that were measured.

Pure; the randomness is the caller's generator. Distinct from `slipway_runtime.latency`, which is what the runtime
believes: a simulation draws from the truth here, and the runtime learns it.
"""

import math
import random
import re
from bisect import bisect_left
from typing import Protocol

import msgspec

from slipway_bundle.errors import UsageError

__all__ = ["Cost", "CostError", "LinearCost", "MeasuredCost", "parse_cost"]

_LINE = re.compile(r"\s*([\d.]+)\s*\+\s*([\d.]+)\s*")
_POINT = re.compile(r"\s*(\d+)\s*:\s*([\d.]+)\s*")


class CostError(UsageError):
    """The text of a cost is no cost."""

    code = "cost_invalid"


class Cost(Protocol):
    """How long a batch takes."""

    def mean_s(self, rows: int) -> float:
        """Without noise, in seconds."""

    def draw_s(self, rows: int, generator: random.Random) -> float:
        """One batch, in seconds."""


class LinearCost(msgspec.Struct, frozen=True):
    """`fixed_s` and `row_s` for each row; log-normal noise of `noise` (0 = none, 0.1 = a tenth)."""

    fixed_s: float
    row_s: float
    noise: float = 0.0

    def mean_s(self, rows: int) -> float:
        """Without noise, in seconds."""
        return self.fixed_s + self.row_s * rows

    def draw_s(self, rows: int, generator: random.Random) -> float:
        """One batch, in seconds."""
        return self.mean_s(rows) * _noise(self.noise, generator)


class MeasuredCost(msgspec.Struct, frozen=True):
    """Straight lines between measured points (rows, seconds), rows rising; beyond the last, along the last line."""

    points: tuple[tuple[int, float], ...]
    noise: float = 0.0

    def mean_s(self, rows: int) -> float:
        """Without noise, in seconds."""
        points = self.points
        if len(points) == 1:
            return points[0][1]
        place = min(max(1, bisect_left(points, (rows, 0.0))), len(points) - 1)
        (low, low_s), (high, high_s) = points[place - 1], points[place]
        return max(low_s + (high_s - low_s) * (rows - low) / (high - low), 1e-9)

    def draw_s(self, rows: int, generator: random.Random) -> float:
        """One batch, in seconds."""
        return self.mean_s(rows) * _noise(self.noise, generator)


def parse_cost(text: str, noise: float = 0.0) -> LinearCost | MeasuredCost:
    """`"5+0.1"` (milliseconds, and milliseconds a row) or `"1:5.1,8:5.9,64:11.4"` (rows and milliseconds).

    Raises:
        CostError: it is neither.
    """
    line = _LINE.fullmatch(text)
    if line is not None:
        return LinearCost(float(line[1]) / 1_000, float(line[2]) / 1_000, noise)
    found = [_POINT.fullmatch(part) for part in text.split(",")]
    if not all(found):
        raise CostError(
            f"cost is {text!r}, expected FIXED+ROW or ROWS:MS,ROWS:MS,… in milliseconds",
            hint="5+0.1 is 5 ms and 0.1 ms a row; 1:5.1,64:11.4 are two measured batches",
        )
    points = sorted((int(point[1]), float(point[2]) / 1_000) for point in found if point is not None)
    if points[0][0] < 1 or len({rows for rows, _ in points}) != len(points):
        raise CostError(f"cost is {text!r}, expected each number of rows once, from 1")
    return MeasuredCost(tuple(points), noise)


def _noise(noise: float, generator: random.Random) -> float:
    return math.exp(generator.gauss(0.0, noise)) if noise else 1.0
