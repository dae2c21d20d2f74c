"""Where the next batch of an in-process pool runs: inline on the event loop, or in its worker thread.

It runs nothing and reads no clock. The invariant: a batch runs inline only when the p95 of batches *measured inline*
(or in the warm-up, when nothing else ran) is within the limit for its size.

Two cost tables, because the same compute has two costs: a thread that shares the interpreter with a busy event loop
waits for its lock, up to 5 ms a turn (`sys.getswitchinterval`). One table would learn that wait, believe that the model
is slow, and keep a fast model in the thread for ever. So the way back is a probe: after a number of thread batches
whose fastest was within the limit, one batch runs inline; while such probes fail, that number doubles.
"""

from slipway_runtime.latency import CostTable

__all__ = ["LaneChooser"]

_FIRST_PROBE = 8
_LAST_PROBE = 4096
_PROVEN = 256
"""Inline batches after which a probe counts as a success."""


class LaneChooser:
    """Chooses the lane of each batch and owns both cost tables. Not thread-safe: one owner.

    Args:
        max_rows: Rows of the largest batch.
        inline_s: Longest p95 in seconds that may hold up the event loop; 0 keeps every batch in the thread.
    """

    __slots__ = (
        "_fastest",
        "_inline_batches",
        "_inline_s",
        "_probe_after",
        "_thread_batches",
        "costs",
        "inline_costs",
        "thread_costs",
    )

    def __init__(self, max_rows: int, inline_s: float) -> None:
        self.inline_costs = CostTable(max_rows)
        self.thread_costs = CostTable(max_rows)
        self._inline_s = inline_s
        self._inline_batches = 0
        self._thread_batches = 0
        self._probe_after = _FIRST_PROBE
        self._fastest: tuple[float, int] | None = None
        self.costs = self.thread_costs
        """The table of the lane that a single row would take now: what decisions should believe."""

    def is_inline(self, rows: int) -> bool:
        """Whether a batch of `rows` rows should run on the event loop."""
        return self.inline_costs.is_known and self.inline_costs.p95(rows) <= self._inline_s

    def warmed(self, rows: int, seconds: float) -> None:
        """A batch was measured while nothing else ran: it tells about both lanes."""
        self.inline_costs.learn(rows, seconds)
        self.thread_costs.learn(rows, seconds)
        self._choose()

    def ran_inline(self, rows: int, seconds: float) -> None:
        """A batch ran on the event loop."""
        self.inline_costs.learn(rows, seconds)
        self._inline_batches += 1
        if self._inline_batches == _PROVEN:
            self._probe_after = _FIRST_PROBE
        self._choose()

    def ran_in_thread(self, rows: int, seconds: float) -> None:
        """A batch ran in the worker thread; now and then this allows a probe of the inline lane."""
        self.thread_costs.learn(rows, seconds)
        self._thread_batches += 1
        if self._fastest is None or seconds < self._fastest[0]:
            self._fastest = (seconds, rows)
        if self._thread_batches < self._probe_after:
            return
        seconds, rows = self._fastest
        if seconds <= self._inline_s:
            self.inline_costs = CostTable(self.inline_costs.max_rows)
            self.inline_costs.learn(rows, seconds)
            self._probe_after = min(2 * self._probe_after, _LAST_PROBE)
            self._inline_batches = 0
            self._choose()
        self._thread_batches = 0
        self._fastest = None

    def _choose(self) -> None:
        self.costs = self.inline_costs if self.is_inline(1) else self.thread_costs
