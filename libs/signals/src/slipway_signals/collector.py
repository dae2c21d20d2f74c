"""Adds the slot files of many processes up into one page of metrics, over the death of any of them.

It does not serve the page (`admin`) or start processes. The invariants: a worker's counters and histograms are in the
sum exactly once, while it lives from its slot, afterwards from the tombstone, with no scrape in between that sees
both or neither; so a merged counter never falls. Gauges of the dead vanish. A slot that cannot be read keeps its last
good values and is reported. A bucket's exemplar is the newest of all processes, living or dead.

One slot a process, folded on death, is what keeps this small for ever: prometheus_client's multiprocess mode leaves a
file a pid and a scrape of 40 s (client_python#367, #275, #720).
"""

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as Pointer

from slipway_signals import metrics
from slipway_signals.ledger import Ledger, SeriesName
from slipway_signals.slotfile import CELLS, KEY_BYTES, Metric, make_slot_fd
from slipway_signals.snapshots import Exemplar, Reading, SlotReader, Snapshot

__all__ = ["MergedCollector", "SlotProblem", "make_registry"]

logger = logging.getLogger(__name__)


class SlotProblem(msgspec.Struct, frozen=True):
    """A slot file that cannot be read, wholly or in its tail."""

    worker: str
    problem: str


class MergedCollector(Collector):
    """A prometheus_client collector over the slots of all workers, living and dead. Thread-safe.

    A supervisor calls `open` before it starts a process and `fold` after the process is gone; the names it uses are
    one per start (`api-0.3`), never shown in a label.
    """

    def __init__(self, *, cells: int = CELLS, key_bytes: int = KEY_BYTES) -> None:
        self._lock = threading.Lock()
        self._cells = cells
        self._key_bytes = key_bytes
        self._live: dict[str, SlotReader] = {}
        self._dead = Ledger()
        self._dropped = 0
        self._ignored = 0
        self._highest: dict[SeriesName, float] = {}
        self._reported: set[str] = set()

    def open(self, worker: str) -> int:
        """Make a slot file for a process that is about to start, and read it from now on.

        Returns:
            Its descriptor. The caller passes it to the process and may then close it.

        Raises:
            SlotError: when the slot file cannot be made.
            ValueError: when `worker` is live already.
        """
        fd = make_slot_fd(cells=self._cells, key_bytes=self._key_bytes)
        try:
            self.attach(worker, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def attach(self, worker: str, fd: int) -> None:
        """Read the slot file `fd` from now on; the descriptor may be closed afterwards.

        Raises:
            ValueError: when `worker` is live already.
        """
        with self._lock:
            if worker in self._live:
                raise ValueError(f"this is a bug in slipway: worker {worker!r} already has a slot")
            self._live[worker] = SlotReader(fd)

    def fold(self, worker: str) -> bool:
        """Add the counters and histograms of a process that is gone to the tombstone, and forget its slot.

        Call it after the process is dead: what it writes later is lost. A second call changes nothing.

        Returns:
            Whether the worker was live until now.
        """
        with self._lock:
            reader = self._live.pop(worker, None)
            if reader is None:
                return False
            snapshot = reader.read()
            reader.close()
            self._note(worker, snapshot)
            self._dead.add(snapshot.readings, gauges=False)
            self._dead.point(snapshot.exemplars)
            self._dropped += snapshot.dropped
            self._ignored += snapshot.ignored
            self._reported.discard(worker)
            return True

    def problems(self) -> tuple[SlotProblem, ...]:
        """The living workers whose slots cannot be read at present, for a page a person reads."""
        with self._lock:
            found = [(worker, reader.read().problem) for worker, reader in self._live.items()]
        return tuple(SlotProblem(worker, problem) for worker, problem in found if problem is not None)

    def collect(self) -> Iterator[Family]:
        """The merged families, in the order of `metrics.ALL`, then the rest by name. `O(series × workers)`."""
        with self._lock:
            total = self._dead.copy()
            dropped, ignored, unreadable = self._dropped, self._ignored, 0
            for worker, reader in self._live.items():
                snapshot = reader.read()
                self._note(worker, snapshot)
                total.add(snapshot.readings, gauges=True)
                total.point(snapshot.exemplars)
                dropped += snapshot.dropped
                ignored += snapshot.ignored
                unreadable += snapshot.problem is not None
            total.add(_lost(dropped, ignored), gauges=False)
            families = [self._family(total, metric, series) for metric, series in _by_metric(total)]
        yield from families
        yield GaugeMetricFamily(metrics.SLOTS_UNREADABLE.name, metrics.SLOTS_UNREADABLE.help, value=unreadable)

    def describe(self) -> Iterable[Family]:
        """Nothing: which families exist is known at each scrape only."""
        return ()

    def _family(self, total: Ledger, metric: Metric, series: list[tuple[str, ...]]) -> Family:
        if metric.kind == "gauge":
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for values in series:
                gauge.add_metric(values, total.value(metric.name, values))
            return gauge
        if metric.kind == "counter":
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for values in series:
                counter.add_metric(values, self._rising((metric.name, values), total.value(metric.name, values)))
            return counter
        unit = "seconds" if metric.name.endswith("_seconds") else ""
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels, unit=unit)
        for values in series:
            buckets, observed = total.buckets(metric.name, values)
            pointed = total.pointed(metric.name, values)
            counted: list[Any] = buckets  # pairs, or triples with an exemplar: prometheus_client takes both
            if pointed:
                counted = [(le, n, _pointer(pointed[le])) if le in pointed else (le, n) for le, n in buckets]
            histogram.add_metric(values, counted, self._rising((metric.name, values), observed))
        return histogram

    def _rising(self, name: SeriesName, value: float) -> float:
        """The greatest value shown so far: folding changes the order of additions, and a sum of seconds that falls by
        its last bit would be a counter reset to Prometheus, which then counts the whole sum again."""
        highest = self._highest.get(name, 0.0)
        if value > highest:
            self._highest[name] = highest = value
        return highest

    def _note(self, worker: str, snapshot: Snapshot) -> None:
        if snapshot.problem is not None and worker not in self._reported:
            self._reported.add(worker)
            logger.warning("metrics_slot_unreadable", extra={"worker": worker, "problem": snapshot.problem})


def make_registry(*collectors: Collector) -> CollectorRegistry:
    """A registry of these collectors only; the global one of prometheus_client is never touched."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return registry


def _lost(dropped: int, ignored: int) -> list[Reading]:
    """What the slots themselves could not hold, beside what processes count as lost."""
    metric = metrics.TELEMETRY_DROPPED
    return [
        Reading(metric, (metrics.DROPPED_SERIES, metrics.PROCESS_ANY), (float(dropped),)),
        Reading(metric, (metrics.DROPPED_VALUES, metrics.PROCESS_ANY), (float(ignored),)),
    ]


def _pointer(exemplar: Exemplar) -> Pointer:
    """As the page writes it: names of labels as Grafana expects them, 63 characters of the 128 that are allowed."""
    return Pointer({"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}, exemplar.value, exemplar.at_s)


_ORDER = {metric.name: place for place, metric in enumerate(metrics.ALL)}


def _by_metric(total: Ledger) -> list[tuple[Metric, list[tuple[str, ...]]]]:
    """The metrics in page order, each with the label values of its series."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for name, values in total.series:
        found.setdefault(name, []).append(values)
    names = sorted(found, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    return [(total.metrics[name], sorted(found[name])) for name in names]
