"""The `/metrics` of a service without its server: real slots, the real collector and the real admin port.

It is for faults of the counting itself, which a whole service would only hide, and for releases. One worker; a
release is a new supervisor at the same address.
"""

import os
from collections import deque
from types import TracebackType

from prometheus_client import CollectorRegistry

from slipway_signals.admin import start_admin
from slipway_signals.collector import MergedCollector
from slipway_signals.instruments import ServiceMetrics
from slipway_signals.slots import Slots

WORKER = "api-0"


class Exporter:
    """One target of a service; a context manager.

    Args:
        service: Its name.
        digest: Of the bundle that it serves.
        routes: Route templates whose series are there from the beginning.
        thresholds_s: Of its latency objectives.
    """

    def __init__(self, service: str, *, digest: str, routes: tuple[str, ...], thresholds_s: tuple[float, ...]) -> None:
        self._service, self._thresholds_s = service, thresholds_s
        self._registry = CollectorRegistry(auto_describe=False)
        self._start(digest, routes)
        self._admin = start_admin(self._registry, port=0)
        self.address = self._admin.url.removeprefix("http://")

    def __enter__(self) -> "Exporter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._admin.close()
        self._end()

    def release(self, digest: str, routes: tuple[str, ...]) -> None:
        """Replace the program by one that serves `digest` and has these routes."""
        self._end()
        self._start(digest, routes)

    def damage_slot(self) -> None:
        """Write over the head of the worker's slot, as a stray pointer does; what was read before stays."""
        deque(self._collector.collect(), maxlen=0)
        os.pwrite(self._fd, bytes(64), 0)

    def _start(self, digest: str, routes: tuple[str, ...]) -> None:
        self._collector = MergedCollector()
        self._fd = self._collector.open(WORKER)
        self.metrics = ServiceMetrics(
            Slots.attach(self._fd),
            service=self._service,
            version="1",
            digest=digest,
            routes=routes,
            thresholds_s=self._thresholds_s,
        )
        self.metrics.expect(routes)
        self._registry.register(self._collector)

    def _end(self) -> None:
        self._registry.unregister(self._collector)
        self._collector.fold(WORKER)
        os.close(self._fd)
