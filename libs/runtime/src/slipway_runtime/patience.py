"""The present wait of a pool for more company: how long it lasts, and what ends it early.

It reads no clock and sleeps nowhere: the shell asks whether to go on. The invariant: every wait ends, at its time, when
enough rows have come, or (a free wait) after a few turns of the loop in a row that brought nobody.

A *free* wait is made of turns of the event loop: requests that are ready to be read are read in them, work that must be
done anyway. A *timed* wait spends time, and only `batching.decide` asks for one.
"""

import math

__all__ = ["Patience"]

_BARREN_TURNS = 3
"""A request that is ready to be read needs two turns (the read, then the step of its task), and the callback of the
pool runs before what the same turn has read."""


class Patience:
    """State of one wait. `wake_rows` is a plain attribute: the hot path compares it with the rows that wait."""

    __slots__ = ("_barren", "_seen", "is_free", "until", "wake_rows")

    def __init__(self) -> None:
        self.until = -math.inf
        self.wake_rows = 1
        self.is_free = False
        self._barren = 0
        self._seen = 0

    def begin(self, until: float, wake_rows: int, admitted: int, *, is_free: bool) -> None:
        """Wait until `until` or `wake_rows` rows; `admitted` counts the tickets that ever came."""
        self.until = until
        self.wake_rows = wake_rows
        self.is_free = is_free
        self._barren = 0
        self._seen = admitted

    def end(self) -> None:
        """A batch leaves: nothing is waited for any more."""
        self.until = -math.inf
        self.wake_rows = 1
        self.is_free = False

    def goes_on(self, now: float, rows: int, admitted: int) -> bool:
        """Whether the wait goes on, with `rows` rows waiting. One call for each turn of a free wait."""
        if now >= self.until or rows >= self.wake_rows or not rows:
            return False
        if self.is_free:
            if admitted == self._seen:
                self._barren += 1
                return self._barren < _BARREN_TURNS
            self._seen = admitted
            self._barren = 0
        return True
