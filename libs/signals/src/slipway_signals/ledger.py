"""Sums of series over processes. Pure: it reads no file and knows no clock.

The invariant: what was added is never subtracted, and a histogram whose bounds differ between processes (a rolling
restart that added a threshold) keeps every count: each layout is summed by itself, and only when the page is written is
a bound that a layout lacks answered with the count at its next lower bound, so no bucket ever falls.

Of exemplars the newest of a bucket wins, of whichever process, also of one that is dead: it points to a trace, and the
trace is still there. There are never more than buckets.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import inf
from operator import add, attrgetter
from typing import TYPE_CHECKING

from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from slipway_signals.slotfile import Metric
    from slipway_signals.snapshots import Exemplar, Reading

__all__ = ["Ledger", "SeriesName"]

SeriesName = tuple[str, tuple[str, ...]]
Bounds = tuple[float, ...]

_GAUGES: dict[str, Callable[[float, float], float]] = {"sum": add, "max": max, "min": min}


class Ledger:
    """Series by name and label values, each with its sums by bucket layout."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        """The newest definition of each metric."""
        self.series: dict[SeriesName, dict[Bounds, Sequence[float]]] = {}
        """The sums; counters and gauges have the one layout ()."""
        self.exemplars: dict[SeriesName, dict[float, Exemplar]] = {}
        """By the upper bound of the bucket they were counted in, `inf` for the last."""

    def copy(self) -> "Ledger":
        """A ledger that can be added to without changing this one. `O(series)`."""
        other = Ledger()
        other.metrics = dict(self.metrics)
        other.series = {name: dict(layouts) for name, layouts in self.series.items()}
        other.exemplars = {name: dict(buckets) for name, buckets in self.exemplars.items()}
        return other

    def add(self, readings: "Iterable[Reading]", *, gauges: bool) -> None:
        """Add one process's series; without `gauges` those are left out (the process is dead)."""
        for reading in readings:
            metric = reading.metric
            if metric.kind == "gauge" and not gauges:
                continue
            known = self.metrics.setdefault(metric.name, metric)
            if (known.kind, known.labels) != (metric.kind, metric.labels):
                continue  # another version's metric of the same name: cannot be added, and the first keeps its meaning
            layouts = self.series.setdefault((metric.name, reading.values), {})
            before = layouts.get(metric.bounds)
            if before is None:
                layouts[metric.bounds] = reading.cells
            elif metric.kind == "gauge":
                layouts[metric.bounds] = (_GAUGES[metric.merge](before[0], reading.cells[0]),)
            else:
                layouts[metric.bounds] = tuple(map(add, before, reading.cells))

    def point(self, exemplars: "Iterable[Exemplar]") -> None:
        """Take exemplars of one process in; the newest of a bucket stays."""
        for exemplar in exemplars:
            bounds = exemplar.metric.bounds
            place = bisect_left(bounds, exemplar.value)
            bound = bounds[place] if place < len(bounds) else inf
            buckets = self.exemplars.setdefault((exemplar.metric.name, exemplar.values), {})
            known = buckets.get(bound)
            if known is None or known.at_s < exemplar.at_s:
                buckets[bound] = exemplar

    def value(self, name: str, values: tuple[str, ...]) -> float:
        """The sum of a counter or gauge."""
        return self.series[name, values][()][0]

    def buckets(self, name: str, values: tuple[str, ...]) -> tuple[list[tuple[str, float]], float]:
        """The cumulative buckets of a histogram as (`le`, count), +Inf last, and the sum of its observations."""
        layouts = self.series[name, values]
        union = sorted({bound for bounds in layouts for bound in bounds})
        totals = [0.0] * (len(union) + 1)
        observed = 0.0
        for bounds, cells in layouts.items():
            running = list(accumulate(cells[:-1]))
            observed += cells[-1]
            if len(bounds) == len(union):
                totals = list(map(add, totals, running))
                continue
            below = dict(zip(bounds, running, strict=False))
            reached = 0.0
            for place, bound in enumerate(union):
                reached = below.get(bound, reached)
                totals[place] += reached
            totals[-1] += running[-1]
        return [*zip(map(_le, union), totals, strict=False), ("+Inf", totals[-1])], observed

    def pointed(self, name: str, values: tuple[str, ...]) -> "dict[str, Exemplar]":
        """The exemplars of a histogram by the `le` of `buckets`; layouts may differ, so the value says where."""
        found = self.exemplars.get((name, values))
        if not found:
            return {}
        union = sorted({bound for bounds in self.series[name, values] for bound in bounds})
        newest: dict[str, Exemplar] = {}
        for exemplar in sorted(found.values(), key=attrgetter("at_s")):
            place = bisect_left(union, exemplar.value)
            newest[_le(union[place]) if place < len(union) else "+Inf"] = exemplar
        return newest


_texts: dict[float, str] = {}


def _le(bound: float) -> str:
    text = _texts.get(bound)
    if text is None:
        text = _texts[bound] = floatToGoString(bound)  # type: ignore[no-untyped-call]  # prometheus_client
    return text
