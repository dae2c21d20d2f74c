"""Turns signals and calls from other threads into bytes that a selector can wait for.

It does not decide what a signal means (`supervisor`). The invariant: handlers do nothing, so nothing runs in the middle
of anything; the interpreter writes the number of the signal into a socket (`signal.set_wakeup_fd`), and everything that
was there before is put back at the end.
"""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

__all__ = ["Wakeups"]


class Wakeups:
    """A context in which the signals `numbers` arrive as bytes. Main thread only, as the interpreter demands."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1
        self._read, self._write = socket.socketpair()
        self._read.settimeout(0.0)
        self._write.settimeout(0.0)

    def fileno(self) -> int:
        """For a selector: readable when a signal has come."""
        return self._read.fileno()

    def send(self, number: signal.Signals) -> None:
        """The same as if the signal had come. From any thread."""
        with contextlib.suppress(OSError):  # closed: it is over; full: it will wake up anyway
            self._write.send(bytes([number]))

    def take(self) -> list[signal.Signals]:
        """The signals since the last call, in order; each SIGCHLD may stand for many. Does not wait."""
        try:
            return [signal.Signals(number) for number in self._read.recv(4096)]
        except BlockingIOError:
            return []

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("this is a bug in slipway: a supervisor runs in the main thread, where signals arrive")
        self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signal.signal(number, _nothing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup_before)
        self._read.close()
        self._write.close()


def _nothing(number: int, frame: object) -> None:
    """The byte in the wakeup socket says it all."""
