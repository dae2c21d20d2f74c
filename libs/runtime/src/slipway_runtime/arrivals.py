"""The predicted time to the next arrival, and whether one is expected at all.

It reads no clock and decides nothing. The invariant: with one client nobody is ever expected, so nothing is waited for.

Two estimates, both quick to forget. The *gap* is the time from the last event that could bring an arrival (an arrival,
or answers going out: clients in a closed loop come back after them) to the next one; its logarithm is averaged, so one
pause does not spoil a burst. The *population* is the largest number of tickets that were in the system at once since
the batch before last was sent: while fewer than that wait, the rest are on their way back; when all are here, nobody
else is expected. Source: `docs/batching.md`; the population estimate is ours, and it removes
the wait at the end of each burst that a gap alone costs.
"""

import math

__all__ = ["ArrivalPredictor"]

_SHORTEST_GAP_S = 1e-7
_LONGEST_GAP_S = 10.0
_FORGET = 0.25
"""Weight of one arrival in the average of the logarithm: half is forgotten after 2.4 arrivals."""
_SLOW_FORGET = 0.7
"""What is left of the slowest gap for the next batch."""
_PATIENCE = 2.0
"""How many predicted gaps of silence mean that the burst is over."""
_RETURN_FORGET = 0.3
"""Weight of one batch in the average time after which everybody who was answered is back."""
_RETURN_MARGIN = 1.2
_SLOW_PATIENCE = 1.5
"""The same for the slowest gap lately inside a burst: network stacks deliver in clumps."""


class ArrivalPredictor:
    """Predicts arrivals of one pool from its arrivals, sends and answers. Not thread-safe: one owner.

    Args:
        longest_pause_s: Pauses longer than this are no part of a burst; the longest time anybody would wait.
    """

    __slots__ = (
        "_answered_at",
        "_in_flight",
        "_last_event",
        "_log_gap",
        "_longest_pause_s",
        "_now_peak",
        "_past_peak",
        "_return_each_s",
        "_returned",
        "_returning",
        "_slow_gap",
        "gather_since",
    )

    def __init__(self, longest_pause_s: float = 0.010) -> None:
        self._longest_pause_s = longest_pause_s
        self._log_gap = math.log(_LONGEST_GAP_S)
        self._slow_gap = 0.0
        self._last_event = -math.inf
        self._in_flight = 0
        self._now_peak = 0
        self._past_peak = 0
        self._answered_at = -math.inf
        self._returning = 0  # of those answered last, who has not come back
        self._returned = 1  # how many were answered last
        self._return_each_s = math.inf
        self.gather_since = -math.inf
        """When gathering began: the last answer, or the first arrival at an empty queue after it."""

    @property
    def population(self) -> int:
        """Tickets that are believed to exist: waiting, in flight, or on their way back."""
        return max(self._now_peak, self._past_peak)

    @property
    def gap_s(self) -> float:
        """The predicted seconds from one arrival to the next inside a burst."""
        return math.exp(self._log_gap)

    def arrived(self, now: float, waiting: int, count: int = 1) -> None:
        """`count` tickets arrived since the last call, the last of them at `now`; `waiting` wait now, they included."""
        if waiting <= count:
            self.gather_since = now
        if self._returning:
            self._returning -= count
            if self._returning <= 0:
                self._learn_return(now - self._answered_at)
                self._returning = 0
        present = waiting + self._in_flight
        self._now_peak = max(self._now_peak, present)
        pause = now - self._last_event
        self._last_event = now
        if self._slow_gap < pause <= self._longest_pause_s and not self._in_flight:
            self._slow_gap = pause
        log_gap = math.log(min(max(pause / count, _SHORTEST_GAP_S), _LONGEST_GAP_S))
        self._log_gap += (log_gap - self._log_gap) * (_FORGET if count == 1 else 1.0 - (1.0 - _FORGET) ** count)

    def sent(self, waiting: int, count: int) -> None:
        """A batch of `count` tickets left and `waiting` stayed behind."""
        self._in_flight += count
        self._past_peak = self._now_peak
        self._now_peak = waiting + self._in_flight
        self._slow_gap *= _SLOW_FORGET

    def answered(self, now: float, count: int) -> None:
        """A batch of `count` tickets was answered at `now`, by whatever outcome."""
        self._in_flight = max(0, self._in_flight - count)
        if self._returning:  # they were not back when the next batch was
            self._learn_return(2.0 * (now - self._answered_at))
        self._returning = self._returned = count
        self._answered_at = now
        self._last_event = self.gather_since = now

    def _learn_return(self, seconds: float) -> None:
        each = seconds / self._returned
        known = self._return_each_s
        self._return_each_s = each if known == math.inf else known + (each - known) * _RETURN_FORGET

    def return_s(self, tickets: int) -> float:
        """Seconds after which so many who are answered together are believed to be back; inf when that is not known."""
        return tickets * self._return_each_s

    @property
    def back_at(self) -> float:
        """When all who were answered last are believed to be back; inf when that is not known."""
        return self._answered_at + _RETURN_MARGIN * self.return_s(self._returned)

    def left(self, count: int = 1) -> None:
        """`count` waiting tickets were cancelled or expired: their clients are not expected back."""
        self._now_peak = max(0, self._now_peak - count)
        self._past_peak = max(0, self._past_peak - count)

    def expects_more(self, waiting: int) -> bool:
        """Whether somebody is believed to be on the way, whenever that is."""
        return waiting + self._in_flight < self.population

    def missing(self, waiting: int) -> int:
        """How many tickets are believed to be on their way back; 0 when all are here or in flight."""
        return max(0, self.population - self._in_flight - waiting)

    def quiet_at(self, waiting: int) -> float:
        """The time at which silence means that nobody comes; -inf when nobody is expected now."""
        if not self.expects_more(waiting):
            return -math.inf
        return self._last_event + max(_PATIENCE * self.gap_s, _SLOW_PATIENCE * self._slow_gap)
