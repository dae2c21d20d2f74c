"""One arm's own figures out of the page of its admin port: CPU, queue, GPU, cost.

It fetches nothing: who counts windows does. The invariant: it never raises; a page that cannot be read is a `Scrape`
that says why, and a series that is not on the page is None, never 0.
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from slipway_signals import metrics
from slipway_signals.gate.records import Scrape

__all__ = ["scrape_of"]

HOUR_S: Final = 3_600.0

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
