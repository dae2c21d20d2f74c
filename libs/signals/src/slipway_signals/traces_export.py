"""Takes ended requests from the event loop and sends their spans, from a thread that never holds the interpreter long.

It does not choose requests (`tracing`) or shape spans (`traces_spans`). The invariants: `offer` never waits; what waits
is bounded, failed and slow requests apart from sampled ones, so that a flood of the latter displaces none of the
former; each request ends exactly once, as exported or as dropped; a collector that is away, slow, hanging or answers
500 costs nothing but drops; stopping is bounded.

The thread encodes one span (about 50 µs) and rests, so the event loop never waits for more than one. The SDK's own
processor encodes up to 512 in one go, and the interpreter switches threads every 5 ms only. It also locks the queue
that requests write to (otel-python#3886), where here a `deque` needs no lock.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, overload

import msgspec

from slipway_bundle import ConfigError
from slipway_signals.slots import Counter
from slipway_signals.traces_record import RequestTrace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Export", "Load", "SpanSender", "start_export"]

logger = logging.getLogger(__name__)

GATHER_S: Final = 1.0
"""How long the first request waits for others: members of one batch meet, and one POST carries many spans."""
MADE_AT_ONCE: Final = 4
"""Spans that are made, 15 µs each, before a rest."""
BATCH_TRACES: Final = 64
"""Requests of one POST."""
WAIT_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""After so many failures in a row, before the next POST."""
LOADS: Final = 64

_T = TypeVar("_T")


class Load(msgspec.Struct, frozen=True):
    """A model that was loaded. Times are `time.monotonic()` seconds."""

    model: str
    started: float
    ended: float
    digest: str = ""
    device: str = ""


class SpanSender(Protocol):
    """Makes spans and sends them; satisfied by `traces_spans.OtlpSender`. Used by one thread."""

    def spans(self, traces: Sequence[RequestTrace], loads: Sequence[Load]) -> Iterator["ReadableSpan"]:
        """The spans of these, one at a time."""

    def send(self, spans: Sequence["ReadableSpan"]) -> bool:
        """Whether the collector took them. May block for as long as the collector's timeout, 10 s."""

    def stop(self) -> None:
        """Give up retrying; called from another thread."""


class Export:
    """The queue and the thread behind it. `offer` and `close` belong to the thread that made it."""

    def __init__(
        self,
        sender: SpanSender,
        *,
        queue: int,
        spans_per_s: int,
        dropped: Counter,
        exported: Counter,
        failures: Counter,
        gather_s: float = GATHER_S,
        waits_s: Sequence[float] = WAIT_S,
    ) -> None:
        self._sender = sender
        self._urgent: collections.deque[RequestTrace] = collections.deque()
        self._sampled: collections.deque[RequestTrace] = collections.deque()
        self._loads: collections.deque[Load] = collections.deque(maxlen=LOADS)
        self._room = queue
        self._rest_s = 1.0 / spans_per_s
        self._gather_s = gather_s
        self._waits_s = tuple(waits_s)
        self._dropped = dropped
        self._exported = exported
        self._failures = failures
        self._lock = threading.Lock()  # of the counter of drops, which two threads write; never on the way of a request
        self._is_wanted = threading.Event()
        self._is_closing = threading.Event()
        self._failed_in_a_row = 0
        self._in_hand = 0
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, name="slipway-traces", daemon=True)
        self._thread.start()

    def offer(self, trace: RequestTrace) -> bool:
        """Take an ended request; False, and counted, when there is no room. Never waits."""
        waiting = self._sampled if trace.kept == "sampled" else self._urgent
        if len(waiting) >= self._room or self._is_closing.is_set():
            self._drop(1)
            return False
        waiting.append(trace)
        if not self._is_wanted.is_set():
            self._is_wanted.set()
        return True

    def offer_load(self, load: Load) -> None:
        """Take a load; the newest 64 are kept."""
        self._loads.append(load)
        self._is_wanted.set()

    def close(self, flush_s: float) -> None:
        """Send what waits within `flush_s` seconds, count the rest as dropped. Blocks that long at most. Idempotent.

        A thread that hangs in the collector's socket is left behind; it is a daemon and holds nothing up.
        """
        if self._is_closing.is_set():
            return
        self._is_closing.set()
        self._is_wanted.set()
        self._thread.join(flush_s)
        if self._thread.is_alive():
            self._is_abandoned = True
            self._sender.stop()
            self._drop(len(self._urgent) + len(self._sampled) + self._in_hand)
            self._urgent.clear()
            self._sampled.clear()

    def _run(self) -> None:
        while True:
            self._is_wanted.wait()
            self._is_closing.wait(self._gather_s)
            self._is_wanted.clear()
            while self._urgent or self._sampled or self._loads:
                self._round()
            if self._is_closing.is_set():
                self._sender.stop()
                return

    def _round(self) -> None:
        """One POST, and after one that failed a wait; meanwhile the queue fills, and then drops."""
        traces = _take(self._urgent, BATCH_TRACES)
        traces += _take(self._sampled, BATCH_TRACES - len(traces))
        loads = _take(self._loads, LOADS)
        self._in_hand = len(traces)
        spans: list[ReadableSpan] = []
        try:
            for span in self._sender.spans(traces, loads):
                spans.append(span)
                if len(spans) % MADE_AT_ONCE == 0:
                    self._rest()
            is_sent = self._sender.send(_Paced(spans, self._rest))
        except Exception:  # top of the thread: a bug in here must cost traces, nothing else
            logger.exception("traces_failed", extra={"spans": len(spans)})
            is_sent = False
        if self._is_abandoned:
            return  # `close` has counted them
        lost, self._in_hand = self._in_hand, 0
        if is_sent:
            self._exported.inc(len(spans))
            if self._failed_in_a_row:
                logger.info("traces_exported_again", extra={"failures": self._failed_in_a_row})
            self._failed_in_a_row = 0
            return
        self._drop(lost)
        self._failures.inc()
        if not self._failed_in_a_row:
            logger.warning("traces_not_exported", extra={"requests": lost})
        wait_s = self._waits_s[min(self._failed_in_a_row, len(self._waits_s) - 1)]
        self._failed_in_a_row += 1
        self._is_closing.wait(wait_s)

    def _rest(self) -> None:
        """Leave the interpreter to the event loop, unless it has ended and waits for this thread."""
        if not self._is_closing.is_set():
            time.sleep(self._rest_s)

    def _drop(self, traces: int) -> None:
        with self._lock:
            self._dropped.inc(traces)


class _Paced(Sequence["ReadableSpan"]):
    """Spans that rest while they are iterated: the exporter encodes one for each step."""

    def __init__(self, spans: Sequence["ReadableSpan"], rest: Callable[[], None]) -> None:
        self._spans = spans
        self._rest = rest

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> "ReadableSpan": ...
    @overload
    def __getitem__(self, index: slice) -> Sequence["ReadableSpan"]: ...
    def __getitem__(self, index: int | slice) -> "ReadableSpan | Sequence[ReadableSpan]":
        return self._spans[index]

    def __iter__(self) -> Iterator["ReadableSpan"]:
        for span in self._spans:
            yield span
            self._rest()


def start_export(
    endpoint: str,
    attributes: Mapping[str, str],
    *,
    queue: int,
    spans_per_s: int,
    dropped: Counter,
    exported: Counter,
    failures: Counter,
) -> Export:
    """The export to the OTLP/HTTP collector at `endpoint`, the URL of its traces. Imports OpenTelemetry.

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
        sender = OtlpSender(endpoint, attributes)
    except (OSError, ValueError, RuntimeError) as error:  # a certificate that is not there, a compression it has not
        raise ConfigError(f"the trace exporter cannot be made: {error}", hint="see the OTEL_… variables") from error
    return Export(sender, queue=queue, spans_per_s=spans_per_s, dropped=dropped, exported=exported, failures=failures)


def _take(waiting: "collections.deque[_T]", most: int) -> list[_T]:
    """Up to `most` from the front; only the exporter's thread takes."""
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]
