"""One arm's own figures out of the pages of its admin port: CPU, queue, GPU, cost.

It fetches nothing: who counts windows does. The invariants: it never raises; a page that cannot be read is a `Scrape`
that says why, and a series that is not on the page is None, never 0. A counter is compared with the same process's
only: behind one address may be many, each with a past of its own.
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec.structs import replace

from slipway_signals import metrics
from slipway_signals.gate.records import Scrape

__all__ = ["ArmScrapes", "scrape_of"]

HOUR_S: Final = 3_600.0
COUNTERS: Final = ("cpu_s", "cpu_wait_s", "requests", "cost_usd")
MOST: Final = 1_000
"""Processes of an arm that are remembered; who has not answered for longest is forgotten."""

CPU: Final = metrics.PROCESS_CPU.name
CPU_WAIT: Final = metrics.PROCESS_CPU_WAIT.name
REQUESTS: Final = f"{metrics.REQUEST_DURATION.name}_count"
SYNTHETIC: Final = metrics.SYNTHETIC.name


def scrape_of(page: str, *, date: str | None, now: float) -> Scrape:
    """The figures of a page.

    Args:
        page: Text of `/metrics`, Prometheus' exposition format.
        date: The `Date` header of the answer, None where there was none.
        now: Our clock when the answer came, Unix seconds.
    """
    from prometheus_client.parser import text_string_to_metric_families

    sums: dict[str, float] = {}
    largest: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
                    largest[sample.name] = max(largest.get(sample.name, -math.inf), sample.value)
    except Exception as error:  # noqa: BLE001 - the parser raises whatever a strange page makes it raise
        problem = f"the page is not in Prometheus' format: {error}"
        return Scrape(ok=False, problem=problem[:200], skew_s=_skew(date, now))
    if not sums:
        return Scrape(ok=False, problem="the page has no series", skew_s=_skew(date, now))
    usd_per_hour = largest.get(metrics.COST.name)
    return Scrape(
        ok=True,
        cpu_s=sums.get(CPU),
        cpu_wait_s=sums.get(CPU_WAIT),
        requests=_requests(sums),
        in_flight=sums.get(metrics.ACTIVE_REQUESTS.name),
        queue_rows=sums.get(metrics.QUEUE_DEPTH.name),
        gpu_utilisation=largest.get(metrics.DEVICE_UTILISATION.name),
        # A counter whose zero is anywhere: only its growth is used.
        cost_usd=None if usd_per_hour is None else usd_per_hour * now / HOUR_S,
        skew_s=_skew(date, now),
    )


class ArmScrapes:
    """One arm's scrapes, whichever of its processes answered each: a Service of Kubernetes asks another one each time.

    With one process they stay as they are. With several, a counter is what was seen to grow, added up: numerator and
    denominator of a ratio are then always of the same processes and times. The first page of a process adds nothing,
    and neither does one whose counters fell: it was started again. What grew while no request was answered waits for
    the next page with one. Gauges are of the process that answered. Not thread-safe.
    """

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, float]] = {}
        self._grown: dict[str, float] = {}
        self._idle: dict[str, float] = {}

    def add(self, scrape: Scrape, instance: str | None) -> Scrape:
        """What the arm's scrape is.

        Args:
            scrape: Of the page of one process.
            instance: Which one, as the header `metrics.INSTANCE_HEADER` of its answer says; all that do not say so
                count as one.
        """
        if not scrape.ok:
            return scrape
        who = instance or ""
        now = {field: value for field in COUNTERS if (value := getattr(scrape, field)) is not None}
        before = self._pages.pop(who, None)
        self._pages[who] = now
        if len(self._pages) == 1:
            self._grown = now
            return scrape
        if len(self._pages) > MOST:
            del self._pages[next(iter(self._pages))]
        if before is not None and before.keys() == now.keys() and all(now[field] >= before[field] for field in now):
            for field, value in now.items():
                self._idle[field] = self._idle.get(field, 0.0) + value - before[field]
        if self._idle.get("requests", 1.0) > 0.0:
            for field, growth in self._idle.items():
                self._grown[field] = self._grown.get(field, 0.0) + growth
            self._idle = {}
        counters = {field: self._grown.get(field) for field in COUNTERS}
        return replace(scrape, **counters, processes=len(self._pages))


def _requests(sums: Mapping[str, float]) -> float | None:
    """Users' and synthetic ones: they are counted apart."""
    found = [sums[name] for name in (REQUESTS, SYNTHETIC) if name in sums]
    return sum(found) if found else None


def _skew(date: str | None, now: float) -> float | None:
    """The server's clock less ours; a `Date` has whole seconds, so half a second is added."""
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - now
    except ValueError:
        return None
