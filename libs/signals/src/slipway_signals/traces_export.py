"""Sends the spans of ended requests to a collector, in a process that does nothing else.

It does not choose requests (`tracing`), carry them (`traces_pipe`) or shape spans (`traces_spans`). The invariants:
what waits is in the pipe, which is bounded; each request that was taken from it ends exactly once, as exported or as
dropped; a collector that is away, slow, hanging or answers 500 costs nothing but drops; at most so many spans a second
are made, because each takes about 20 µs of a core.

Not a thread of the process that answers: whatever it takes of the interpreter, it takes from the requests. The SDK's
own processor is such a thread, and locks the queue that requests write to (otel-python#3886).
"""

import logging
import select
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from slipway_bundle import ConfigError
from slipway_signals import metrics, metrics_traces
from slipway_signals.slots import Slots
from slipway_signals.traces_pipe import Ended, TraceLines

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Export", "SpanSender", "start_export"]

logger = logging.getLogger(__name__)

GATHER_S: Final = 1.0
"""How long the first request waits for others: members of one batch meet, and one POST carries many spans."""
BATCH_TRACES: Final = 64
"""Requests of one POST."""
WAIT_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""After so many failures in a row, before the next POST."""


class SpanSender(Protocol):
    """Makes spans and sends them; satisfied by `traces_spans.OtlpSender`."""

    def spans(self, ended: Sequence[Ended]) -> Iterator["ReadableSpan"]:
        """The spans of these, one at a time."""

    def send(self, spans: Sequence["ReadableSpan"]) -> bool:
        """Whether the collector took them. May block for as long as the collector's timeout, 10 s."""


class Export:
    """Reads the pipe and sends until it is told to stop, or until every writer is gone.

    Args:
        lines: the reading end.
        sender: where they go.
        slots: of this process.
        spans_per_s: at most, on average over one POST.
        gather_s: how long the first request waits for others.
        waits_s: after so many failures in a row.
    """

    def __init__(
        self,
        lines: TraceLines,
        sender: SpanSender,
        slots: Slots,
        *,
        spans_per_s: int,
        gather_s: float = GATHER_S,
        waits_s: Sequence[float] = WAIT_S,
    ) -> None:
        self._lines = lines
        self._sender = sender
        self._s_per_span = 1.0 / spans_per_s
        self._gather_s = gather_s
        self._waits_s = tuple(waits_s)
        self._dropped = slots.counter(metrics.TELEMETRY_DROPPED, metrics_traces.DROPPED_TRACES, "exporter")
        self._exported = slots.counter(metrics_traces.TRACES_EXPORTED)
        self._failures = slots.counter(metrics_traces.TRACES_EXPORT_FAILURES)
        self._failed_in_a_row = 0
        self._broken = 0

    def run(self, stop_fd: int) -> None:
        """Export. Returns when `stop_fd` is readable and the pipe is empty, or when every writer is gone."""
        is_stopping = False
        while not self._lines.is_over:
            is_there = self._lines.wait(0.0 if is_stopping else None, stop_fd)
            if is_stopping and not is_there:
                return
            is_stopping = is_stopping or _is_readable(stop_fd, self._gather_s if is_there else 0.0)
            while ended := self._taken():
                wait_s = self._round(ended)
                is_stopping = is_stopping or _is_readable(stop_fd, wait_s)

    def _taken(self) -> list[Ended]:
        ended = self._lines.take(BATCH_TRACES)
        if self._lines.broken > self._broken:
            self._dropped.inc(self._lines.broken - self._broken)
            self._broken = self._lines.broken
        return ended

    def _round(self, ended: Sequence[Ended]) -> float:
        """One POST; returns the seconds to wait before the next. Meanwhile the pipe fills, and then refuses."""
        began = time.monotonic()
        requests = sum(one.request is not None for one in ended)
        spans: list[ReadableSpan] = []
        try:
            spans += self._sender.spans(ended)
            is_sent = self._sender.send(spans)
        except Exception:  # a bug in here must cost these traces, and not the next
            logger.exception("traces_failed", extra={"spans": len(spans)})
            is_sent = False
        if is_sent:
            self._exported.inc(len(spans))
            if self._failed_in_a_row:
                logger.info("traces_exported_again", extra={"failures": self._failed_in_a_row})
            self._failed_in_a_row = 0
            return max(0.0, began + len(spans) * self._s_per_span - time.monotonic())
        self._dropped.inc(requests)
        self._failures.inc()
        if not self._failed_in_a_row:
            logger.warning("traces_not_exported", extra={"requests": requests})
        wait_s = self._waits_s[min(self._failed_in_a_row, len(self._waits_s) - 1)]
        self._failed_in_a_row += 1
        return wait_s


def start_export(fd: int, endpoint: str, slots: Slots, *, spans_per_s: int) -> Callable[[int], None]:
    """`Export.run` from the pipe `fd` to the OTLP/HTTP collector at `endpoint`, the URL of its traces.

    Imports OpenTelemetry.

    Raises:
        ConfigError: OpenTelemetry is not installed, or one of its variables has a value that it refuses.
    """
    try:
        from slipway_signals.traces_spans import OtlpSender
    except ImportError as error:
        raise ConfigError(
            f"traces are on and OpenTelemetry is not installed: {error}",
            hint="install opentelemetry-exporter-otlp-proto-http, or set OTEL_TRACES_EXPORTER=none",
        ) from error
    try:
        sender = OtlpSender(endpoint)
    except (OSError, ValueError, RuntimeError) as error:  # what it will not make do without
        raise ConfigError(f"the trace exporter cannot be made: {error}", hint="see the OTEL_… variables") from error
    return Export(TraceLines(fd), sender, slots, spans_per_s=spans_per_s).run


def _is_readable(fd: int, timeout_s: float) -> bool:
    """Whether it is, or becomes so within that time."""
    return bool(select.select([fd], [], [], timeout_s)[0])
