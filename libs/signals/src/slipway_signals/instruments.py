"""The instruments of one process: what the server, the pools and the supervisor call when something happened.

It defines no metric (`metrics`) and does no I/O: a call is a few stores into the process's slots. `ServiceMetrics`
satisfies the runtime's `Observer` protocol by shape. The invariant: no argument that a client can choose makes a new
series; routes and models are closed sets, unknown methods and statuses fold into one value each, and nothing is cached
under a name that is not in those sets (10,000 hostile paths leave the process as it was; tested).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from slipway_signals import metrics
from slipway_signals.slots import Counter, Slots

__all__ = ["LoopLag", "ServiceMetrics", "SupervisorMetrics"]

TICK_S: Final = 0.1
MISSED_MOST: Final = 600
"""Ticks of a minute: to make up for all that a container missed in a day's pause would hold its worker up again."""


class _Model:
    """The handles of one model."""

    __slots__ = (
        *("_release", "_shed", "_slots", "admitted", "cancelled", "compute", "errors", "expired"),
        *("invalid", "name", "ok", "rows", "waited"),
    )

    def __init__(self, slots: Slots, name: str) -> None:
        self._slots = slots
        self.name = name
        self.admitted = slots.counter(metrics.ADMITTED, name)
        self.ok = slots.counter(metrics.INFERENCES, name, "ok")
        self.errors = slots.counter(metrics.INFERENCES, name, "error")
        self.expired = slots.counter(metrics.INFERENCES, name, "timeout")
        self.cancelled = slots.counter(metrics.INFERENCES, name, "cancelled")
        self.invalid = slots.counter(metrics.INFERENCES, name, "invalid")
        self.compute = slots.histogram(metrics.INFERENCE_DURATION, name, "compute")
        self.rows = slots.histogram(metrics.BATCH_SIZE, name)
        self.waited = slots.histogram(metrics.QUEUE_WAIT, name)
        self._shed: dict[str, Counter] = {}
        self._release: dict[str, Counter] = {}

    def shed(self, reason: str) -> Counter:
        return self._shed.get(reason) or self._by_reason(self._shed, metrics.SHED, reason)

    def release(self, reason: str) -> Counter:
        return self._release.get(reason) or self._by_reason(self._release, metrics.RELEASES, reason)

    def _by_reason(self, known: dict[str, Counter], metric: metrics.Metric, reason: str) -> Counter:
        if len(known) >= metrics.REASONS_LIMIT:
            reason = metrics.REASON_OTHER
        counter = self._slots.counter(metric, self.name, reason)
        if len(known) < metrics.REASONS_LIMIT:
            known[reason] = counter
        return counter


class ServiceMetrics:
    """Counts what one process does for a service. One writer thread, like its slots.

    Args:
        slots: Where the values go.
        service: Name of the service, for `slipway_build_info`.
        version: Version of the service; empty when it has none.
        digest: Digest of the bundle; empty when a folder is served.
        slipway_version: Version of slipway.
        routes: Every route template the server has. Other routes count as `unmatched`.
        models: Every model name. Other names count as `other`.
        thresholds_s: Latency thresholds of the service's objectives, seconds; they become bucket bounds.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        service: str,
        version: str = "",
        digest: str = "",
        slipway_version: str = "",
        routes: Iterable[str] = (),
        models: Iterable[str] = (),
        thresholds_s: Iterable[float] = (),
    ) -> None:
        self._slots = slots
        self._routes = frozenset(routes)
        self._duration = metrics.with_thresholds(metrics.REQUEST_DURATION, thresholds_s)
        self._requests: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._models = {name: _Model(slots, name) for name in models}
        self._peers: dict[str, Counter] = {}
        self.repeated = slots.counter(metrics.RETRIES_SEEN)
        """Requests whose caller says that it asks again: `inc()`."""
        self.synthetic = slots.counter(metrics.SYNTHETIC)
        """Requests of tests and probes: `inc()`."""
        self.active = slots.gauge(metrics.ACTIVE_REQUESTS)
        """Requests being answered now: `add(1)` when one begins, `add(-1)` when it ends."""
        slots.gauge(metrics.BUILD_INFO, service, version, digest, slipway_version).set(1.0)

    def announce(self, routes: Iterable[str]) -> None:
        """Routes that the server has beside those given at construction; call it before the first request."""
        self._routes |= frozenset(routes)

    def expect(self, routes: Iterable[str]) -> None:
        """Routes that users ask: their series are there at 0, because Prometheus cannot see a series' first error.

        One for each status that objectives count; `POST`, as all that a service declares.
        """
        for route in routes:
            for status in metrics.EXPECTED:
                self._observer(route, "POST", status)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request. HOT: at most 1 µs (`benchmarks/metrics.py`).

        Args:
            route: The route template, never the path.
            method: HTTP method as received.
            status: HTTP status of the answer; 499 when the client left before it.
            seconds: From the first byte of the request to the last of the answer.
        """
        observe = self._requests.get((route, method, status))
        if observe is None:
            observe = self._observer(route, method, status)
        observe(seconds)

    def exemplify(self, route: str, method: str, status: int, seconds: float, trace_id: int, span_id: int) -> None:
        """A request that was told to `request` has a trace that is kept: its bucket may point to it."""
        route = route if route in self._routes else metrics.ROUTE_UNMATCHED
        method = method if method in metrics.METHODS else metrics.METHOD_OTHER
        label = str(status) if 100 <= status <= 599 else metrics.STATUS_OTHER
        histogram = self._slots.histogram(self._duration, method, route, label)
        histogram.exemplify(seconds, trace_id, span_id, time.time())

    def admitted(self, model: str) -> None:
        """A request was let into the queue of `model`. HOT."""
        (self._models.get(model) or self._other()).admitted.inc()

    def refused(self, model: str, reason: str) -> None:
        """A request was refused at the door."""
        (self._models.get(model) or self._other()).shed(reason).inc()

    def expired(self, model: str, rows: int) -> None:
        """`rows` rows passed their deadline in the queue and were not computed."""
        (self._models.get(model) or self._other()).expired.inc(rows)

    def cancelled(self, model: str, rows: int) -> None:
        """`rows` rows were given up by their client and were not computed."""
        (self._models.get(model) or self._other()).cancelled.inc(rows)

    def failed(self, model: str, rows: int) -> None:
        """`rows` rows got an error from the model."""
        (self._models.get(model) or self._other()).errors.inc(rows)

    def answered(self, model: str, rows: int) -> None:
        """`rows` rows reached their callers."""
        (self._models.get(model) or self._other()).ok.inc(rows)

    def invalid(self, model: str, rows: int = 1) -> None:
        """`rows` rows were refused because they do not fit the model's schema."""
        (self._models.get(model) or self._other()).invalid.inc(rows)

    def batch(self, model: str, rows: int, waited_s: float, compute_s: float, reason: str) -> None:
        """A batch is back; how its rows ended is told apart (`answered`, `failed`, `expired`, `cancelled`).

        Args:
            model: Name of the model.
            rows: Rows in the batch, however they ended.
            waited_s: Wait of its oldest row, seconds.
            compute_s: Time in the model, seconds.
            reason: What made the batch leave the queue.
        """
        handles = self._models.get(model) or self._other()
        handles.rows.observe(rows)
        handles.waited.observe(waited_s)
        handles.compute.observe(compute_s)
        handles.release(reason).inc()

    def model_loaded(self, model: str, digest: str, seconds: float) -> None:
        """`model` of that digest was loaded and made its first prediction, `seconds` after the start of loading."""
        model = model if model in self._models else metrics.MODEL_OTHER
        self._slots.gauge(metrics.MODEL_INFO, model, digest).set(1.0)
        self._slots.gauge(metrics.MODEL_READY, model).set(1.0)
        self._slots.histogram(metrics.MODEL_LOAD, model).observe(seconds)

    def model_ready(self, model: str, *, is_ready: bool) -> None:
        """Whether `model` can answer in this process."""
        model = model if model in self._models else metrics.MODEL_OTHER
        self._slots.gauge(metrics.MODEL_READY, model).set(1.0 if is_ready else 0.0)

    def called(self, peer: str) -> None:
        """One request was sent to `peer`, another service by its name in our configuration or code."""
        counter = self._peers.get(peer)
        if counter is None:
            counter = self._slots.counter(metrics.CLIENT_ATTEMPTS, self._peer(peer))
            if len(self._peers) < metrics.PEERS_LIMIT:
                self._peers[peer] = counter
        counter.inc()

    def called_again(self, peer: str, reason: str) -> None:
        """That request repeats one which had no usable answer; reasons are our own: see `metrics.CLIENT_RETRIES`."""
        self._slots.counter(metrics.CLIENT_RETRIES, self._peer(peer), reason).inc()

    def _peer(self, peer: str) -> str:
        return peer if peer in self._peers or len(self._peers) < metrics.PEERS_LIMIT else metrics.PEER_OTHER

    def _observer(self, route: str, method: str, status: int) -> Callable[[float], None]:
        """Fold what a client may choose into closed sets; remember the folded names only."""
        route = route if route in self._routes else metrics.ROUTE_UNMATCHED
        method = method if method in metrics.METHODS else metrics.METHOD_OTHER
        known = 100 <= status <= 599
        key = (route, method, status if known else 0)
        observe = self._requests.get(key)
        if observe is None:
            label = str(status) if known else metrics.STATUS_OTHER
            observe = self._requests[key] = self._slots.histogram(self._duration, method, route, label).observe
        return observe

    def _other(self) -> _Model:
        """The handles for a model name that was not announced."""
        other = self._models.get(metrics.MODEL_OTHER)
        if other is None:
            other = self._models[metrics.MODEL_OTHER] = _Model(self._slots, metrics.MODEL_OTHER)
        return other


class LoopLag:
    """How late the ticks of an API worker's event loop come, ten a second. One writer thread, like its slots.

    A tick that is late waited as a request does that came when it was due: while something else holds the loop or the
    interpreter, nobody reads it. Ticks that were not even begun meanwhile count as they would have waited, so that the
    share of late ticks is a share of the time, whether it was held once for long or often for a moment.
    """

    def __init__(self, slots: Slots) -> None:
        self._observe = slots.histogram(metrics.LOOP_LAG).observe
        self._due: float | None = None

    def ticked(self, now: float) -> None:
        """The loop runs, and `TICK_S` from now it should again.

        Args:
            now: Seconds of a clock that never goes back, read now: a loop's own `time` stands still while it is held.
        """
        if self._due is not None:
            late_s = max(0.0, now - self._due)
            for _ in range(MISSED_MOST):
                self._observe(late_s)
                late_s -= TICK_S
                if late_s <= 0:
                    break
        self._due = now + TICK_S


class SupervisorMetrics:
    """What a supervisor counts about its workers, in slots of its own.

    Args:
        slots: The supervisor's slots; no worker writes to them.
        workers: Names of the supervised workers (not of their restarts); a swap may bring further ones.
    """

    def __init__(self, slots: Slots, *, workers: Iterable[str] = ()) -> None:
        self._slots = slots
        self._has_cost = False
        self._known: set[str] = set()
        for name in workers:
            self.known(name)

    def known(self, worker: str) -> None:
        """Show a worker from now on, with nothing to tell; of one that is known already it changes nothing."""
        if worker in self._known:
            return
        self._known.add(worker)
        self._slots.counter(metrics.WORKER_RESTARTS, worker).inc(0)
        self._slots.gauge(metrics.WORKER_CRASH_LOOP, worker).set(0.0)

    def restarted(self, worker: str) -> None:
        """`worker` is started again after it died unasked."""
        self._slots.counter(metrics.WORKER_RESTARTS, worker).inc()

    def crash_looping(self, worker: str, *, is_looping: bool) -> None:
        """Whether `worker` dies again and again."""
        self._slots.gauge(metrics.WORKER_CRASH_LOOP, worker).set(1.0 if is_looping else 0.0)

    def costs(self, usd_per_hour: float) -> None:
        """What this instance costs; shown when somebody told, and from then on."""
        self._has_cost |= usd_per_hour > 0
        if self._has_cost:
            self._slots.gauge(metrics.COST).set(usd_per_hour)

    def ready(self, *, is_ready: bool) -> None:
        """Whether some API worker can answer."""
        self._slots.gauge(metrics.SERVER_READY).set(1.0 if is_ready else 0.0)

    def states(self, counts: Mapping[str, int]) -> None:
        """How many workers are in each state. A state not named has none; pass every state of the closed set."""
        for state, count in counts.items():
            self._slots.gauge(metrics.WORKERS, state).set(count)
