"""Writes log lines from a thread, so that a log that nobody reads holds up no request.

It does not shape lines (`logs_lines`). The invariants: logging never waits for whoever reads the log; lines that wait
are bounded in number and in bytes, and come at a bounded rate; a line that is not written is counted, and the next
line that is says how many were not.

A blocked pipe is not rare: `docker logs` of a full disk, a supervisor that stopped reading, a terminal in scroll mode.
"""

import collections
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from slipway_signals.logs_lines import LINE_BYTES
from slipway_signals.slots import Counter

__all__ = ["LineBudget", "LineHandler"]

WAITING: Final = 1_024
"""Lines that wait for the thread: 4 MiB at most."""
FLUSH_S: Final = 1.0
"""How long a process that ends may take to write its last lines."""


class LineBudget:
    """A token bucket. Pure: it is told the time.

    Args:
        per_s: lines a second.
        burst: lines at once, after a silence.
    """

    __slots__ = ("_burst", "_left", "_per_s", "_then")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._then = 0.0

    def allows(self, now: float) -> bool:
        """Whether a line may be written at `now` (monotonic seconds); it is then paid for."""
        self._left = min(self._burst, self._left + (now - self._then) * self._per_s)
        self._then = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class LineHandler(logging.Handler):
    """Hands formatted lines to a thread that writes them to `fd`, each with one call.

    Args:
        fd: an open descriptor, which stays the caller's.
        budget: the rate.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        fd: int,
        budget: LineBudget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._fd = fd
        self._budget = budget
        self._dropped: Counter | None = None
        self._clock = clock
        self._lines: collections.deque[bytes | threading.Event] = collections.deque()
        self._lost = 0
        self._is_wanted = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="slipway-logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record, or count it as lost. Never waits for the writing; the handler's lock is held."""
        places = 2 if self._lost else 1  # one is for the line that tells of those lost
        if len(self._lines) + places > WAITING or not self._budget.allows(self._clock()):
            self._lose()
            return
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - a record may carry anything; a log line is never worth an error
            self._lose()
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            told = logging.makeLogRecord(
                {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "log_lines_dropped"}
            )
            told.lines = lost
            self._push(self.format(told))
        self._push(line)

    def lose(self) -> None:
        """Count a line that somebody else chose not to write."""
        self.acquire()  # of the logging module, and reentrant: a signal's handler may log too
        self._lose()
        self.release()

    def count_drops(self, dropped: Counter) -> None:
        """Count lines that are not written in `dropped` from now on, and those that were not until now."""
        self.acquire()
        dropped.inc(self._lost)
        self._dropped = dropped
        self.release()

    def flush(self) -> None:
        """Wait until what was queued is written, for up to 1 s. The logging module calls it when the process ends."""
        if self._is_closing:  # that call comes after our own: the thread has ended, and the wait would be all of 1 s
            return
        is_written = threading.Event()
        self._lines.append(is_written)
        self._is_wanted.set()
        is_written.wait(FLUSH_S)

    def close(self) -> None:
        """Write what is queued, within 1 s, and stop. Idempotent."""
        if not self._is_closing:
            self.flush()
            self._is_closing = True
            self._is_wanted.set()
            self._thread.join(FLUSH_S)
        super().close()

    def _push(self, line: str) -> None:
        self._lines.append(line.encode(errors="backslashreplace")[: 2 * LINE_BYTES] + b"\n")
        self._is_wanted.set()

    def _lose(self) -> None:
        self._lost += 1
        if self._dropped is not None:
            self._dropped.inc()

    def _run(self) -> None:
        while not self._is_closing:
            self._is_wanted.wait()
            self._is_wanted.clear()
            while self._lines:
                line = self._lines.popleft()
                if isinstance(line, threading.Event):
                    line.set()
                else:
                    self._write(line)

    def _write(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError:  # nobody is left who reads, or the disk is full
            self.lose()
