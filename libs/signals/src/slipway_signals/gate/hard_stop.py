"""The hard stop: a candidate that breaks an absolute line ends the run within seconds, whatever stable does.

It compares no arms and asks no clock. The invariant: when the share of bad requests stays at the line or below, the
probability of a stop, over the whole run and all of its windows, is at most `p_false` for each line.

The test is an e-process: the likelihood ratio of larger shares against the line (Wald 1945), averaged over a few
alternatives and over the window in which the trouble began, so that a long good beginning does not hide a bad end. The
average over beginnings is the recursion of Shiryaev and Roberts, `S <- (S + w) * ratio` (Shin, Ramdas and Rinaldo,
"E-detectors", 2023, section 2); Ville's inequality bounds its largest value. Requests are taken as independent; that a
stall makes many of them slow at once is why a breach must show in several windows.
"""

import math
from collections import deque
from typing import Final

from slipway_signals.gate.margins import Promises
from slipway_signals.gate.plan import GatePlan, Lines
from slipway_signals.gate.records import ARMS, Arm, Counts, Window
from slipway_signals.gate.verdict import HardStop

__all__ = ["HardStops"]

MULTIPLES: Final = (3.0, 10.0, 30.0, 100.0)
"""Alternatives: so many times the line."""

FIRST: Final = 0.5
"""Weight of a trouble that was there from the first window; the rest is spread over all others."""

RECENT: Final = 30
"""Windows that the counts of a breach are taken from."""

UNKNOWN_WINDOWS: Final = 600
"""Length of a run whose plan does not say it."""

ERRORS: Final = 0.01
"""Share of failed requests that ends a run where nothing is promised."""

LARGEST_LOG: Final = 600.0


class HardStops:
    """All lines of a run, both arms. Feed each window once, in order, the warm-up too."""

    def __init__(self, plan: GatePlan, promises: Promises | None) -> None:
        windows = UNKNOWN_WINDOWS
        if plan.load is not None:
            windows = max(1, math.ceil(plan.load.seconds / plan.load.window_s))
        threshold_s = None if promises is None else promises.latency_threshold_s
        self._threshold_us = None if threshold_s is None else round(threshold_s * 1e6)
        self._lines = {
            (name, arm): _Line(limit, plan.lines, windows)
            for name, limit in _limits(plan.lines, promises).items()
            for arm in ARMS
        }

    def add(self, window: Window) -> HardStop | None:
        """The breach that this window completes, of the candidate or, where the candidate has one too, of both.

        Cost: a few microseconds, and one pass over the latencies.
        """
        for (name, arm), line in self._lines.items():
            if arm in window.arms:
                line.add(*self._bad(name, window.arms[arm]))
        for (name, arm), line in self._lines.items():
            if arm == "candidate" and line.is_broken:
                is_shared = self._lines[name, "stable"].is_above
                return self._stop(name, "stable" if is_shared else "candidate", window)
        return None

    def _bad(self, name: str, counts: Counts) -> tuple[int, int]:
        failed = sum(counts.failed.values())
        if name == "errors":
            return failed, counts.succeeded + failed
        if name == "malformed":
            return min(counts.malformed, counts.succeeded), counts.succeeded
        values = zip(counts.latency_us.values, counts.latency_us.counts, strict=True)
        threshold = self._threshold_us or 0
        return sum(count for value, count in values if value > threshold), counts.latency_us.count

    def _stop(self, name: str, arm: Arm, window: Window) -> HardStop:
        line = self._lines[name, arm]
        what = {"errors": "failed", "malformed": "were malformed", "slow": f"took over {self._text()} ms"}[name]
        both = " (and so did the candidate's)" if arm == "stable" else ""
        return HardStop(
            line="errors" if name == "errors" else "slow" if name == "slow" else "malformed",
            arm=arm,
            window=window.index,
            at_s=window.end_s,
            bad=line.bad,
            n=line.n,
            limit=line.limit,
            p_false=line.p_false,
            text=f"{line.bad} of the last {line.n} requests to {arm} {what}{both}: expected at most {line.limit:.4g} "
            "of them",
        )

    def _text(self) -> str:
        return f"{(self._threshold_us or 0) / 1000:g}"


def _limits(lines: Lines, promises: Promises | None) -> dict[str, float]:
    """Line -> the share that is allowed."""
    promised = None if promises is None else promises.error_budget
    errors = lines.errors if lines.errors is not None else promised if promised is not None else ERRORS
    found = {"errors": errors, "malformed": lines.malformed}
    if promises is not None and promises.latency_threshold_s is not None and promises.latency_budget is not None:
        found["slow"] = promises.latency_budget if lines.slow is None else lines.slow
    return {name: limit for name, limit in found.items() if limit < 1.0}


class _Line:
    """One line of one arm."""

    def __init__(self, limit: float, lines: Lines, windows: int) -> None:
        self.limit = limit
        self.p_false = lines.p_false
        self._lines = lines
        shares = [min(multiple * limit, 0.95) for multiple in MULTIPLES] if limit > 0 else []
        self._shares = sorted({share for share in shares if share > limit})
        self._first = [FIRST] * len(self._shares)
        self._later = [0.0] * len(self._shares)
        self._weight = (1.0 - FIRST) / windows
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT)

    def add(self, bad: int, n: int) -> None:
        """Count a window."""
        self._recent.append((bad, n))
        for place, share in enumerate(self._shares):
            log = bad * math.log(share / self.limit) + (n - bad) * math.log((1.0 - share) / (1.0 - self.limit))
            ratio = math.exp(min(log, LARGEST_LOG / 2.0))
            largest = math.exp(LARGEST_LOG)
            self._first[place] = min(self._first[place] * ratio, largest)
            self._later[place] = min((self._later[place] + self._weight) * ratio, largest)

    @property
    def bad(self) -> int:
        """Bad requests lately."""
        return sum(bad for bad, _ in self._recent)

    @property
    def n(self) -> int:
        """Requests lately."""
        return sum(n for _, n in self._recent)

    @property
    def is_above(self) -> bool:
        """Whether the share lately is above the line, with enough bad ones to say so."""
        return self.bad >= self._lines.at_least and self.bad > self.limit * self.n

    @property
    def is_broken(self) -> bool:
        """Whether the evidence is there, and in enough windows."""
        if not self.is_above or sum(bad > 0 for bad, _ in self._recent) < self._lines.windows:
            return False
        if not self._shares:  # a line at 0: one is too many
            return self.limit == 0.0
        evidence = math.fsum((*self._first, *self._later)) / len(self._shares)
        return evidence >= 1.0 / self.p_false
