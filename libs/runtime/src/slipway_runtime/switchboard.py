"""Connections of a dispatcher: accept, wait, hear, send, part. What is said, and what follows from it, is the owner's.

The invariants: frames to one peer leave in order, together at the end of a turn; a peer that leaves more unread than
`UNSENT_BYTES`, or that does not speak the protocol, is cut off; the owner hears of each end exactly once.
"""

import logging
import math
import os
import select
import selectors
import signal
import socket
from collections.abc import Iterable
from typing import Final, Protocol

from slipway_runtime.wakeups import Wakeups
from slipway_runtime.wire.connection import FrameSocket, PeerGone
from slipway_runtime.wire.frames import Frame, WireError

__all__ = ["Owner", "Switchboard"]

logger = logging.getLogger(__name__)

EXACT_S: Final = 0.005
"""Shorter waits go through select(2), which counts microseconds; epoll counts whole milliseconds."""
UNSENT_BYTES: Final = 128 * 1024 * 1024
"""What a peer may leave unread before it is cut off."""


class Owner(Protocol):
    """Who listens."""

    def heard(self, connection: FrameSocket, frame: Frame, fds: tuple[int, ...]) -> None:
        """A frame arrived; the descriptors are the owner's."""

    def parted(self, connection: FrameSocket) -> None:
        """The connection is over and closed."""

    def signalled(self, number: signal.Signals) -> None:
        """A signal came."""


class Switchboard:
    """All connections of one listener. Not thread-safe; `wakeups` must be entered while `turn` is called.

    Args:
        listener: A listening Unix socket.
        wakeups: Signals, and calls of other threads.
        owner: Hears everything.
    """

    def __init__(self, listener: socket.socket, wakeups: Wakeups, owner: Owner) -> None:
        listener.settimeout(0.0)
        self._listener = listener
        self._wakeups = wakeups
        self._owner = owner
        self._connections: set[FrameSocket] = set()
        self._urgent: set[FrameSocket] = set()
        self._dirty: set[FrameSocket] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeups, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)

    def turn(self, timeout: float) -> None:
        """Wait up to `timeout` seconds (inf: until something happens) and tell the owner what was heard."""
        for key, mask in self._poll(timeout):
            if key.fileobj is self._wakeups:
                for number in self._wakeups.take():
                    self._owner.signalled(number)
            elif key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.fileobj, FrameSocket):
                if mask & selectors.EVENT_READ:
                    self._hear(key.fileobj)
                if mask & selectors.EVENT_WRITE:
                    self._dirty.add(key.fileobj)

    def send(
        self, connection: FrameSocket, frame: Frame, fds: tuple[int, ...] = (), *, is_urgent: bool = False
    ) -> None:
        """Say something, at the next `flush`, what is urgent first; nothing happens when the connection is over.

        Whoever hears first wakes first: on a busy machine an API worker that writes its answers would keep a free
        replica waiting for its next batch.
        """
        if not connection.is_closed:
            connection.send(frame, fds)
            (self._urgent if is_urgent else self._dirty).add(connection)

    def flush(self) -> bool:
        """Hand over what was said. Returns whether a connection ended while doing so: decide again."""
        has_parted = False
        while waiting := self._urgent or self._dirty:
            connection = waiting.pop()
            if connection.is_closed:
                continue
            try:
                is_empty = connection.flush()
            except PeerGone:
                self.part(connection)
                has_parted = True
                continue
            if not is_empty and connection.unsent_bytes > UNSENT_BYTES:
                logger.error("a connection is dropped: it leaves %d bytes unread", connection.unsent_bytes)
                self.part(connection)
                has_parted = True
                continue
            wanted = selectors.EVENT_READ if is_empty else selectors.EVENT_READ | selectors.EVENT_WRITE
            if self._selector.get_key(connection).events != wanted:
                self._selector.modify(connection, wanted)
        return has_parted

    def part(self, connection: FrameSocket) -> None:
        """End a connection; idempotent."""
        if connection.is_closed:
            return
        self._selector.unregister(connection)
        connection.close()
        self._connections.discard(connection)
        self._urgent.discard(connection)
        self._dirty.discard(connection)
        self._owner.parted(connection)

    def close(self) -> None:
        """Close every connection, without telling the owner; the listener stays open."""
        for connection in self._connections:
            connection.close()
        self._selector.close()

    def _poll(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == math.inf:
            return self._selector.select(None)
        if 0.0 < timeout < EXACT_S:
            select.select([self._selector], (), (), timeout)
            timeout = 0.0
        return self._selector.select(timeout)

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except OSError:  # it left again, or another dispatcher took it
            return
        connection = FrameSocket(connected)
        self._connections.add(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: FrameSocket) -> None:
        try:
            received = connection.receive()
        except PeerGone:
            self.part(connection)
            return
        except WireError as error:
            logger.warning("a connection is dropped: %s", error)
            self.part(connection)
            return
        for frame, fds in received:
            if connection.is_closed:
                _close_all(fds)
            else:
                self._owner.heard(connection, frame, fds)


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
