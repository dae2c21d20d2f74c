"""What tests of traces share: a pipe, and behind it an export as the exporter's process runs it."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from slipway_signals import Slots
from slipway_signals.traces_export import Export
from slipway_signals.traces_pipe import Origin, TraceLines, TraceWriter, open_pipe
from slipway_signals.traces_record import RequestTrace
from slipway_signals.traces_spans import OtlpSender

ORIGIN = Origin("churn", "3", "host/api-0")


class Piped:
    """A writer, and the export to `url` at the other end of its pipe."""

    def __init__(
        self,
        url: str,
        *,
        pipe_bytes: int = 1 << 20,
        spans_per_s: int = 100_000,
        gather_s: float = 0.01,
        waits_s: Sequence[float] = (0.01,),
    ) -> None:
        slots, _ = Slots.create()
        self.reading, self.writing = open_pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, pipe_bytes)
        self.writer = TraceWriter(self.writing, ORIGIN)
        awake, self._wakes = os.pipe()
        export = Export(
            TraceLines(self.reading),
            OtlpSender(f"{url}/v1/traces"),
            slots,
            spans_per_s=spans_per_s,
            gather_s=gather_s,
            waits_s=waits_s,
        )
        self.dropped, self.exported, self.failures = export._dropped, export._exported, export._failures
        self._thread = threading.Thread(target=export.run, args=(awake,), daemon=True)
        self._thread.start()

    def offer(self, count: int, kept: str = "error") -> int:
        """Write requests; returns how many found room."""
        return sum(self.writer.write(ended(kept)) for _ in range(count))

    def close_writing(self) -> None:
        """Be the last writer, and go."""
        os.close(self.writing)

    def stop(self, timeout_s: float = 20.0) -> bool:
        """Tell it to finish, as SIGTERM does; whether it has."""
        os.write(self._wakes, b"x")
        return self.is_over(timeout_s)

    def is_over(self, timeout_s: float = 20.0) -> bool:
        """Whether it ends in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


@contextmanager
def piped(url: str, **settings: float) -> Iterator[Piped]:
    """A `Piped` that is stopped at the end."""
    pipe = Piped(url, **settings)  # type: ignore[arg-type]  # numbers, by name
    try:
        yield pipe
    finally:
        pipe.stop()


def ended(kept: str = "error") -> RequestTrace:
    """A request that is over."""
    now = time.monotonic()
    trace = RequestTrace("/predict", "POST", "/predict", now, None, False)
    trace.ended, trace.status = now, 500 if kept == "error" else 200
    trace.kept = kept  # type: ignore[assignment]  # a word of the closed set
    return trace


def wait_until(is_so: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Whether it came to be so in time."""
    ends = time.monotonic() + timeout_s
    nothing = threading.Event()
    while not is_so() and time.monotonic() < ends:
        nothing.wait(0.002)
    return is_so()
