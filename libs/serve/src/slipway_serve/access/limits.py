"""How many requests a client may make: a token bucket, and a count for each day. Pure: the clock is an argument.

The bucket is kept as one number, the time at which it will be full again (GCRA, ITU-T I.371: the same as a bucket that
fills all the time, without anything that must run to fill it). The headers are those of
draft-ietf-httpapi-ratelimit-headers-09: `q` requests a window of `w` seconds, `r` left now, all of them back in `t`.
"""

import math
from typing import Final, Literal, NamedTuple, TypeAlias

from slipway_serve.access.config import ClientLimits

DAY_S: Final = 86_400
Refusal: TypeAlias = Literal["rate", "quota"]


class Usage(NamedTuple):
    """What is remembered of a client."""

    full_at: float = 0.0
    """When its bucket is full again; seconds on the monotonic clock of this machine."""
    day: int = 0
    """Of the count: days since 1970, UTC."""
    taken: int = 0
    """Requests taken on that day."""


class Taken(NamedTuple):
    """What came of one request."""

    usage: Usage
    """To be remembered."""
    refusal: Refusal | None
    """Why it is not taken; None: it is."""
    wait_s: float
    """Until the next one can be taken; 0 when this one is."""
    left: int
    """Requests that the bucket would take at once after this one."""
    full_s: float
    """Until it is full."""
    quota_left: int
    """Requests that the day has left."""


class Limit:
    """The limits of a client, worked out.

    Args:
        own: of this client.
        others: of all clients; what `own` leaves out is as there.
    """

    def __init__(self, own: ClientLimits, others: ClientLimits) -> None:
        rate = others.rate_per_s if own.rate_per_s is None else own.rate_per_s
        quota = others.quota_per_day if own.quota_per_day is None else own.quota_per_day
        burst = own.burst or (others.burst if own.rate_per_s is None else None)
        self.rate_per_s: Final = rate or 0.0
        self.burst: Final = (burst or max(1, math.ceil(self.rate_per_s))) if self.rate_per_s else 0
        self.quota_per_day: Final = quota or 0
        self.is_limited: Final = bool(self.rate_per_s or self.quota_per_day)
        self.policy: Final = self._policy()
        """Value of `RateLimit-Policy`."""
        self._step_s = 1.0 / self.rate_per_s if self.rate_per_s else 0.0
        self._window_s = self._step_s * self.burst

    def take(self, usage: Usage, now: float, unix: float) -> Taken:
        """Decide on one request.

        Args:
            usage: remembered.
            now: on the monotonic clock; it may have begun anew since, with the machine.
            unix: Unix time, which says what day it is.
        """
        day = int(unix // DAY_S)
        count = usage.taken if usage.day == day else 0
        quota_left = max(0, self.quota_per_day - count) if self.quota_per_day else 0
        full_at = min(max(usage.full_at, now), now + self._window_s)
        after = full_at + self._step_s
        missing_s = after - now - self._window_s
        if self.quota_per_day and not quota_left:
            kept = Usage(usage.full_at, day, count)
            return Taken(kept, "quota", (day + 1) * DAY_S - unix, self._left(full_at - now), full_at - now, 0)
        if self.rate_per_s and missing_s > 1e-9:
            return Taken(Usage(full_at, day, count), "rate", missing_s, 0, full_at - now, quota_left)
        taken = Usage(after, day, count + 1)
        return Taken(taken, None, 0.0, self._left(after - now), after - now, max(0, quota_left - 1))

    def remaining(self, taken: Taken, unix: float) -> bytes:
        """Value of `RateLimit`."""
        parts = []
        if self.rate_per_s:
            parts.append(b'"rate";r=%d;t=%d' % (taken.left, math.ceil(taken.full_s)))
        if self.quota_per_day:
            parts.append(b'"day";r=%d;t=%d' % (taken.quota_left, math.ceil(DAY_S - unix % DAY_S)))
        return b", ".join(parts)

    def _left(self, filling_s: float) -> int:
        """Whole requests in a bucket that is full after `filling_s`."""
        return int((self._window_s - filling_s) * self.rate_per_s + 1e-6) if self.rate_per_s else 0

    def _policy(self) -> bytes:
        parts = []
        if self.rate_per_s:
            parts.append(b'"rate";q=%d;w=%d' % (self.burst, max(1, math.ceil(self.burst / self.rate_per_s))))
        if self.quota_per_day:
            parts.append(b'"day";q=%d;w=%d' % (self.quota_per_day, DAY_S))
        return b", ".join(parts)
