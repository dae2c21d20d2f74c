"""When load must end because it hurts stable: users are there too, and the candidate is not worth their errors.

Pure: it is told of windows and asks no clock. The invariant: it never ends a run for fewer than `caps.at_least` failed
requests, so one bad second of a quiet run is no reason.
"""

from collections import deque

from slipway_signals.gate.load_plan import LoadPlan
from slipway_signals.gate.records import Window

__all__ = ["Guard"]


class Guard:
    """Watches stable's own failures over the last `caps.over_s`."""

    def __init__(self, plan: LoadPlan) -> None:
        self._caps = plan.caps
        self._kept: deque[tuple[float, int, int]] = deque()

    def hurt(self, window: Window) -> str | None:
        """Why the run must end now; None: it may go on. To be told of every window, in order."""
        counts = window.arms.get("stable")
        if counts is None:
            return None
        failed = sum(counts.failed.values())
        self._kept.append((window.end_s, failed, failed + counts.succeeded))
        while self._kept[0][0] <= window.end_s - self._caps.over_s:
            self._kept.popleft()
        failed = sum(kept[1] for kept in self._kept)
        settled = sum(kept[2] for kept in self._kept)
        if failed < self._caps.at_least or failed <= self._caps.stable_failed * settled:
            return None
        return (
            f"stable failed {failed} of {settled} requests in {self._caps.over_s:g} s under this load, "
            f"expected at most {self._caps.stable_failed:.1%} (`caps.stable_failed`)"
        )
