"""What is remembered of one route's requests, over HTTP and gRPC alike: names, counts, traces, lines of the log.

It answers nothing. The invariants: each request that began ends exactly once; a synthetic one is counted apart and
nowhere else; with names and traces off, beginning costs nothing.
"""

import time
from typing import TYPE_CHECKING, Final

from slipway_serve.watching import is_synthetic
from slipway_signals.traces_record import RequestTrace

if TYPE_CHECKING:
    from slipway_serve.routes import Headers, ServerState
    from slipway_serve.watching import Naming

ATTEMPT_HEADER: Final = b"x-slipway-attempt"
ENVOY_HEADER: Final = b"x-envoy-attempt-count"
"""Which try a request is, as our own `Upstream` says it and as Envoy does; the first has no header, or 1."""


class Following:
    """Follows the requests of one route. Event loop only.

    Args:
        template: the route's.
        server: what counts, names, traces and logs.
        slow_s: when an answer is slow, in seconds, where no objective says it; None: learned.
    """

    __slots__ = ("_log", "_measure", "_metrics", "_template", "_tracer", "is_needed", "naming")

    def __init__(self, template: str, server: "ServerState", slow_s: float | None = None) -> None:
        objective_s = server.slow_s(template)
        self._template = template
        self._metrics = server.metrics
        self._measure = server.metrics.request
        self.naming: Final[Naming | None] = server.naming
        slow_s = slow_s if objective_s is None else objective_s
        self._tracer = None if server.tracer is None else server.tracer.route(template, slow_s=slow_s)
        self._log = None if server.log is None else server.log.completed
        self.is_needed: Final = self.naming is not None or self._tracer is not None
        """Whether `begin` has anything to do."""

    def begin(self, method: str, path: str, headers: "Headers", started: float, number: int = 0) -> RequestTrace | None:
        """A request came; its trace, if there are any. HOT where it is needed.

        Args:
            method: as received.
            path: without the query.
            headers: names in lower case; `join_repeated` was asked.
            started: `time.monotonic()`.
            number: of the request, when several came in one call.
        """
        if self.naming is not None:
            self.naming.begin(headers, started, number)
        if self._tracer is None:
            return None
        return self._tracer.begin(method, path, headers, started)

    def end(self, method: str, status: int, started: float, trace: RequestTrace | None) -> None:
        """It was answered with this HTTP status; tell metrics, traces and the log. HOT."""
        ended = time.monotonic()
        seconds = ended - started
        is_probe = self.naming is not None and is_synthetic()
        if is_probe:
            self._metrics.synthetic.inc()
        else:
            self._measure(self._template, method, status, seconds)
        if trace is not None and self._tracer is not None:
            trace.is_synthetic = is_probe
            if self._tracer.end(trace, status, ended) and not is_probe:
                self._metrics.exemplify(self._template, method, status, seconds, *trace.ids())
        if self._log is not None:
            self._log(self._template, method, status, seconds, trace)


def is_repeated(headers: "Headers") -> bool:
    """Whether one of the headers says that this is not the first try."""
    said = headers.get(ATTEMPT_HEADER) or headers.get(ENVOY_HEADER, b"")
    return len(said) < 10 and said.isdigit() and int(said) > 1
