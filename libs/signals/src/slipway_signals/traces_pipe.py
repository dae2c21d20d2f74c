"""Carries ended requests from the processes that answer to the one that exports: lines of JSON in one pipe.

It chooses nothing (`tracing`) and sends nothing (`traces_export`). The invariants: a line is written whole or not at
all, because it fits into `PIPE_BUF` (pipe(7)), so many processes write without a lock and one that is killed leaves no
half; a full pipe refuses, so nobody waits; sampled requests leave half of it to failed and slow ones, so no flood of
the former displaces any of the latter; what is written outlives the reader, whose successor misses at most one line.
"""

import contextlib
import fcntl
import os
import select
import struct
import termios
from typing import Final

import msgspec

from slipway_signals.traces_record import RequestTrace, Step

__all__ = ["Ended", "Load", "Origin", "TraceLines", "TraceWriter", "open_pipe"]

PIPE_BYTES: Final = 1 << 20
"""Of the pipe, where the system gives as much: some 2,000 requests. Linux gives 64 KiB at least."""
LINE_BYTES: Final = 4_096
"""`PIPE_BUF` of Linux."""
PATH_CHARACTERS: Final = 256


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Who answered: attributes of the resource."""

    service: str
    version: str = ""
    instance: str = ""


class Load(msgspec.Struct, frozen=True):
    """A model that was loaded. Times are `time.monotonic()` seconds."""

    model: str
    started: float
    ended: float
    digest: str = ""
    device: str = ""


class Ended(msgspec.Struct, frozen=True):
    """What one line says: a request that is over, or a load."""

    origin: Origin
    request: RequestTrace | None = None
    load: Load | None = None


class _Told(msgspec.Struct, frozen=True):
    """A `BatchTold` and nothing else: what a lane hands over may hold the answers too, which are nobody's business."""

    number: int
    rows: int
    sent_at: float
    started_at: float
    compute_s: float
    reason: str
    replica: str


def _plain(step: Step) -> Step:
    told = step.batch
    if told is None:
        return step
    batch = _Told(told.number, told.rows, told.sent_at, told.started_at, told.compute_s, told.reason, told.replica)
    return Step(step.model, step.queued, step.answered, batch, step.lane)


def _read_back(_kind: type, plain: object) -> _Told:
    """The only type here that msgspec does not know is `BatchTold`."""
    return msgspec.convert(plain, _Told)


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Ended, dec_hook=_read_back)


def open_pipe() -> tuple[int, int]:
    """A pipe for lines: descriptors of its reading and its writing end, which does not wait."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # over the user's limit: it keeps what it has
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reading, writing


class TraceWriter:
    """The writing end in a process that answers requests."""

    def __init__(self, fd: int, origin: Origin) -> None:
        self._fd = fd
        self._origin = origin
        size = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 1 << 16
        self._sampled_bytes = size // 2

    def write(self, trace: RequestTrace) -> bool:
        """Hand over an ended request; False when there is no room. Never waits; about 8 µs."""
        if trace.kept == "sampled" and self._used() > self._sampled_bytes:
            return False
        trace.ids()
        if not (trace.path.isascii() and len(trace.path) <= PATH_CHARACTERS):
            trace.path = trace.path[:PATH_CHARACTERS].encode(errors="replace").decode()
        if trace.steps:
            trace.steps = [_plain(step) for step in trace.steps]
        line = _encoder.encode(Ended(self._origin, trace))
        while len(line) >= LINE_BYTES and trace.steps:
            trace.steps = trace.steps[: len(trace.steps) // 2]
            line = _encoder.encode(Ended(self._origin, trace))
        return self._write(line)

    def write_load(self, load: Load) -> bool:
        """Hand over a load; False when there is no room."""
        return self._write(_encoder.encode(Ended(self._origin, load=load)))

    def _write(self, line: bytes) -> bool:
        if len(line) >= LINE_BYTES:
            return False
        try:
            return os.write(self._fd, line + b"\n") > len(line)
        except OSError:  # full, or the server is going down and nobody holds the other end
            return False

    def _used(self) -> int:
        """Bytes in the pipe."""
        return int(struct.unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, b"\0\0\0\0"))[0])


class TraceLines:
    """The reading end, in the process that exports."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""
        self._lines: list[bytes] = []
        self.broken = 0
        """Lines that were none, since the beginning."""
        self.is_over = False
        """Every writer is gone, and everything was read."""

    def wait(self, timeout_s: float | None, wake_fd: int) -> bool:
        """Whether there is something to take; returns early when `wake_fd` becomes readable."""
        if self._lines:
            return True
        ready, _, _ = select.select([self._fd, wake_fd], [], [], timeout_s)
        return self._fd in ready

    def take(self, most: int) -> list[Ended]:
        """Up to `most` of them, in their order; does not wait."""
        while len(self._lines) < most and self._fill():
            pass
        lines, self._lines = self._lines[:most], self._lines[most:]
        taken = []
        for line in lines:
            try:
                taken.append(_decoder.decode(line))
            except msgspec.MsgspecError:
                self.broken += 1
        return taken

    def _fill(self) -> bool:
        """Read once; False when there is nothing now."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self.is_over = True
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines += lines
        return True
