"""What the console reads: one Prometheus, perhaps an Alertmanager, a folder of dashboards and one of runbooks.

Pages ask through it. The files are read once, when the console starts; Prometheus is asked anew by every page.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from slipway_bundle import SlipwayError
from slipway_signals.alertmanager import Alertmanager
from slipway_signals.dashboards.reading import Dashboard, load_dashboards
from slipway_signals.prometheus import Prometheus
from slipway_signals.runbooks import Runbook, load_runbooks

T = TypeVar("T")
PATIENCE_S: Final = 3.0
"""How long a page waits for Prometheus: a person who was woken reloads after that."""
CHART_PATIENCE_S: Final = 10.0
"""How long a panel waits: its query may look at a month, and the others are there already."""
SCRAPE_S: Final = 15.0
"""Seconds between scrapes where Prometheus does not scrape itself; its own default is a minute, most set this."""
SCRAPE_QUERY: Final = 'max(prometheus_target_interval_length_seconds{quantile="0.5"})'
SCRAPE_KNOWN_S: Final = 60.0
"""How long the answer to `SCRAPE_QUERY` is believed."""
THREADS: Final = 16


class ConsoleOptions(Struct, frozen=True, kw_only=True):
    """Where the console looks, and where it is looked at."""

    prometheus: str = "http://127.0.0.1:9090"
    alertmanager: str | None = None
    """None: pages do not say who was told."""

    observability: Path = Path("observability")
    """Its `dashboards/` are read."""

    runbooks: Path = Path("runbooks")
    host: str = "127.0.0.1"
    port: int = 8900
    """0 takes a free one."""


class Sources:
    """See the module.

    Args:
        options: Of the console.
        clock: Unix seconds.

    Raises:
        SlipwayError: a dashboard or a runbook cannot be read.
    """

    def __init__(self, options: ConsoleOptions, *, clock: Callable[[], float] = time.time) -> None:
        self.options = options
        self.clock = clock
        self.prometheus = Prometheus(options.prometheus, timeout_s=PATIENCE_S)
        self.patient = Prometheus(options.prometheus, timeout_s=CHART_PATIENCE_S)
        self.alertmanager = (
            Alertmanager(options.alertmanager, timeout_s=PATIENCE_S) if options.alertmanager is not None else None
        )
        folder = options.observability / "dashboards"
        self.dashboards: dict[str, Dashboard] = {one.uid: one for one in load_dashboards(folder)}
        self.runbooks: dict[str, Runbook] = load_runbooks(options.runbooks)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ask")
        self._scrape = (-SCRAPE_KNOWN_S, SCRAPE_S)

    def beside(self, question: Callable[[], T]) -> "Callable[[], T]":
        """Ask in a thread of its own; the returned function waits for the answer, or raises what was raised."""
        return self._threads.submit(question).result

    def scrape_s(self) -> float:
        """Seconds between two scrapes, as Prometheus measures them; asked at most once a minute."""
        asked_at, known = self._scrape
        if time.monotonic() - asked_at > SCRAPE_KNOWN_S:
            try:
                found = self.prometheus.instant(SCRAPE_QUERY)
            except SlipwayError:
                found = []
            if found and found[0].value > 0:
                known = found[0].value
            self._scrape = (time.monotonic(), known)
        return known

    def runbook(self, alert: str) -> Runbook | None:
        """The page of an alert; None when there is none."""
        return self.runbooks.get(alert)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
