"""Retries: which answers are worth another try, and how long to wait for it.

It sleeps nowhere and asks no clock. The invariant: what is tried again is a failure of the moment; a refusal, a missing
thing and wrong bytes are answers.
Source: "Exponential Backoff And Jitter" (aws.amazon.com/blogs/architecture), full jitter; RFC 9110, 10.2.3.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from msgspec import Struct

__all__ = ["PASSING", "Retry"]

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that another try may change."""


class Retry(Struct, frozen=True, kw_only=True):
    """How often and how long."""

    tries: int = 6
    """Of one request; any byte of a blob that arrived begins a new count."""

    base_s: float = 0.25
    cap_s: float = 15.0
    """The longest pause of our own."""

    patience_s: float = 120.0
    """The longest `Retry-After` that is obeyed; a registry that asks for more has failed."""

    stall_s: float = 30.0
    """How long nothing may arrive, or be taken, before the connection counts as lost."""

    def pause_s(self, failures: int, draw: float, retry_after: str | None, now: datetime) -> float | None:
        """How long to wait after so many failures in a row; None: give up.

        Args:
            failures: At least 1.
            draw: Uniform in [0, 1).
            retry_after: The header of the last answer: seconds, or a date.
            now: With its time zone.
        """
        if failures >= self.tries:
            return None
        asked = _seconds(retry_after, now)
        if asked is not None and asked > self.patience_s:
            return None
        # The jitter comes on top of what was asked for: a herd that was told one time must not return at one time.
        own = draw * min(self.cap_s, self.base_s * 2.0 ** (failures - 1))
        return own if asked is None else asked + own


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
