"""Sleeps to the tenth of a millisecond while other greenlets run.

gevent's own timers wait in `epoll_wait`, whose unit is the millisecond, so a request would leave 0.5 ms late at the
median: as long as a small model takes. A timerfd (Linux) wakes the same loop when it is due. Elsewhere gevent's timer
is used, and the slip that it adds is in the result like any other.
"""

import ctypes
import os
import struct
import sys
import time
from typing import Final

import gevent  # type: ignore[import-untyped]  # it ships no types

__all__ = ["AlarmClock"]

CLOCK_MONOTONIC: Final = 1
TFD_NONBLOCK: Final = 0o4000
READ: Final = 1
SHORTEST_S: Final = 20e-6
"""What is due sooner than this is due now: setting the timer takes as long."""
PATIENCE_S: Final = 0.001
"""A late sleeper lets the others run this often: answers must be read while it catches up."""


class AlarmClock:
    """One sleeper's clock; times are of `time.monotonic`."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._slept = 0.0
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        if self._file >= 0:
            self._setting = ctypes.create_string_buffer(32)
            self._watcher = self._hub.loop.io(self._file, READ)

    def sleep_until(self, due: float) -> None:
        """Let others run until `due`; when it has passed, let them run only if they have waited for a while."""
        now = time.monotonic()
        left_s = due - now
        if left_s < SHORTEST_S:
            if now - self._slept > PATIENCE_S:
                gevent.sleep(0)
                self._slept = now
            return
        self._slept = due
        if self._file < 0:
            gevent.sleep(left_s)
            return
        nanoseconds = int(left_s * 1e9)
        struct.pack_into("qqqq", self._setting, 0, 0, 0, *divmod(nanoseconds, 1_000_000_000))
        self._libc.timerfd_settime(self._file, 0, self._setting, None)
        self._hub.wait(self._watcher)
        os.read(self._file, 8)

    def close(self) -> None:
        """Give the timer back."""
        if self._file >= 0:
            self._watcher.stop()
            self._watcher.close()
            os.close(self._file)
            self._file = -1
