"""Decides whether to ask another service again: a budget for retries, a breaker, waits with jitter. Pure.

It sends nothing and reads no clock; chance is an argument. Not thread-safe: one owner. The invariants: retries are at
most a fixed part of the requests plus a small allowance, however many fail, so trouble elsewhere is never multiplied;
while the breaker is open nothing is asked, and what is then asked as a probe is a handful; two callers that failed
together do not come back together.

Sources: Google SRE book, "Handling Overload" (a client-wide retry budget of 10 %); gRPC A6, "Client Retry Design"
(tokens); Brooker, "Exponential Backoff and Jitter" (full jitter); Nygard, "Release It!", ch. 5 (circuit breaker).
"""

from collections import deque
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "BreakerLimits",
    "BreakerState",
    "BudgetLimits",
    "CircuitBreaker",
    "JitterLimits",
    "Permit",
    "RetryBudget",
    "jittered_wait_s",
]

BreakerState = Literal["closed", "open", "half_open"]
Ratio = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]

SLICES: Final = 10
"""Of the breaker's window: it forgets in tenths."""


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many retries are allowed."""

    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Retries that each request earns."""
    floor: Annotated[float, Meta(ge=0)] = 3.0
    """Retries that a quiet client has anyway, in each `window_s`."""
    window_s: Seconds = 60.0
    burst: Annotated[float, Meta(ge=0)] = 10.0
    """The most that can be saved up: yesterday's successes do not pay for today's storm."""


class RetryBudget:
    """A token bucket: each request puts `ratio` of a token in, each retry takes one out.

    In any span of T seconds with N requests: retries <= max(floor, burst) + ratio * N + floor * T / window_s; from the
    start of its life: retries <= floor + ratio * N + floor * T / window_s.
    """

    __slots__ = ("_at", "_limits", "_tokens")

    def __init__(self, limits: BudgetLimits, now: float) -> None:
        self._limits = limits
        self._tokens = limits.floor
        self._at = now

    def asked(self, now: float) -> None:
        """A request that is no retry is about to be sent."""
        self._refill(now)
        self._tokens = min(self._tokens + self._limits.ratio, max(self._limits.floor, self._limits.burst))

    def spend(self, now: float) -> bool:
        """Whether one retry may be sent now; if so, it is counted."""
        self._refill(now)
        if self._tokens < 1.0 - 1e-9:  # ten times 0.1 is a little less than 1
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True

    def _refill(self, now: float) -> None:
        """Time fills it up to the floor only."""
        limits = self._limits
        earned = max(0.0, now - self._at) * limits.floor / limits.window_s
        self._at = max(self._at, now)
        if self._tokens < limits.floor:
            self._tokens = min(self._tokens + earned, limits.floor)


class BreakerLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a breaker opens and closes."""

    failure_ratio: Ratio = 0.5
    """It opens when so many of the outcomes in the window are failures …"""
    min_outcomes: Count = 20
    """… of at least so many."""
    window_s: Seconds = 10.0
    open_s: Seconds = 1.0
    """For so long nothing is asked; doubled each time that probes fail."""
    open_ceiling_s: Seconds = 30.0
    probes: Count = 3
    """Requests at once that try whether it is over; so many successes in a row close the breaker."""


class Permit(msgspec.Struct, frozen=True):
    """Leave to send one request; goes back to the breaker with its outcome, exactly once."""

    era: int
    """Outcomes of an era that is over count no more."""


class CircuitBreaker:
    """Closed: everything may be sent. Open: nothing. Half open: a few probes, whose outcomes decide.

    Times are of one monotonic clock and do not go back.
    """

    __slots__ = ("_counts", "_era", "_limits", "_open_for_s", "_open_until", "_probing", "_state", "_succeeded")

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._state: BreakerState = "closed"
        self._era = 0
        self._counts: deque[list[float]] = deque()
        """(slice, successes, failures) of the slices of the window that have any."""
        self._open_for_s = limits.open_s
        self._open_until = 0.0
        self._probing = 0
        self._succeeded = 0

    def state(self, now: float) -> BreakerState:
        """What it would be to a request that came now."""
        return "half_open" if self._state == "open" and now >= self._open_until else self._state

    def enter(self, now: float) -> Permit | None:
        """Leave to send a request now, or None."""
        if self._state == "closed":
            return Permit(self._era)
        if self._state == "open":
            if now < self._open_until:
                return None
            self._become("half_open")
        if self._probing >= self._limits.probes:
            return None
        self._probing += 1
        return Permit(self._era)

    def leave(self, permit: Permit, succeeded: bool | None, now: float) -> None:  # noqa: FBT001  # the outcome itself
        """The outcome of a request: True, False, or None when it says nothing about the other side (cancelled)."""
        if permit.era != self._era:
            return
        if self._state == "half_open":
            self._probed(succeeded, now)
        elif succeeded is not None:
            self._count(succeeded, now)

    def retry_after_s(self, now: float) -> float:
        """Seconds until a request may be let through; 0 when one may be now."""
        return max(0.0, self._open_until - now) if self._state == "open" else 0.0

    def _probed(self, succeeded: bool | None, now: float) -> None:  # noqa: FBT001  # as `leave`
        self._probing -= 1
        if succeeded is None:
            return
        if not succeeded:
            self._open_for_s = min(2.0 * self._open_for_s, self._limits.open_ceiling_s)
            self._open(now)
            return
        self._succeeded += 1
        if self._succeeded >= self._limits.probes:
            self._open_for_s = self._limits.open_s
            self._become("closed")

    def _count(self, succeeded: bool, now: float) -> None:  # noqa: FBT001  # as `leave`
        limits = self._limits
        current = now // (limits.window_s / SLICES)
        while self._counts and self._counts[0][0] <= current - SLICES:
            self._counts.popleft()
        if not self._counts or self._counts[-1][0] != current:
            self._counts.append([current, 0.0, 0.0])
        self._counts[-1][1 if succeeded else 2] += 1.0
        failures = sum(counts[2] for counts in self._counts)
        outcomes = failures + sum(counts[1] for counts in self._counts)
        if outcomes >= limits.min_outcomes and failures >= limits.failure_ratio * outcomes:
            self._open(now)

    def _open(self, now: float) -> None:
        self._become("open")
        self._open_until = now + self._open_for_s

    def _become(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._counts.clear()
        self._probing = 0
        self._succeeded = 0


class JitterLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait before a retry."""

    first_s: Seconds = 0.025
    """The most before the first retry."""
    factor: Annotated[float, Meta(ge=1)] = 2.0
    ceiling_s: Seconds = 1.0


def jittered_wait_s(limits: JitterLimits, retry: int, draw: Callable[[], float]) -> float:
    """Seconds to wait before retry number `retry` (from 0): anything from 0 to the exponential bound, evenly.

    `draw` gives a number in [0, 1), as `random.random` does.
    """
    try:
        bound = limits.first_s * limits.factor**retry
    except OverflowError:
        bound = limits.ceiling_s
    return draw() * min(bound, limits.ceiling_s)
