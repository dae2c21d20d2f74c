"""The cost table of one replica kind: how long a batch of n rows takes, at the median and at the 95th percentile.

It reads no clock (the shell measures and calls `learn`) and decides nothing. The invariants: p50 and p95 never fall
when n grows, p50(n) <= p95(n), and one outlier among two or more samples of a size moves neither by more than the
samples beside it.

Each size 1, 2, 4, … max_rows keeps its last samples, sorted: exact quantiles that forget completely after a window, and
cost one bisection to update. Least squares over means (BentoML's way) was turned down: a promise needs the p95, and one
outlier moves a regression line everywhere. The sizes are joined by an isotonic fit (pool adjacent violators, weighted
by samples) and straight lines between. Source: `docs/batching.md`.
"""

import math
from bisect import bisect_left, insort
from collections import deque

import msgspec

__all__ = ["CostPoint", "CostTable"]

_WINDOW = 64
"""Samples kept for each size; the p95 is the fourth largest of 64."""
_REFIT_EVERY = 32
"""Samples between two fits when nothing surprising happens: a fit costs about 15 us."""
_SURPRISE = 0.2
_NOTICEABLE_S = 20e-6
"""A sample that moves its size's median by this share, and by this much, is fitted at once."""
_EAGER = 8
"""The first samples of a size are fitted at once."""
_HALF_LIFE = 16
"""Batches of other sizes after which a size's samples weigh half: stale points give way where they contradict."""
_LEAST_WEIGHT = 1e-9
_SQRT_2 = math.sqrt(2.0)
_LEAST_GROWTH = 0.1
"""Beyond the largest size seen, a row costs at least this share of the average row so far."""


class CostPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One learned point of the table, for statistics and reports."""

    rows: float
    """Mean rows of the batches behind this point."""
    p50_s: float
    p95_s: float
    samples: int


class _Bucket:
    """The last samples of batches whose rows are nearest to 2^k, by ratio."""

    __slots__ = ("latest", "mean_rows", "order", "sorted")

    def __init__(self) -> None:
        self.latest = 0
        self.mean_rows = 0.0
        self.order: deque[float] = deque()
        self.sorted: list[float] = []

    def add(self, rows: int, seconds: float) -> None:
        order = self.order
        if len(order) == _WINDOW:
            samples = self.sorted
            del samples[bisect_left(samples, order.popleft())]
        order.append(seconds)
        insort(self.sorted, seconds)
        size = len(order)
        self.mean_rows += (rows - self.mean_rows) / (min(size, 16))

    def quantile(self, share: float) -> float:
        """The sample at `share`, rounded down: with two or more samples the largest is never taken."""
        return self.sorted[int(share * (len(self.sorted) - 1))]


class CostTable:
    """Seconds of compute by rows of the batch, learned online. Not thread-safe: one owner.

    Args:
        max_rows: Rows of the largest batch.
        prior_s: What every size is believed to cost before the first sample.
        prior: A table of the same `max_rows` that is believed instead, by its p95, until the first sample.
    """

    __slots__ = (
        "_buckets",
        "_fitted",
        "_learned",
        "_p50",
        "_p95",
        "_since_fit",
        "_sizes",
        "fits",
        "is_known",
        "max_rows",
        "prior_s",
    )

    def __init__(self, max_rows: int, *, prior_s: float = 0.010, prior: "CostTable | None" = None) -> None:
        self.max_rows = max_rows
        self.prior_s = prior_s
        self.is_known = False
        self.fits = 0
        """Grows when the answers of the table change."""
        self._buckets = [_Bucket() for _ in range(_nearest_power(max_rows) + 1)]
        self._sizes = [min(1 << power, max_rows) for power in range((max_rows - 1).bit_length() + 1)]
        self._learned = 0
        self._since_fit = 0
        self._fitted = [0.0] * len(self._buckets)
        believed = [(prior_s, 0.0)] * (len(self._sizes) + 1)
        if prior is not None and prior.max_rows == max_rows:
            believed = prior.tail()
        self._p50: list[tuple[float, float]] = believed
        self._p95: list[tuple[float, float]] = believed

    def p50(self, rows: int) -> float:
        """Median seconds of a batch of `rows` rows."""
        start, slope = self._p50[(rows - 1).bit_length() if rows <= self.max_rows else -1]
        return start + slope * rows

    def p95(self, rows: int) -> float:
        """95th percentile in seconds of a batch of `rows` rows."""
        start, slope = self._p95[(rows - 1).bit_length() if rows <= self.max_rows else -1]
        return start + slope * rows

    def tail(self) -> list[tuple[float, float]]:
        """The p95 as (start, slope) of straight lines, which another table may believe until it has learned."""
        return self._p95

    def learn(self, rows: int, seconds: float) -> None:
        """Add the measured time of one batch. At most 2 us amortised; robust: see the module's invariant."""
        index = min(_nearest_power(rows), len(self._buckets) - 1)
        bucket = self._buckets[index]
        bucket.add(rows, max(seconds, 1e-9))
        self._learned += 1
        bucket.latest = self._learned
        self._since_fit += 1
        median = bucket.quantile(0.5)
        believed = self._fitted[index]
        if (
            self._since_fit >= _REFIT_EVERY
            or len(bucket.order) <= _EAGER
            or abs(median - believed) > _SURPRISE * believed + _NOTICEABLE_S
        ):
            self._fit()

    def largest_within(self, slack_s: float, rows: int) -> int:
        """The largest n <= `rows` whose p95 is at most `slack_s`; 0 when even one row takes longer. O(log rows)."""
        if self.p95(rows) <= slack_s:
            return rows
        fits, misses = 0, rows
        while misses - fits > 1:
            middle = (fits + misses) // 2
            if self.p95(middle) <= slack_s:
                fits = middle
            else:
                misses = middle
        return fits

    def points(self) -> tuple[CostPoint, ...]:
        """What was learned, by size; empty before the first sample."""
        return tuple(
            CostPoint(
                rows=bucket.mean_rows,
                p50_s=bucket.quantile(0.5),
                p95_s=bucket.quantile(0.95),
                samples=len(bucket.order),
            )
            for bucket in self._buckets
            if bucket.order
        )

    def _fit(self) -> None:
        self.is_known = True
        self.fits += 1
        self._since_fit = 0
        learned = [bucket for bucket in self._buckets if bucket.order]
        weights = [
            len(bucket.order) * max(_LEAST_WEIGHT, 0.5 ** ((self._learned - bucket.latest) / _HALF_LIFE))
            for bucket in learned
        ]
        rows = [bucket.mean_rows for bucket in learned]
        medians = _isotonic([bucket.quantile(0.5) for bucket in learned], weights)
        tails = _isotonic([bucket.quantile(0.95) for bucket in learned], weights)
        middle, middle_growth = _at_sizes(rows, medians, self._sizes)
        tail, tail_growth = _at_sizes(rows, tails, self._sizes)
        tail = [max(high, low) for high, low in zip(tail, middle, strict=True)]  # their slopes differ beyond the last
        self._p50 = _lines(middle, middle_growth, self._sizes)
        self._p95 = _lines(tail, max(tail_growth, middle_growth), self._sizes)
        for index, bucket in enumerate(self._buckets):
            if bucket.order:
                self._fitted[index] = bucket.quantile(0.5)


def _nearest_power(rows: int) -> int:
    return int(rows * _SQRT_2).bit_length() - 1


def _isotonic(values: list[float], weights: list[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values` in weighted squares (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            above, heavy, count = blocks.pop()
            below = blocks[-1]
            total = below[1] + heavy
            below[0] += (above - below[0]) * heavy / total
            below[1] = total
            below[2] += count
    return [value for value, _, count in blocks for _ in range(int(count))]


def _at_sizes(rows: list[float], costs: list[float], sizes: list[int]) -> tuple[list[float], float]:
    """The cost at each size on the line through the learned points, and the growth by row beyond the last of them.

    Below the smallest point the cost is constant; beyond the largest it grows as between the last two, and with one
    point only in proportion (no saving by batching is believed before it was seen).
    """
    last, most = rows[-1], costs[-1]
    growth = most / last
    if len(rows) > 1:
        growth = max((most - costs[-2]) / (last - rows[-2]), _LEAST_GROWTH * growth)
    at: list[float] = []
    point = 0
    for size in sizes:
        if size >= last:
            at.append(most + growth * (size - last))
        elif size <= rows[0]:
            at.append(costs[0])
        else:
            while rows[point + 1] < size:
                point += 1
            share = (size - rows[point]) / (rows[point + 1] - rows[point])
            at.append(costs[point] + share * (costs[point + 1] - costs[point]))
    return at, growth


def _lines(at: list[float], growth: float, sizes: list[int]) -> list[tuple[float, float]]:
    """(start, slope) of the straight line that ends at each size, then of the one beyond the last size."""
    lines = [(at[0], 0.0)]
    for index in range(1, len(sizes)):
        slope = (at[index] - at[index - 1]) / (sizes[index] - sizes[index - 1])
        lines.append((at[index] - slope * sizes[index], slope))
    lines.append((at[-1] - growth * sizes[-1], growth))
    return lines
