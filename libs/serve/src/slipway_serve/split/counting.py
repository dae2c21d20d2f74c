"""The metrics of a split, as the request's way calls them: handles are got once."""

from collections.abc import Mapping
from typing import Final

from slipway_serve.split.answered import Answered
from slipway_signals import metrics_split as m
from slipway_signals.slots import Counter, Histogram, Slots

__all__ = ["SplitMetrics"]

CODES: Final = 32
"""Different codes of refusals that are told apart."""


class SplitMetrics:
    """Counts of one process.

    Args:
        slots: where they are kept.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._asked: dict[tuple[str, str], Counter] = {}
        self._answered: dict[tuple[str, str], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        self._refused: dict[str, Counter] = {}
        self._copies = {result: slots.counter(m.SPLIT_COPIES, result) for result in m.COPIED}
        self._arms: set[str] = set()
        self.frozen: Final = slots.gauge(m.SPLIT_FROZEN)
        self.stale: Final = slots.gauge(m.SPLIT_STALE)
        self.windows_lost: Final = slots.counter(m.SPLIT_WINDOWS_LOST)

    def asked(self, arm: str, chosen: m.Chosen) -> None:
        """An arm is asked. HOT."""
        counter = self._asked.get((arm, chosen))
        if counter is None:
            counter = self._asked[arm, chosen] = self._slots.counter(m.SPLIT_REQUESTS, arm, chosen)
        counter.inc()

    def answered(self, arm: str, answered: Answered) -> None:
        """It answered, or failed for a reason. HOT."""
        result = f"{answered.status // 100}xx" if answered.reason is None else answered.reason
        counter = self._answered.get((arm, result))
        if counter is None:
            counter = self._answered[arm, result] = self._slots.counter(m.SPLIT_ANSWERS, arm, result)
        counter.inc()
        seconds = self._seconds.get(arm)
        if seconds is None:
            seconds = self._seconds[arm] = self._slots.histogram(m.SPLIT_DURATION, arm)
        seconds.observe(answered.latency_us * 1e-6)

    def refused(self, code: str) -> None:
        """A request was answered by the split itself."""
        code = code if code in self._refused or len(self._refused) < CODES else "other"
        counter = self._refused.get(code)
        if counter is None:
            counter = self._refused[code] = self._slots.counter(m.SPLIT_OWN, code)
        counter.inc()

    def copied(self, result: m.Copied) -> None:
        """A copy ended."""
        self._copies[result].inc()

    def shares(self, shares: Mapping[str, float]) -> None:
        """Who is to get how much; arms that are gone have 0."""
        for arm in self._arms - shares.keys():
            self._slots.gauge(m.SPLIT_WEIGHT, arm).set(0.0)
        self._arms |= shares.keys()
        for arm, share in shares.items():
            self._slots.gauge(m.SPLIT_WEIGHT, arm).set(share)
