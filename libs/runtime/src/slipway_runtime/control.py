"""The line between a supervisor and one of its workers: a socket pair on which the worker says how it is.

It does not start processes (`processes`) or decide about them (`supervisor`). The invariant: the supervisor never
writes, so the only thing a worker can read is the end, and the end means that the supervisor is gone, however it died
(SIGKILL too, on Linux and macOS alike): the worker then drains and exits, and no orphan is left.

Worker side:

    control = WorkerControl.from_environment(os.environ)
    control.watch(loop, on_parent_gone=server.drain, grace_s=30.0)
    control.ready()
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from slipway_bundle.errors import HostError, SlipwayError

__all__ = [
    "CONTROL_FD",
    "GENERATION",
    "SLOT_FD",
    "ControlError",
    "ControlReader",
    "Failed",
    "Message",
    "Ready",
    "Recycle",
    "WorkerControl",
    "generation_from_environment",
    "slot_fd_from_environment",
]

CONTROL_FD: Final = "SLIPWAY_CONTROL_FD"
"""Environment variable with the number of the worker's end of the socket pair."""
SLOT_FD: Final = "SLIPWAY_SLOT_FD"
"""Environment variable with the number of the descriptor the worker leaves its metrics in."""
GENERATION: Final = "SLIPWAY_GENERATION"
"""Environment variable with the generation of the process: 0 at the start, one more with each reload or swap."""
LINE_BYTES: Final = 65_536
"""The longest message; a worker that sends more is not speaking this protocol."""


class ControlError(HostError):
    """The control socket does not carry what it should."""

    code = "control_invalid"


class Ready(msgspec.Struct, frozen=True, tag="ready", tag_field="says"):
    """The worker can answer requests."""


class Failed(msgspec.Struct, frozen=True, tag="failed", tag_field="says"):
    """The worker cannot start, and starting it again would not help: bad configuration, missing file."""

    message: str
    exit_status: int = 70


class Recycle(msgspec.Struct, frozen=True, tag="recycle", tag_field="says"):
    """The worker goes on, but wants to be replaced by a fresh process: its memory grew, or it is old."""

    reason: str


Message = Ready | Failed | Recycle

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


class ControlReader:
    """Cuts the bytes of one control socket into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes.

        Raises:
            ControlError: when a line is too long or is no message.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            raise ControlError(f"a control message is longer than {LINE_BYTES} bytes")
        try:
            return [_decoder.decode(line) for line in lines]
        except msgspec.MsgspecError as error:
            raise ControlError(f"a control message does not decode: {error}") from error


class WorkerControl:
    """The worker's end. It takes over the descriptor `fd`, which its own children do not inherit."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._socket.settimeout(0.0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "WorkerControl | None":
        """The end that a supervisor named in the environment; None when there is no supervisor.

        Raises:
            ControlError: when the variable names no open socket.
        """
        text = environment.get(CONTROL_FD)
        if text is None:
            return None
        try:
            return cls(int(text))
        except (ValueError, OSError) as error:
            raise ControlError(
                f"`{CONTROL_FD}` does not name an open socket: got {text!r}",
                hint="it is set by the supervisor for its own children; unset it to run a worker by hand",
            ) from error

    def ready(self) -> None:
        """Tell the supervisor that requests can be answered."""
        self._send(Ready())

    def failed(self, error: SlipwayError) -> None:
        """Tell the supervisor that this worker cannot start, and that trying again would not help."""
        self._send(Failed(str(error)[: LINE_BYTES // 8], error.exit_status))

    def recycle(self, reason: str) -> None:
        """Ask the supervisor for a successor; go on until SIGTERM, which comes when the successor is ready.

        Saying it again changes nothing: the supervisor tries until it succeeds, later when a reload or swap is running.
        """
        self._send(Recycle(reason[: LINE_BYTES // 8]))

    def watch(
        self,
        loop: asyncio.AbstractEventLoop,
        on_parent_gone: Callable[[], None],
        grace_s: float = 30.0,
    ) -> None:
        """Call `on_parent_gone` on `loop` when the supervisor is gone; once.

        The process is ended by the kernel (SIGALRM) `grace_s` seconds later if it is still there, so that a drain
        that hangs cannot leave an orphan.
        """

        def readable() -> None:
            if not self.is_parent_gone():
                return
            loop.remove_reader(self._socket.fileno())
            signal.setitimer(signal.ITIMER_REAL, grace_s)
            on_parent_gone()

        loop.add_reader(self._socket.fileno(), readable)

    def is_parent_gone(self) -> bool:
        """Whether the supervisor is gone. Does not wait."""
        try:
            return self._socket.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def wait_parent_gone(self) -> None:
        """Block until the supervisor is gone: for a thread of a worker that has no event loop."""
        self._socket.settimeout(None)
        with contextlib.suppress(OSError):
            while self._socket.recv(4096):
                pass

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _send(self, message: Message) -> None:
        # A supervisor that is gone is noticed by `watch`; a message it can no longer read is not an error here.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(_encoder.encode(message) + b"\n")


def slot_fd_from_environment(environment: Mapping[str, str]) -> int | None:
    """The descriptor that the supervisor gave this worker for its metrics; None when there is none."""
    text = environment.get(SLOT_FD)
    if text is None:
        return None
    try:
        fd = int(text)
        os.fstat(fd)
    except (ValueError, OSError) as error:
        raise ControlError(f"`{SLOT_FD}` does not name an open descriptor: got {text!r}") from error
    return fd


def generation_from_environment(environment: Mapping[str, str]) -> int:
    """The generation of this process; 0 when no supervisor started it.

    Raises:
        ControlError: when the variable is no number from 0 up.
    """
    text = environment.get(GENERATION, "0")
    if not (text.isascii() and text.isdigit()):
        raise ControlError(
            f"`{GENERATION}` is no generation: got {text!r}, expected a number from 0 up",
            hint="it is set by the supervisor for its own children; unset it to run a worker by hand",
        )
    return int(text)
