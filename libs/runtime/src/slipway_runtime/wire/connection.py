"""One end of a connection: frames and descriptors in, frames and descriptors out, over a non-blocking Unix socket.

It waits for nothing and knows no event loop: its three owners do (a selector, asyncio, `select`). The invariants:
frames arrive whole and in order; a descriptor arrives with the frame that announced it and belongs to who receives it;
what never reaches a receiver is closed. One `recvmsg` and no allocation per `receive`; frames that are sent before a
`flush` leave in one system call, except that a frame with a descriptor begins a new one, because the kernel hands a
descriptor over with the first byte of the call that sent it (unix(7)).
"""

import array
import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from slipway_bundle.errors import HostError
from slipway_runtime.wire.frames import (
    HEADER,
    MAX_FRAME_BYTES,
    Frame,
    WireError,
    decode_frame,
    descriptors_of,
    encode_into,
)

__all__ = ["FrameSocket", "PeerGone", "Received", "close_descriptors", "connect_to"]

RECEIVE_BYTES: Final = 256 * 1024
"""Most bytes of one `receive`; what a socket of default size holds."""
_MOST_DESCRIPTORS: Final = 16
"""That may arrive in one call, or wait for the frame that announced them."""
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
_CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class PeerGone(HostError):
    """The other end of the connection is closed; what it sent before has been received."""

    code = "peer_gone"


class Received(NamedTuple):
    """One frame, and the descriptors that came with it; whoever gets it must close them."""

    frame: Frame
    fds: tuple[int, ...]


class _Segment:
    """Bytes that leave together, their descriptors with the first of them."""

    __slots__ = ("data", "fds")

    def __init__(self, fds: tuple[int, ...]) -> None:
        self.data = bytearray()
        self.fds = fds


class FrameSocket:
    """Frames over a connected Unix stream socket, which it takes over. Not thread-safe: one owner."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(0.0)
        self._socket = connected
        self._out: deque[_Segment] = deque()
        self._in = bytearray(RECEIVE_BYTES)
        self._start = 0  # of what is not parsed yet
        self._end = 0
        self._waiting_fds: deque[int] = deque()
        self.is_closed = False

    def fileno(self) -> int:
        """For a selector; -1 when closed."""
        return self._socket.fileno()

    @property
    def unsent_bytes(self) -> int:
        """What `flush` has not yet handed to the kernel: more than a few megabytes means that nobody reads."""
        return sum(len(segment.data) for segment in self._out)

    def send(self, frame: Frame, fds: Sequence[int] = ()) -> None:
        """Queue a frame; `flush` sends it. The descriptors are duplicated: the caller may close its own at once.

        Raises:
            WireError: when the frame is too long; nothing of it was queued.
        """
        if len(fds) != descriptors_of(frame):
            raise ValueError(
                f"this is a bug in slipway: {type(frame).__name__} travels with {descriptors_of(frame)} descriptors, "
                f"got {len(fds)}"
            )
        if fds or not self._out:
            segment = _Segment(())
            encode_into(frame, segment.data)
            segment.fds = tuple(os.dup(fd) for fd in fds)
            self._out.append(segment)
        else:
            encode_into(frame, self._out[-1].data)

    def flush(self) -> bool:
        """Hand the kernel what it takes now.

        Returns:
            Whether nothing is left; when not, call again when the socket is writable.

        Raises:
            PeerGone: when nobody can receive any more. What was received before can still be read.
        """
        out = self._out
        while out:
            segment = out[0]
            try:
                if segment.fds:
                    sent = socket.send_fds(self._socket, [segment.data], list(segment.fds))
                    _close_all(segment.fds)
                    segment.fds = ()
                else:
                    sent = self._socket.send(segment.data)
            except BlockingIOError:
                return False
            except OSError as error:
                raise PeerGone(f"the other end of the connection is closed: {error}") from error
            if sent == len(segment.data):
                out.popleft()
            else:
                del segment.data[:sent]  # in place: the front of a bytearray is dropped without copying
        return True

    def receive(self) -> list[Received]:
        """The frames that one read completes; empty when none is complete. Does not wait.

        Call it again when the socket is readable: at most `RECEIVE_BYTES` are read.

        Raises:
            PeerGone: at the end of the stream.
            WireError: when the other end does not speak this protocol; the connection is of no more use.
        """
        try:
            count, ancillary, flags, _ = self._socket.recvmsg_into(
                [memoryview(self._in)[self._end : self._end + RECEIVE_BYTES]], _ANCILLARY_BYTES, _CLOSE_ON_EXEC
            )
        except BlockingIOError:
            return []
        except OSError as error:
            raise PeerGone(f"the other end of the connection is closed: {error}") from error
        if ancillary:
            self._take_descriptors(ancillary)
        if flags & socket.MSG_CTRUNC or len(self._waiting_fds) > _MOST_DESCRIPTORS:
            raise WireError(
                f"descriptors were lost: more than {_MOST_DESCRIPTORS} came unannounced, or no more can be opened here",
                hint="`ulimit -n` says how many a process may open",
            )
        if not count:
            raise PeerGone("the other end of the connection is closed")
        self._end += count
        return self._parse()

    def close(self) -> None:
        """Close the socket and every descriptor that is still on its way, in either direction. Idempotent."""
        self.is_closed = True
        self._socket.close()
        _close_all(self._waiting_fds)
        self._waiting_fds.clear()
        for segment in self._out:
            _close_all(segment.fds)
        self._out.clear()

    def _take_descriptors(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self._waiting_fds.extend(fds)
                if not _CLOSE_ON_EXEC:
                    for fd in fds:
                        os.set_inheritable(fd, False)  # noqa: FBT003 - it takes no keywords

    def _parse(self) -> list[Received]:
        received: list[Received] = []
        start, end = self._start, self._end
        whole = memoryview(self._in)
        missing = 0
        try:
            while end - start >= HEADER.size:
                size = _size_at(whole, start)
                body = start + HEADER.size
                if end - body < size:
                    missing = size
                    break
                received.append(self._with_descriptors(decode_frame(whole[body : body + size])))
                start = body + size
        except WireError:
            close_descriptors(received)
            raise
        self._start = start
        self._make_room(missing)
        return received

    def _with_descriptors(self, frame: Frame) -> Received:
        wanted = descriptors_of(frame)
        if not wanted:
            return Received(frame, ())
        if len(self._waiting_fds) < wanted:
            raise WireError(f"a frame came without its descriptor: {type(frame).__name__}")
        return Received(frame, tuple(self._waiting_fds.popleft() for _ in range(wanted)))

    def _make_room(self, size: int) -> None:
        """Move what is left to the front, or into a buffer that holds a frame of `size` bytes when it grows into it."""
        left = self._end - self._start
        capacity = len(self._in)
        if not left:
            if capacity > RECEIVE_BYTES:
                self._in = bytearray(RECEIVE_BYTES)
        elif left + RECEIVE_BYTES // 2 > capacity:
            # Doubled as bytes come, not allocated as announced: a length alone costs the other end nothing.
            grown = bytearray(min(2 * capacity, max(size + HEADER.size, RECEIVE_BYTES) + RECEIVE_BYTES))
            grown[:left] = memoryview(self._in)[self._start : self._end]
            self._in = grown
        elif self._start:
            self._in[:left] = self._in[self._start : self._end]
        self._start, self._end = 0, left


def connect_to(path: str) -> FrameSocket:
    """A connection to whoever listens at `path`. Does not wait.

    Raises:
        OSError: when nobody listens there, or (BlockingIOError) its backlog is full.
    """
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unix.settimeout(0.0)
        unix.connect(path)
    except OSError:
        unix.close()
        raise
    return FrameSocket(unix)


def close_descriptors(received: Iterable[Received]) -> None:
    """Close what came with frames that nobody will look at."""
    for one in received:
        _close_all(one.fds)


def _size_at(whole: memoryview, start: int) -> int:
    size: int = HEADER.unpack_from(whole, start)[0]
    if size > MAX_FRAME_BYTES:
        raise WireError(f"a frame is too long: expected at most {MAX_FRAME_BYTES} bytes, got {size}")
    return size


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
