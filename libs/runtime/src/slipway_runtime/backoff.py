"""Decides when a worker that died starts again. Pure: it takes the time as an argument and starts nothing.

The invariants: it never gives up; a worker that served for longer than its start took is started again at once (a
crash must cost as little capacity as it can, and starting costs less than half of the time); each further death of one
that did not waits `factor` times longer, up to `ceiling_s`.
"""

import msgspec

__all__ = ["Backoff", "BackoffLimits"]


class BackoffLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast a dying worker is started again."""

    first_s: float = 0.5
    """Wait before the second restart after a short life, seconds; the first has none."""
    factor: float = 2.0
    """Each further wait is so many times longer."""
    ceiling_s: float = 30.0
    """No wait is longer, seconds."""
    steady_s: float = 60.0
    """A worker that was ready for so long, seconds, has its deaths forgotten."""
    crash_loop_after: int = 3
    """So many deaths in a row are called a crash loop."""


class Backoff:
    """The memory of one worker's deaths."""

    def __init__(self, limits: BackoffLimits) -> None:
        self._limits = limits
        self.deaths = 0
        """Deaths in a row, since the worker was last steady."""
        self._short = 0
        """Deaths in a row of those that served for less time than they took to start."""

    @property
    def is_crash_looping(self) -> bool:
        """Whether it died so often in a row that a person should look."""
        return self.deaths >= self._limits.crash_loop_after

    def steady_at(self, ready_at: float) -> float | None:
        """When a worker that has been ready since `ready_at` counts as steady; None when nothing is to be forgotten."""
        return ready_at + self._limits.steady_s if self.deaths else None

    def steady(self) -> None:
        """The worker has been ready for long: forget its deaths."""
        self.deaths = self._short = 0

    def died(self, now: float, started_at: float, ready_at: float | None) -> float:
        """The worker died at `now`; it was started at `started_at` and ready since `ready_at` (None: it never was).

        Returns:
            When to start it again, on the clock of `now`.
        """
        if ready_at is not None and now - ready_at >= self._limits.steady_s:
            self.steady()
        if ready_at is not None and now - ready_at >= ready_at - started_at:
            self._short = 0
        self.deaths += 1
        self._short += 1
        return now if self._short == 1 else now + self._wait_s(self._short - 2)

    def failed(self, now: float) -> float:
        """An attempt beside a living worker failed at `now`: nothing was lost, so that even the first one waits.

        Returns:
            When to try again, on the clock of `now`.
        """
        self.deaths += 1
        return now + self._wait_s(self.deaths - 1)

    def _wait_s(self, longer: int) -> float:
        try:
            return min(self._limits.first_s * self._limits.factor**longer, self._limits.ceiling_s)
        except OverflowError:
            return self._limits.ceiling_s
