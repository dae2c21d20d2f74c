"""The end of a worker: uvicorn's server with a drain window.

Draining keeps accepting for `drain_s` and answers with `Connection: close`, so that no client sends its next request
into a closed socket; then nobody is let in any more, who is in already is answered, and the worker stops. The
invariant: a client that could connect gets an answer, if its request arrives within `LAST_REQUEST_S`.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Final

import uvicorn

from slipway_runtime.last_call import announce_last_call, shut_door, take_waiting
from slipway_serve.connections import Connection
from slipway_serve.routes import ServerState
from slipway_signals.instruments import LoopLag

LAST_REQUEST_S: Final = 1.0
"""How long a client that was connected at the very end has for its request to arrive; nobody waits for more."""
KNOCK_S: Final = 0.01
"""A connection that the kernel was completing while the door was shut is in by then."""
LOOKS: Final = 50
"""How often it is looked, meanwhile, whether all requests have arrived."""
SWEEP_TICKS: Final = 10
"""uvicorn ticks ten times a second; slow clients are looked for once."""


class DrainingServer(uvicorn.Server):
    """uvicorn's server with a drain window, a sweep for slow clients, and an eye on its own loop."""

    def __init__(
        self,
        config: uvicorn.Config,
        connection: type[Connection],
        state: ServerState,
        drain_s: float,
        on_started: Callable[[], None],
        lag: LoopLag,
    ) -> None:
        super().__init__(config)
        self._state = state
        self._connection = connection
        self._drain_s = drain_s
        self._on_started = on_started
        self._lag = lag
        self.on_drain: Callable[[], None] = _nothing
        """Called once, when draining begins."""
        self.on_second: list[Callable[[], None]] = []
        """Called about once a second."""
        self._exit_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then report ready."""
        await super().startup(sockets)
        self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: stop now."""
        if self._exit_at is not None:
            super().handle_exit(sig, frame)
        else:
            self.begin_drain()

    def begin_drain(self) -> None:
        """Keep answering, but ask clients to go; exit when the window is over."""
        self._state.is_draining = True
        self.on_drain()
        self._exit_at = time.monotonic() + self._drain_s

    def leave_for_good(self, listening: Sequence[socket.socket]) -> None:
        """Drain although nobody said so: the supervisor is gone, and nobody follows on these sockets."""
        for each in listening:
            announce_last_call(each)
        self.begin_drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer who was connected by then, close."""
        await self._take_last(sockets or [])
        await super().shutdown(sockets)

    async def _take_last(self, sockets: list[socket.socket]) -> None:
        """Accept what the kernel has already connected: closing the socket first would reset those clients."""
        loop = asyncio.get_running_loop()
        for listening in sockets:
            shut_door(listening)
        await asyncio.sleep(KNOCK_S)
        last = [listening.dup() for listening in sockets]
        for server in self.servers:
            server.close()
        waiting: list[socket.socket] = []
        for listening in last:
            with listening:
                waiting += take_waiting(listening)
        connect = partial(loop.connect_accepted_socket, self._protocol, ssl=self.config.ssl)
        with contextlib.suppress(TimeoutError):  # TLS takes its time, and may never come about
            async with asyncio.timeout(LAST_REQUEST_S):
                await asyncio.gather(*map(connect, waiting), return_exceptions=True)
        for _ in range(LOOKS):
            if self.force_exit or not any(map(_is_awaited, self.server_state.connections)):
                break
            await asyncio.sleep(LAST_REQUEST_S / LOOKS)

    def _protocol(self) -> Connection:
        return self._connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: see how late it is, sweep slow clients, and leave when the drain window is over."""
        self._lag.ticked(time.monotonic())
        if counter % SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.sweep(now)
            for call in self.on_second:
                call()
        if self._exit_at is not None and time.monotonic() >= self._exit_at:
            return True
        return await super().on_tick(counter)


def _is_awaited(connection: object) -> bool:
    return isinstance(connection, Connection) and connection.is_awaited


def _nothing() -> None:
    """No gRPC server has to be told."""
