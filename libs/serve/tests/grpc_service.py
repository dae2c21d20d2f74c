"""A server of both protocols in this process: what the tests of gRPC and of the remote lane talk to."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import uvicorn
import uvloop
from web_service import started

from slipway_runtime.tally import PoolStatistics
from slipway_serve.app import create_app
from slipway_serve.engine import Engine
from slipway_serve.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from slipway_serve.oip.server import GrpcServer, start_grpc
from slipway_serve.routes import ServerState

WAIT_S = 30.0


class Active:
    """How many requests are being answered now."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float) -> None:
        """Change it."""
        self.value += amount

    def inc(self, amount: float = 1.0) -> None:
        """The same, of a number that only grows."""
        self.value += amount


class Kept:
    """Metrics that a test can look at and wait for."""

    def __init__(self) -> None:
        self.active = Active()
        self.repeated = Active()
        self.synthetic = Active()
        self.requests: list[tuple[str, str, int]] = []
        self._changed = threading.Condition()

    def exemplify(self, route: str, method: str, status: int, seconds: float, trace_id: int, span_id: int) -> None:
        """Traces are off."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Keep all but the time."""
        with self._changed:
            self.requests.append((route, method, status))
            self._changed.notify_all()

    def wait_for(self, request: tuple[str, str, int]) -> bool:
        """Whether such a request was counted within WAIT_S seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: request in self.requests, WAIT_S)


class BothProtocols:
    """A running server."""

    def __init__(
        self, engines: list[Engine], state: ServerState, metrics: Kept, server: GrpcServer, rest_port: int
    ) -> None:
        self.engines = engines
        self.state = state
        self.metrics = metrics
        self.server = server
        self.address = f"127.0.0.1:{server.port}"
        self.rest = f"127.0.0.1:{rest_port}"
        self.loop = asyncio.get_running_loop()

    def client(self) -> httpx.Client:
        """A client of REST."""
        return httpx.Client(base_url=f"http://{self.rest}", timeout=WAIT_S)

    def queued(self, model: str) -> int:
        """How many requests wait in a model's queue."""
        return self.statistics(model).queue.tickets

    def statistics(self, model: str) -> PoolStatistics:
        """What the pool of a model holds."""
        pool: Any = self.engines[0].lane(model).pool  # in process, it has statistics
        statistics: PoolStatistics = self.call(pool.statistics)
        return statistics

    def call(self, work: Callable[[], Any]) -> Any:
        """Run a function, or a coroutine function, on the server's loop, and wait for it."""

        async def run() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)


@contextlib.contextmanager
def both_protocols(*folders: Path, rest_port: int = 0, grpc_port: int = 0) -> Iterator[BothProtocols]:
    """Serve folders over REST and gRPC for the length of a `with` block: real engines, real servers, one loop."""
    ready = threading.Event()
    made: list[BothProtocols] = []
    failed: list[BaseException] = []
    listener = socket.create_server(("127.0.0.1", rest_port))

    async def serve() -> None:
        engines = [await started(folder) for folder in folders]
        limits = engines[0].config.limits
        metrics = Kept()
        state = ServerState(limits, metrics)
        app = create_app(engines, state)
        web = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
        server = await start_grpc(engines, state, host="127.0.0.1", port=grpc_port, limits=limits)
        made.append(BothProtocols(engines, state, metrics, server, listener.getsockname()[1]))
        webs.append(web)
        ready.set()
        await web.serve([listener])
        await server.drain(0)
        for engine in engines:
            await engine.stop()

    webs: list[uvicorn.Server] = []

    def work() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:  # noqa: BLE001  # shown to the test
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(2 * WAIT_S)
    if failed:
        listener.close()
        raise failed[0]
    try:
        yield made[0]
    finally:
        webs[0].should_exit = True
        thread.join(WAIT_S)
        listener.close()
    if failed:
        raise failed[0]


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for at most WAIT_S seconds."""
    ends = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends, "it did not become true in time"


@contextlib.contextmanager
def stub_of(address: str, **options: int) -> Iterator[Any]:
    """The generated stub; typed Any, because grpcio-tools generates no types for it."""
    settings = [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.insecure_channel(address, options=settings) as channel:
        yield GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated without types


COLUMNS: dict[str, tuple[str, Any]] = {
    "ratio": ("FP32", np.array([0.25, 0.5], np.float32)),
    "income": ("FP32", np.array([np.nan, 7], np.float32)),
    "count": ("INT64", np.array([3, 4])),
    "on": ("BOOL", np.array([True, False])),
    "word": ("BYTES", np.array(["héllo", ""], np.object_)),
    "blob": ("BYTES", np.array([b"\xff\0", b""], np.object_)),
    "kind": ("BYTES", np.array(["small", "large"], np.object_)),
    "colour": ("BYTES", np.array(["blue", "red"], np.object_)),
    "place.lat": ("FP32", np.array([1.5, -1.5], np.float32)),
    "place.lon": ("FP32", np.array([2.5, 2.5], np.float32)),
    "trio": ("FP32", np.ones((2, 3), np.float32)),
    "grid": ("FP32", np.arange(12, dtype=np.float32).reshape(2, 2, 3)),
}
"""Two good rows of the service with every kind of field: name → datatype, array."""
