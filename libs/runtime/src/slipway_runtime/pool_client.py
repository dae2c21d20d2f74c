"""An API worker's connection to the dispatcher: tickets out, last words in, and again after the dispatcher died.

It decides nothing about tickets (`pooled_lane` does) and looks into no payload. The invariants: every ticket is kept,
payload and all, until the dispatcher's last word about it, so a dispatcher that dies loses nothing; a place in this
worker's slab is written again only after that word, because a runner may read it until then; a result in a runner's
slab is copied once, at arrival, and released at once.

Tickets of one turn of the event loop leave in one frame for each line. After a lost connection everything outstanding
is submitted again, in order, with the same numbers; what nobody waits for is forgotten then, because the new
dispatcher never heard of it. (A runner of the old one may still be reading it, but what it computes goes nowhere.)
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, cast

from slipway_runtime.dispatch.spec import PoolSpec
from slipway_runtime.errors import Unreachable
from slipway_runtime.observer import Observer
from slipway_runtime.pooled_lane import Buffer, Outstanding, PooledLane
from slipway_runtime.request import Limits
from slipway_runtime.wire.connection import FrameSocket, PeerGone, Received, close_descriptors, connect_to
from slipway_runtime.wire.frames import (
    INLINE_BYTES,
    Answered,
    Attach,
    Cancel,
    DropSlab,
    Place,
    Rejected,
    Release,
    ShareSlab,
    Submit,
    SubmittedTicket,
    WireError,
)
from slipway_runtime.wire.slab import SLAB_BYTES, Slab, SlabView

__all__ = ["PoolClient"]

logger = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.020
LONGEST_RETRY_S: Final = 0.500
SUBMIT_BYTES: Final = 1024 * 1024
"""Inline payload of one frame; more leaves in several, so that no frame comes near its limit."""
BARREN_TURNS: Final = 3
"""A request that is ready to be read needs two turns of the loop: the read, then the step of its task."""
GATHER_S: Final = 0.002
"""The longest that a request is held back for others: a busy loop could go on bringing somebody for ever."""
_ALL_HERE: Final = 0.95
"""Share of the crowd that counts as everybody."""
_FORGET: Final = 0.9
"""What is left of the crowd after a flush that saw fewer."""
_BYTES_A_TICKET: Final = 64
"""What a ticket weighs besides its payload, about."""

_Line = tuple[str, str, bytes]


class PoolClient:
    """Connects to the dispatcher at `path` and hands out one lane for each model of its pools.

    Everything runs on the event loop of who calls `connect`; asyncio's own or uvloop.

    Args:
        path: The dispatcher's Unix socket.
        name: This worker's name, for the dispatcher's log and statistics.
        pools: The pools this worker will use.
        slab_bytes: Capacity of the shared memory for payloads above `INLINE_BYTES`.
        clock: Monotonic seconds, the same in all processes of this host.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str,
        pools: Sequence[PoolSpec],
        slab_bytes: int = SLAB_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._name = name
        self._pools = tuple(pools)
        self._clock = clock
        self._slab = Slab(slab_bytes)
        self._lanes: dict[tuple[str, str], PooledLane] = {}
        self._ids = count(1)
        self._outstanding: dict[int, Outstanding] = {}  # in order of submission
        self._fresh: list[Outstanding] = []  # of this turn of the loop
        self._cancels: list[int] = []
        self._releases: list[tuple[int, int]] = []
        self._views: dict[int, SlabView] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: FrameSocket | None = None
        self._connected: asyncio.Event = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = FIRST_RETRY_S
        self._is_flushing = False
        self._barren = 0  # turns of the loop in a row that brought nobody
        self._gathered = 0
        self._gather_until = 0.0
        self._crowd = 0.0  # how many tickets were outstanding at once, lately
        self._is_writing = False
        self._is_closed = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection; a dispatcher that died a moment ago may not have been noticed yet."""
        return self._connection is not None

    @property
    def outstanding(self) -> int:
        """Tickets about which the dispatcher has not said its last word."""
        return len(self._outstanding)

    @property
    def slab_used_bytes(self) -> int:
        """Shared memory in use by payloads."""
        return self._slab.used_bytes

    async def connect(self, timeout_s: float) -> None:
        """Connect, and stay connected from now on. Blocks up to `timeout_s` seconds.

        Raises:
            Unreachable: nobody listened within that time; the client is closed.
        """
        self._loop = asyncio.get_running_loop()
        self._try_connect()
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError as error:
            await self.close()
            raise Unreachable(self._path, timeout_s) from error

    def line(
        self,
        pool: str,
        model: str,
        *,
        limits: Limits,
        decode: Callable[[bytes], object],
        observer: Observer | None = None,
    ) -> PooledLane:
        """The lane of one model, for all of its keys; once for each model of each pool.

        Args:
            pool: Wire name of one of the `pools`.
            model: The model's name.
            limits: `max_rows` as the pool's, `max_queued_rows` for this worker alone.
            decode: Bytes of a result → the result, on the event loop.
            observer: Told of the lane's events.
        """
        if (pool, model) in self._lanes:
            raise ValueError(f"this is a bug in slipway: a second lane for model {model!r} of pool {pool!r}")
        lane = self._lanes[pool, model] = PooledLane(
            pool, model, limits=limits, decode=decode, observer=observer, carrier=self, clock=self._clock
        )
        return lane

    def carry(
        self, lane: PooledLane, payload: Buffer, rows: int, deadline: float, now: float, key: bytes
    ) -> Outstanding | None:
        """Send a ticket with the others of this turn of the loop; None when there is no room for its payload. HOT."""
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        blob: bytes | Place | None = bytes(payload) if size <= INLINE_BYTES else self._slab.write(payload)
        if blob is None:
            return None
        number = next(self._ids)
        ticket = Outstanding(
            payload=b"", rows=rows, deadline=deadline, arrived=now, id=number, lane=lane, key=key, blob=blob
        )
        self._outstanding[number] = ticket
        if self._connection is not None:
            self._fresh.append(ticket)
            self._flush_soon()
        return ticket

    def withdraw(self, ticket: Outstanding) -> None:
        """Nobody waits for it any more: tell the dispatcher, if it knows of it."""
        if not ticket.is_sent:
            self._forget(ticket)
        elif ticket.id in self._outstanding:
            self._cancels.append(ticket.id)
            self._flush_soon()

    async def close(self) -> None:
        """Give up: whoever still waits gets DeadlineExceeded. Idempotent. Drain the lanes first."""
        self._is_closed = True
        for lane in self._lanes.values():
            await lane.drain(0.0)
        if self._retry is not None:
            self._retry.cancel()
        self._flush()  # the cancellations of those that were given up
        self._disconnect()
        self._slab.close()

    def _try_connect(self) -> None:
        self._retry = None
        try:
            self._connection = connection = connect_to(self._path)
        except OSError as error:
            logger.info("dispatcher_unreachable", extra={"path": self._path, "why": str(error)})
            self._retry_later()
            return
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        connection.send(Attach(self._name, os.getpid(), self._pools, self._slab.capacity), fds=(self._slab.fileno(),))
        self._fresh = list(self._outstanding.values())
        loop.add_reader(connection.fileno(), self._readable)
        self._connected.set()
        self._flush()

    def _retry_later(self) -> None:
        if self._is_closed or self._retry is not None:
            return
        self._retry = cast("asyncio.AbstractEventLoop", self._loop).call_later(self._retry_s, self._try_connect)
        self._retry_s = min(2.0 * self._retry_s, LONGEST_RETRY_S)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        loop.remove_reader(connection.fileno())
        if self._is_writing:
            loop.remove_writer(connection.fileno())
            self._is_writing = False
        connection.close()
        self._connected.clear()
        self._views.clear()
        self._cancels.clear()
        self._releases.clear()
        self._fresh.clear()
        for ticket in list(self._outstanding.values()):
            ticket.is_sent = False
            if ticket.is_over:
                self._forget(ticket)

    def _lost(self, error: Exception) -> None:
        logger.warning("dispatcher_lost", extra={"why": str(error), "outstanding": len(self._outstanding)})
        self._disconnect()
        self._retry_later()

    def _forget(self, ticket: Outstanding) -> None:
        """The last word about a ticket: its place may be written again."""
        if self._outstanding.pop(ticket.id, None) is None:
            return
        if isinstance(ticket.blob, Place):
            self._slab.free(ticket.blob.offset)
        ticket.blob = b""
        ticket.lane.forgotten(ticket)

    def _flush_soon(self) -> None:
        if not self._is_flushing and self._connection is not None:
            self._is_flushing = True
            self._barren, self._gathered = 0, 0
            self._gather_until = self._clock() + GATHER_S
            cast("asyncio.AbstractEventLoop", self._loop).call_soon(self._gather)

    def _gather(self) -> None:
        """Flush, or let the loop read what else is ready first: a frame costs the dispatcher a wake-up.

        Nobody is waited for who was not here lately, so a single client is never held up; and a few turns of the loop
        without anybody new end it.
        """
        if len(self._fresh) > self._gathered:
            self._gathered = len(self._fresh)
            self._barren = 0
        else:
            self._barren += 1
        present = len(self._outstanding)
        is_late = self._clock() >= self._gather_until
        if is_late or present >= _ALL_HERE * self._crowd or self._barren > BARREN_TURNS:
            self._crowd = max(present, _FORGET * self._crowd)
            self._flush()
        else:
            cast("asyncio.AbstractEventLoop", self._loop).call_soon(self._gather)

    def _flush(self) -> None:
        self._is_flushing = False
        connection = self._connection
        if connection is None:
            return
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._submit(connection, fresh)
        if self._cancels:
            connection.send(Cancel(self._cancels))
            self._cancels = []
        if self._releases:
            connection.send(Release(self._releases))
            self._releases = []
        self._write()

    def _submit(self, connection: FrameSocket, tickets: list[Outstanding]) -> None:
        lines: dict[_Line, list[SubmittedTicket]] = {}
        sizes: dict[_Line, int] = {}
        for ticket in tickets:
            if ticket.is_over or cast("asyncio.Future[object]", ticket.future).cancelled():
                continue  # cancelled in this very turn: its callback comes later, and forgets it
            ticket.is_sent = True
            blob = ticket.blob
            line = (ticket.lane.pool, ticket.lane.name, ticket.key)
            ready = lines.get(line)
            if ready is None:
                ready = lines[line] = []
                sizes[line] = 0
            ready.append(SubmittedTicket(ticket.id, ticket.rows, ticket.deadline, blob))
            sizes[line] += _BYTES_A_TICKET + (len(blob) if isinstance(blob, bytes) else 0)
            if sizes[line] >= SUBMIT_BYTES:
                connection.send(Submit(*line, ready))
                del lines[line], sizes[line]
        for line, ready in lines.items():
            connection.send(Submit(*line, ready))

    def _write(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            is_empty = connection.flush()
        except PeerGone:
            return  # `_readable` takes what it said last, then hears the same
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        if is_empty and self._is_writing:
            loop.remove_writer(connection.fileno())
            self._is_writing = False
        elif not is_empty and not self._is_writing:
            loop.add_writer(connection.fileno(), self._write)
            self._is_writing = True

    def _readable(self) -> None:
        received: list[Received] = []
        taken = 0
        try:
            received = cast("FrameSocket", self._connection).receive()
            if received:
                self._retry_s = FIRST_RETRY_S
            for one in received:
                taken += 1
                self._take(one)
        except (PeerGone, WireError) as error:
            close_descriptors(received[taken:])
            self._lost(error)

    def _take(self, received: Received) -> None:
        frame = received.frame
        if isinstance(frame, Answered):
            self._answered(frame)
        elif isinstance(frame, Rejected):
            for word in frame.tickets:
                ticket = self._outstanding.get(word.id)
                if ticket is not None:
                    self._forget(ticket)
                    ticket.lane.rejected(ticket, word)
        elif isinstance(frame, ShareSlab):
            self._views[frame.slab] = SlabView(received.fds[0], frame.slab_bytes)
        elif isinstance(frame, DropSlab):
            self._views.pop(frame.slab, None)
        else:
            close_descriptors([received])
            raise WireError(f"a dispatcher said what only others say: {type(frame).__name__}")

    def _answered(self, frame: Answered) -> None:
        tickets = [ticket for number in frame.ids if (ticket := self._outstanding.get(number)) is not None]
        if not tickets or len(tickets) < len(frame.ids):  # whose rows come before whose is not known then
            raise WireError(f"a dispatcher answered what it had answered before, or was never asked: {frame.ids}")
        is_awaited = not all(ticket.is_over for ticket in tickets)
        place = frame.result
        blob = b""
        if isinstance(place, bytes):
            blob = place
        else:
            if is_awaited:
                blob = self._copy(frame.slab, place)
            self._releases.append((frame.slab, place.offset))
            self._flush_soon()
        for ticket in tickets:
            self._forget(ticket)
        if is_awaited:
            tickets[0].lane.answered(tickets, blob, frame)

    def _copy(self, slab: int, place: Place) -> bytes:
        view = self._views.get(slab)
        if view is None:
            raise WireError(f"a result lies in slab {slab}, which was never shared")
        with view.read(place) as memory:
            return bytes(memory)
