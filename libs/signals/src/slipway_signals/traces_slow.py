"""Which answers of a route are slow. Pure: it is told durations and knows no clock.

A route with an objective has its threshold. For the others the 99th percentile is followed by stochastic
approximation on a logarithmic scale: a value above the estimate raises it by `step · q`, one below lowers it by
`step · (1 - q)`, so it rests where a share `1 - q` of the values is above. One comparison and one multiplication a
request, no memory of values.

Source: Robbins and Monro, "A Stochastic Approximation Method", 1951; on quantiles: Ma, Muthukrishnan and Sandler,
"Frugal Streaming for Estimating Quantiles", 2013.
"""

import math
from typing import Final

__all__ = ["SlowThreshold"]

QUANTILE: Final = 0.99
STEP: Final = 0.05
"""In logarithm: one slow request raises the threshold by 5 %; about 140 fast ones take that back."""
WARM_UP: Final = 500
"""Requests of a route before its estimate is believed. Till then the estimate learns in large steps."""
FLOOR_S: Final = 1e-6
"""Below it the estimate does not fall: what reached 0 would stay there."""
_WARM_STEP: Final = 0.5


class SlowThreshold:
    """Above how many seconds an answer of one route is slow.

    Args:
        slow_s: the objective's threshold in seconds, `math.inf` for never; None to follow the 99th percentile.
    """

    __slots__ = ("_down", "_is_fixed", "_seen", "_up", "slow_s")

    def __init__(self, slow_s: float | None = None) -> None:
        self.slow_s = 0.0 if slow_s is None else slow_s
        """The present threshold in seconds."""
        self._is_fixed = slow_s is not None
        self._seen = 0
        self._steps(_WARM_STEP)

    def judge(self, seconds: float) -> bool:
        """Whether `seconds` is slow; the estimate learns from it. HOT."""
        if self._is_fixed:
            return seconds > self.slow_s
        if self._seen < WARM_UP:
            self._warm(seconds)
            return False
        if seconds > self.slow_s:
            self.slow_s *= self._up
            return True
        if self.slow_s > FLOOR_S:
            self.slow_s *= self._down
        return False

    def _warm(self, seconds: float) -> None:
        if not self.slow_s:
            self.slow_s = max(seconds, FLOOR_S)
        self.slow_s = max(FLOOR_S, self.slow_s * (self._up if seconds > self.slow_s else self._down))
        self._seen += 1
        if self._seen == WARM_UP:
            self._steps(STEP)

    def _steps(self, step: float) -> None:
        self._up = math.exp(step * QUANTILE)
        self._down = math.exp(-step * (1.0 - QUANTILE))
