"""The other end of a wire, for tests of who speaks to a dispatcher: a peer that says what a test tells it to say.

Run as a program (`python runtime_wire_fakes.py FD`) it is a dispatcher that answers every ticket with its own payload,
in a process that can be killed.
"""

import asyncio
import select
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from slipway_runtime import Answer, Limits, Observer
from slipway_runtime.dispatch.spec import ModelSpec, PoolSpec
from slipway_runtime.pool_client import PoolClient
from slipway_runtime.pooled_lane import PooledLane
from slipway_runtime.wire.connection import FrameSocket, PeerGone
from slipway_runtime.wire.frames import (
    Answered,
    Attach,
    Frame,
    Place,
    Rejected,
    RejectedTicket,
    Submit,
    SubmittedTicket,
)
from slipway_runtime.wire.slab import Slab, SlabView

DEADLINE_S = 30.0
"""A test that waits longer than this for anything has failed."""
POOL = PoolSpec(name="service/pool@0", models=(ModelSpec(name="churn"), ModelSpec(name="other")))

AnyFrame = TypeVar("AnyFrame", bound=Frame)


@contextmanager
def listening() -> Iterator[tuple[str, socket.socket]]:
    """A path and the socket that listens there; the path is short, as Unix sockets need."""
    with tempfile.TemporaryDirectory(prefix="slw") as folder:
        path = str(Path(folder) / "d")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(16)
            listener.setblocking(False)
            yield path, listener


def pair() -> tuple[FrameSocket, socket.socket]:
    """A frame socket, and the raw other end."""
    here, there = socket.socketpair()
    return FrameSocket(here), there


def frame_pair() -> tuple[FrameSocket, FrameSocket]:
    here, there = socket.socketpair()
    return FrameSocket(here), FrameSocket(there)


def receive_all(wire: FrameSocket) -> list[tuple[Frame, tuple[int, ...]]]:
    """What has arrived until nothing more is there."""
    frames: list[tuple[Frame, tuple[int, ...]]] = []
    while select.select([wire], [], [], 0)[0]:
        frames += wire.receive()
    return frames


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


class Peer:
    """One accepted connection; waits by `select`."""

    def __init__(self, connected: socket.socket) -> None:
        self.wire = FrameSocket(connected)
        self.frames: deque[tuple[Frame, tuple[int, ...]]] = deque()

    def say(self, frame: Frame, fds: Sequence[int] = ()) -> None:
        self.wire.send(frame, fds)
        while not self.wire.flush():
            select.select([], [self.wire], [], DEADLINE_S)

    def hear(self, kind: type[AnyFrame]) -> AnyFrame:
        """The next frame, which must be of this kind."""
        return self.hear_with_fds(kind)[0]

    def hear_with_fds(self, kind: type[AnyFrame]) -> tuple[AnyFrame, tuple[int, ...]]:
        while not self.frames:
            assert select.select([self.wire], [], [], DEADLINE_S)[0], f"no {kind.__name__} came"
            self.frames += self.wire.receive()
        frame, fds = self.frames.popleft()
        assert isinstance(frame, kind), f"expected {kind.__name__}, got {frame}"
        return frame, fds

    def hear_the_end(self) -> None:
        """Wait until the other end is gone; it must have said nothing more."""
        try:
            while select.select([self.wire], [], [], DEADLINE_S)[0]:
                self.frames += self.wire.receive()
                assert not self.frames, f"expected the end, got {self.frames}"
        except PeerGone:
            return
        raise AssertionError("the other end stayed")

    def close(self) -> None:
        self.wire.close()


def accept(listener: socket.socket) -> Peer:
    assert select.select([listener], [], [], DEADLINE_S)[0], "nobody connected"
    return Peer(listener.accept()[0])


class LoopPeer(Peer):
    """The same on an event loop, beside the client under test."""

    slab: SlabView | None = None

    async def next(self, kind: type[AnyFrame]) -> AnyFrame:
        async with asyncio.timeout(DEADLINE_S):
            while not self.frames:
                await readable(self.wire.fileno())
                self.frames += self.wire.receive()
        return self.hear(kind)

    async def attached(self) -> Attach:
        await readable_soon(self.wire.fileno())
        attach, fds = self.hear_with_fds(Attach)
        self.slab = SlabView(fds[0], attach.slab_bytes)
        return attach

    async def submitted(self) -> list[SubmittedTicket]:
        return (await self.next(Submit)).tickets

    def payload(self, ticket: SubmittedTicket) -> bytes:
        if isinstance(ticket.payload, Place):
            assert self.slab is not None
            return bytes(self.slab.read(ticket.payload))
        return ticket.payload

    def answer(self, *tickets: SubmittedTicket, result: bytes = b"ok") -> None:
        self.say(Answered([ticket.id for ticket in tickets], result))

    def reject(
        self, ticket: SubmittedTicket, code: str, message: str = "", number: float = 0.0, kind: str = ""
    ) -> None:
        self.say(Rejected([RejectedTicket(ticket.id, code, message, number, kind)]))

    def is_silent(self) -> bool:
        """Nothing has come that was not looked at."""
        self.frames += receive_all(self.wire)
        return not self.frames


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()

    def ring() -> None:
        loop.remove_reader(fd)
        if not came.done():
            came.set_result(None)

    loop.add_reader(fd, ring)
    await came


async def readable_soon(fd: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await readable(fd)


async def turns(count: int = 3) -> None:
    """Let the event loop do what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


class Station:
    """A client, its lane, and the dispatcher's end of their connection, on one event loop."""

    def __init__(self, path: str, listener: socket.socket, slab_bytes: int) -> None:
        self.listener = listener
        self.client = PoolClient(path, name="worker-1", pools=[POOL], slab_bytes=slab_bytes)
        self.loop = asyncio.get_running_loop()
        self.peer: LoopPeer = None  # type: ignore[assignment]  # there once `accept` was awaited

    async def accept(self) -> LoopPeer:
        await readable_soon(self.listener.fileno())
        self.peer = LoopPeer(self.listener.accept()[0])
        await self.peer.attached()
        return self.peer

    async def break_off(self) -> None:
        """Close the dispatcher's end; returns when the client has noticed."""
        old = self.client._connection
        self.peer.close()
        async with asyncio.timeout(DEADLINE_S):
            while self.client._connection is old:
                await turns(1)

    def lane(self, model: str = "churn", observer: Observer | None = None, **limits: Any) -> PooledLane:
        return self.client.line(POOL.name, model, limits=Limits(**limits), decode=bytes, observer=observer)

    def later(self, seconds: float) -> float:
        """A deadline."""
        return asyncio.get_running_loop().time() + seconds


def at_station(
    main: Callable[[Station], Coroutine[Any, Any, None]],
    *,
    slab_bytes: int = 1 << 20,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run `main` with a connected client; nothing may be lost or left in shared memory when it ends."""

    async def run() -> None:
        with listening() as (path, listener):
            station = Station(path, listener, slab_bytes)
            await station.client.connect(DEADLINE_S)
            await station.accept()
            await main(station)
            await station.client.close()
            assert station.client.outstanding == 0
            assert station.client.slab_used_bytes == 0
            station.peer.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


async def result_of(future: "asyncio.Future[Answer]") -> Answer:
    async with asyncio.timeout(DEADLINE_S):
        return await future


def result_slab(*contents: bytes) -> tuple[Slab, list[Place]]:
    """A runner's slab with these results in it."""
    slab = Slab(1 << 20)
    places = [slab.write(content) for content in contents]
    return slab, [place for place in places if place is not None]


def serve_echoes(listener: socket.socket) -> None:
    """Answer every ticket with its own payload, for one worker after the other, for ever."""
    while True:
        peer = accept(listener)
        attach, fds = peer.hear_with_fds(Attach)
        slab = SlabView(fds[0], attach.slab_bytes)
        try:
            while True:
                for ticket in peer.hear(Submit).tickets:
                    blob = ticket.payload
                    peer.say(Answered([ticket.id], bytes(slab.read(blob)) if isinstance(blob, Place) else blob))
        except PeerGone:
            peer.close()


if __name__ == "__main__":
    serve_echoes(socket.socket(fileno=int(sys.argv[1])))
