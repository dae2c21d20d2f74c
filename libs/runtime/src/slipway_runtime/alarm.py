"""One timer for the earliest of many deadlines.

It knows no ticket. The invariant: at most one timer of the event loop is pending, and it rings no later than the
earliest deadline it was told of since it last rang. It may ring early (deadlines that were met are not taken back):
whoever hears it looks at the clock and sets it again. A timer for each request was turned down: a heap push and a
cancellation on the hot path.
"""

import asyncio
import math
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Calls `ring` on the event loop. `at` is a plain attribute: the hot path compares deadlines with it."""

    __slots__ = ("_ring", "_timer", "at")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self.at = math.inf

    def set(self, loop: asyncio.AbstractEventLoop, deadline: float, now: float) -> None:
        """Ring at `deadline` (earlier than `at`), both times on the caller's clock."""
        if self._timer is not None:
            self._timer.cancel()
        self.at = deadline
        self._timer = loop.call_later(max(0.0, deadline - now), self._rang)

    def stop(self) -> None:
        """Ring no more, until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.at = math.inf

    def _rang(self) -> None:
        self._timer = None
        self.at = math.inf
        self._ring()
