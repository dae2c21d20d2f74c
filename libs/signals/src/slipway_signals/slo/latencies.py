"""When an answer of a route is too slow, as the latency objectives of its service say it.

Pure; it compiles nothing. The invariant: a route has the threshold of an objective whose own selector would count it.
"""

from collections.abc import Iterable

from slipway_signals.metrics import REQUEST_DURATION
from slipway_signals.slo.model import Counters, ServiceSlos

__all__ = ["slow_s"]

LABEL = "http_route"


def slow_s(services: Iterable[ServiceSlos], route: str) -> float | None:
    """Above how many seconds an answer of `route`, a template, breaks its objective; None where none is about it.

    Of several objectives that with the highest target counts: it is the one that the slowest requests break.
    """
    found = [
        (slo.target, -indicator.threshold_s)
        for service in services
        for slo in service.slos
        if isinstance(indicator := slo.indicator, Counters)
        and indicator.threshold_s is not None
        and indicator.part.metric == f"{REQUEST_DURATION.name}_bucket"
        and all(matcher.accepts(route) for matcher in indicator.part.matchers if matcher.label == LABEL)
    ]
    return -max(found)[1] if found else None
