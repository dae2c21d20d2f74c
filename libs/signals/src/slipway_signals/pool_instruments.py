"""The instruments of a dispatcher: what its runner pools do, batch by batch and replica by replica.

Requests are counted where they came in (`ServiceMetrics`, in the API workers); here is what only the dispatcher sees.
It satisfies the runtime's `PoolObserver` protocol by shape. The invariant: models and pools are names out of
configuration, and beyond a bound they fold into `other`.
"""

from typing import Final

from slipway_signals import metrics
from slipway_signals.slots import Counter, Gauge, Histogram, Slots

__all__ = ["PoolMetrics"]

LOSS_REASONS: Final = ("died", "hung", "memory")
"""Why the dispatcher lets a runner go."""


class _Model:
    """The handles of one model."""

    __slots__ = ("cold", "compute", "depth", "name", "quarantined", "releases", "retried", "rows", "waited")

    def __init__(self, slots: Slots, name: str) -> None:
        self.name = name
        self.compute: Histogram = slots.histogram(metrics.INFERENCE_DURATION, name, "compute")
        self.rows: Histogram = slots.histogram(metrics.BATCH_SIZE, name)
        self.waited: Histogram = slots.histogram(metrics.QUEUE_WAIT, name)
        self.depth: Gauge = slots.gauge(metrics.QUEUE_DEPTH, name)
        self.cold: Counter = slots.counter(metrics.COLD, name)
        self.retried: Counter = slots.counter(metrics.RETRIED, name)
        self.quarantined: Counter = slots.counter(metrics.QUARANTINED, name)
        self.releases: dict[str, Counter] = {}


class PoolMetrics:
    """Counts what one dispatcher does. One writer thread, like its slots."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._models: dict[str, _Model] = {}
        self._pools: set[str] = set()

    def batch(self, model: str, rows: int, waited_s: float, compute_s: float, reason: str) -> None:
        """A batch is back; see `ServiceMetrics.batch`."""
        handles = self._model(model)
        handles.rows.observe(rows)
        handles.waited.observe(waited_s)
        handles.compute.observe(compute_s)
        counter = handles.releases.get(reason)
        if counter is None:  # reasons are a closed set of the runtime's own
            counter = handles.releases[reason] = self._slots.counter(metrics.RELEASES, handles.name, reason)
        counter.inc()

    def queued(self, model: str, tickets: int) -> None:
        """So many requests wait now."""
        self._model(model).depth.set(tickets)

    def cold(self, model: str, tickets: int) -> None:
        """Requests came while no replica was there."""
        self._model(model).cold.inc(tickets)

    def retried(self, model: str, tickets: int) -> None:
        """Requests go to a second replica."""
        self._model(model).retried.inc(tickets)

    def quarantined(self, model: str, tickets: int) -> None:
        """Requests are refused for what they, or their equals, did to two replicas."""
        self._model(model).quarantined.inc(tickets)

    def replicas(self, pool: str, active: int, standby: int) -> None:
        """How many replicas of a pool are connected."""
        pool = self._pool(pool)
        self._slots.gauge(metrics.REPLICAS, pool, "active").set(active)
        self._slots.gauge(metrics.REPLICAS, pool, "standby").set(standby)

    def lost(self, pool: str, reason: str) -> None:
        """A replica is gone that was not told to go: `died`, `hung` or `memory`."""
        self._slots.counter(metrics.LOSSES, self._pool(pool), reason).inc()

    def _model(self, name: str) -> _Model:
        handles = self._models.get(name)
        if handles is None:
            name = name if len(self._models) < metrics.POOLS_LIMIT else metrics.MODEL_OTHER
            handles = self._models.get(name) or _Model(self._slots, name)
            self._models[name] = handles
        return handles

    def _pool(self, name: str) -> str:
        if name not in self._pools and len(self._pools) >= metrics.POOLS_LIMIT:
            return metrics.POOL_OTHER
        if name not in self._pools:
            self._pools.add(name)
            for reason in LOSS_REASONS:  # a series that is born with its first loss hides it: increase() starts there
                self._slots.counter(metrics.LOSSES, name, reason)
        return name
