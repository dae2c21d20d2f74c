"""Routes without a service folder: real routes, handlers and stream lanes behind a real uvicorn in this process."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import httpx
import uvicorn

from slipway_serve.call import Call, HeaderPairs, current_call
from slipway_serve.concurrency import Offloader
from slipway_serve.config import LimitsConfig
from slipway_serve.connections import protocol_for
from slipway_serve.lane import Lane
from slipway_serve.routes import Route, ServerState
from slipway_serve.streams import StreamLane, StreamSource

WAIT_S: Final = 20.0


class HandMade:
    """What handlers need of an engine, made by hand: lanes and streams are given, nothing is loaded."""

    def __init__(
        self, lanes: Mapping[str, Any] | None = None, streams: Mapping[str, StreamLane] | None = None, threads: int = 2
    ) -> None:
        self.offloader = Offloader(threads, 8)
        self.lanes = lanes or {}
        self.streams = streams or {}

    def call(self, deadline: float, headers: HeaderPairs) -> Call:
        """Begin answering a request in this task."""
        call = Call(self, deadline, headers)
        current_call.set(call)
        return call

    def lane(self, model: str, /) -> Lane:
        """A lane that was given."""
        lane: Lane = self.lanes[model]
        return lane

    def stream_lane(self, model: str, /) -> StreamSource:
        """A stream lane that was given."""
        return self.streams[model]

    def resource(self, name: str, /) -> object:
        """There are none."""
        raise KeyError(name)


class Counted:
    """Metrics of requests, for tests to read."""

    def __init__(self) -> None:
        self.active = self
        self.now = 0.0
        self.begun = 0
        self.requests: list[tuple[str, int]] = []
        self._changed = threading.Condition()

    def add(self, amount: float) -> None:
        """The gauge."""
        with self._changed:
            self.now += amount
            self.begun += amount > 0
            self._changed.notify_all()

    @property
    def synthetic(self) -> "Counted":
        """Nor are those of tests and probes."""
        return self

    @property
    def repeated(self) -> "Counted":
        """Requests that come again are counted by nobody."""
        return self

    def inc(self, amount: float = 1.0) -> None:
        """Nobody reads it."""

    def exemplify(self, route: str, method: str, status: int, seconds: float, trace_id: int, span_id: int) -> None:
        """Traces are off."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered."""
        with self._changed:
            self.requests.append((route, status))
            self._changed.notify_all()

    def wait_for(self, holds: Callable[[], bool]) -> bool:
        """Wait until something holds, at most `WAIT_S`."""
        with self._changed:
            return self._changed.wait_for(holds, WAIT_S)


class Running:
    """A server on a free port in a thread of this process."""

    def __init__(self, url: str, metrics: Counted, server: uvicorn.Server) -> None:
        self.url = url
        self.metrics = metrics
        self.server = server

    def client(self) -> httpx.Client:
        """A client whose paths are relative to the server."""
        return httpx.Client(base_url=self.url, timeout=WAIT_S)

    def has_no_connections(self) -> bool:
        """Wait until every client has left or was let go."""
        return eventually(lambda: not self.server.server_state.connections)


def eventually(holds: Callable[[], bool]) -> bool:
    """Look again and again, at most `WAIT_S`: for what nobody announces."""
    deadline = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    return holds()


MakeRoutes = Callable[[ServerState], Sequence[Route]]


@contextmanager
def running_routes(make: MakeRoutes, limits: LimitsConfig | None = None) -> Iterator[Running]:
    """Serve routes for the length of a `with` block; `make` runs on the server's loop."""
    limits = limits or LimitsConfig()
    metrics = Counted()
    state = ServerState(limits, metrics)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio asks for the protocol
    listener.bind(("127.0.0.1", 0))
    listener.listen(1_024)  # now: whoever connects before the server runs waits, and is not refused
    ready = threading.Event()
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        routes = {route.template: route for route in make(state)}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await routes[scope["path"]](scope, receive, send)

        config = uvicorn.Config(
            app,
            http=protocol_for(limits),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        servers.append(uvicorn.Server(config))
        ready.set()
        await servers[0].serve([listener])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(WAIT_S)
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", metrics, servers[0])
    finally:
        servers[0].should_exit = True
        thread.join(WAIT_S)
        listener.close()
