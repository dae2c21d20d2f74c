"""What was counted until now: windows added up, without the warm-up, and blocks of them for what is noisy.

It judges nothing. The invariant: adding the same windows in the same order gives the same totals, to the last bit.
"""

from collections import Counter
from typing import TYPE_CHECKING

from slipway_signals.gate.histogram import Histogram, Sketch
from slipway_signals.gate.records import ARMS, Arm, Counts, Scrape, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ArmTotal", "Blocks", "Totals"]


class ArmTotal:
    """One arm."""

    def __init__(self) -> None:
        self.sent = 0
        self.succeeded = 0
        self.failed: Counter[str] = Counter()
        self.latency_us = Histogram()
        self.first_sent = 0
        self.digests: Counter[str] = Counter()
        self.malformed = 0
        self.outputs: dict[str, Sketch] = {}
        self.labels: dict[str, Counter[str]] = {}
        self.labelled = 0
        self.correct = 0

    def add(self, counts: Counts) -> None:
        """Add a window."""
        self.sent += counts.sent
        self.succeeded += counts.succeeded
        self.failed.update(counts.failed)
        self.latency_us.merge(counts.latency_us)
        self.first_sent += counts.first_sent
        self.digests.update(counts.digests)
        self.malformed += counts.malformed
        for name, sketch in counts.outputs.items():
            self.outputs.setdefault(name, Sketch()).merge(sketch)
        for name, labels in counts.labels.items():
            self.labels.setdefault(name, Counter()).update(labels)
        self.labelled += counts.labelled
        self.correct += counts.correct

    @property
    def failures(self) -> int:
        """Failed requests, for whatever reason."""
        return self.failed.total()

    @property
    def settled(self) -> int:
        """Requests whose end is known."""
        return self.succeeded + self.failures

    def slower_than(self, threshold_us: int) -> int:
        """Answers above a latency; exact to a bucket of 0.1 %."""
        values = zip(self.latency_us.values, self.latency_us.counts, strict=True)
        return sum(count for value, count in values if value > threshold_us)


class Totals:
    """Both arms, the pairs, and the health of the generator."""

    def __init__(self) -> None:
        self.arms: dict[Arm, ArmTotal] = {arm: ArmTotal() for arm in ARMS}
        self.compared = 0
        self.disagreed: Counter[str] = Counter()
        self.offered = 0
        self.dropped = 0
        self.slip_us = Histogram()
        self.cpu_shares: list[float] = []
        self.sockets_share = 0.0
        self.clock_offset_s: float | None = None
        self.scrapes: dict[Arm, list[Scrape | None]] = {arm: [] for arm in ARMS}
        self.windows = 0
        self.seconds = 0.0
        self.starved: list[int] = []
        """Windows in which hardly anything of what was due was sent."""

        self.gaps: list[int] = []
        """Windows before which one is missing."""

        self._next: tuple[int, float] | None = None

    def skip(self, window: Window) -> None:
        """A window of the warm-up: nothing counts but its place."""
        self._check_gap(window)

    def add(self, window: Window) -> None:
        """Add a window that is judged."""
        self._check_gap(window)
        self.windows += 1
        self.seconds += window.end_s - window.begin_s
        for arm in ARMS:
            counts = window.arms.get(arm)
            if counts is not None:
                self.arms[arm].add(counts)
            self.scrapes[arm].append(window.scrapes.get(arm))
        self.compared += window.pairs.compared
        self.disagreed.update(window.pairs.disagreed)
        health = window.generator
        self.offered += health.offered
        self.dropped += health.dropped
        self.slip_us.merge(health.slip_us)
        if health.offered:
            self.cpu_shares.append(health.cpu_share)
        if health.sockets_limit:
            self.sockets_share = max(self.sockets_share, health.sockets / health.sockets_limit)
        if health.clock_offset_s is not None:
            self.clock_offset_s = max(self.clock_offset_s or 0.0, abs(health.clock_offset_s))
        for arm in ARMS:
            sent = window.arms[arm].sent if arm in window.arms else 0
            if health.offered >= 10 and sent * 10 < health.offered:
                self.starved.append(window.index)
                break

    def _check_gap(self, window: Window) -> None:
        """Windows follow each other: index by index, and in time to half of their length."""
        length = window.end_s - window.begin_s
        if self._next is None:
            is_next = window.index == 0
        else:
            index, begin_s = self._next
            is_next = window.index == index and abs(window.begin_s - begin_s) <= length / 2.0
        if not is_next or length <= 0.0:
            self.gaps.append(window.index)
        self._next = (window.index + 1, window.end_s)


class Blocks:
    """Windows in groups of `block_s`: pairs of values of both arms, higher is worse, never 0."""

    def __init__(self, block_s: float) -> None:
        self._block_s = block_s
        self._open: list[Window] = []
        self._before: Mapping[Arm, Scrape] = {}
        self.values: dict[str, list[tuple[float, float]]] = {}
        """Metric -> (stable, candidate) of each block in which both have the value."""

    def skip(self, window: Window) -> None:
        """A window of the warm-up: counters start at its end."""
        self._before = window.scrapes

    def add(self, window: Window) -> None:
        """Add a window that is judged; a block that is full becomes values."""
        self._open.append(window)
        if window.end_s - self._open[0].begin_s < self._block_s - 1e-6:
            return
        found = {arm: self._of(arm) for arm in ARMS}
        for metric, stable in found["stable"].items():
            if metric in found["candidate"]:
                self.values.setdefault(metric, []).append((stable, found["candidate"][metric]))
        self._before, self._open = window.scrapes, []

    def _of(self, arm: Arm) -> dict[str, float]:
        counts = [window.arms[arm] for window in self._open if arm in window.arms]
        scrapes = [window.scrapes[arm] for window in self._open if arm in window.scrapes]
        seconds = self._open[-1].end_s - self._open[0].begin_s
        answered = sum(one.succeeded for one in counts)
        found = {}
        if sum(one.sent for one in counts):
            found["throughput"] = seconds / max(answered, 0.5)
        queues = [one.queue_rows for one in scrapes if one.queue_rows is not None]
        if queues:
            found["queue"] = 1.0 + sum(queues) / len(queues)
        busy = [one.gpu_utilisation for one in scrapes if one.gpu_utilisation is not None]
        if busy:
            found["gpu"] = 0.01 + sum(busy) / len(busy)
        before, after = self._before.get(arm), scrapes[-1] if scrapes else None
        settled = answered + sum(sum(one.failed.values()) for one in counts)
        if before is not None and after is not None and settled:
            # The arm's own count, where it has one: others may be asking it, too.
            requests = _growth(before.requests, after.requests) or settled
            for metric, growth, per in (
                ("cpu", _growth(before.cpu_s, after.cpu_s), 1.0),
                ("cost", _growth(before.cost_usd, after.cost_usd), 1_000.0),
            ):
                if growth is not None and growth > 0.0:
                    found[metric] = per * growth / requests
        return found


def _growth(before: float | None, after: float | None) -> float | None:
    """Of a counter; None when it is not there, or fell because its process was replaced."""
    return None if before is None or after is None or after < before else after - before
