"""How much less a request tells because its neighbours in time fared alike: the design effect.

A stall slows ten requests in a row, and they count as ten independent witnesses of one event. The design effect d is
the variance of what the windows show, over what it would be if requests were independent (Kish, Survey Sampling, 1965,
8.2). Evidence raised to the power 1/d is what n/d independent requests would have given. The invariant: d is never
below 1, so that this only ever weakens evidence (Jensen: a mean of at most 1 stays at most 1).

Two things are learned: how much windows vary, beyond what their requests explain, and how alike one is to the next
(an autoregression: (1 + ρ)/(1 - ρ), as of a Markov chain; Geyer, Practical Markov chain Monte Carlo, 1992). Windows are
joined to longer batches, of which there are 32 to 63, so that a long run sees long bursts (Law and Carson 1979). What
lasts as long as a good part of the run cannot be told from a difference of the arms by anyone.
"""

from typing import Final

import numpy as np

from slipway_signals.gate.comparison import Floats

__all__ = ["DesignEffect"]

BATCHES: Final = 64
"""So many batches are joined in pairs."""

PRIOR: Final = 1.2
PRIOR_BATCHES: Final = 8.0
"""What d is believed to be before the first window, and how many batches it takes to weigh as much as that."""

LEARNT: Final = 9
"""Windows before which evidence counts for nothing: two bad seconds at the start would look like a difference."""

MOST_ALIKE: Final = 0.9
"""No correlation of neighbours is believed to be larger."""


class DesignEffect:
    """Learns d from windows, one after the other. Not thread-safe."""

    def __init__(self) -> None:
        self._contrasts: list[Floats] = []
        self._variances: list[Floats] = []
        self._open = 0
        self._span = 1
        self._seen = 0

    def add(self, contrasts: Floats, variances: Floats) -> None:
        """Take one window: contrasts of mean zero `[k]`, and their variances `[k]` were requests independent.

        Several contrasts of the same window are averaged: they are different views of one effect.
        """
        self._seen += 1
        if self._open:
            self._contrasts[-1] = self._contrasts[-1] + contrasts
            self._variances[-1] = self._variances[-1] + variances
        else:
            self._contrasts.append(contrasts)
            self._variances.append(variances)
        self._open = (self._open + 1) % self._span
        if len(self._contrasts) == BATCHES and not self._open:
            self._contrasts = [a + b for a, b in zip(self._contrasts[::2], self._contrasts[1::2], strict=True)]
            self._variances = [a + b for a, b in zip(self._variances[::2], self._variances[1::2], strict=True)]
            self._span *= 2

    @property
    def exponent(self) -> float:
        """What evidence is raised to: 1/d, and 0 until enough windows were seen to say what d is."""
        return (
            1.0 / self.value if self._seen >= LEARNT - 1 else 0.0
        )  # the first window is what others are compared with

    @property
    def value(self) -> float:
        """d, at least 1; where nothing varies, nothing speaks against 1."""
        if not self._contrasts:
            return PRIOR
        contrasts, variances = np.stack(self._contrasts), np.stack(self._variances)
        scaled = np.divide(contrasts, np.sqrt(variances), out=np.ones_like(contrasts), where=variances > 0.0)
        squares = float((scaled**2).mean(axis=1).sum())
        products = (
            float((scaled[1:] * scaled[:-1] * (variances[1:] > 0.0)).mean(axis=1).sum()) if len(scaled) > 1 else 0.0
        )
        alike = min(max(products / (squares + PRIOR_BATCHES), 0.0), MOST_ALIKE)
        spread = (PRIOR * PRIOR_BATCHES + squares) / (PRIOR_BATCHES + len(scaled))
        return max(1.0, spread * (1.0 + alike) / (1.0 - alike))
