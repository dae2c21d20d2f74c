"""Where the time of a request goes: each stage of the hot path alone, then the whole, over the bench's service.

    .venv/bin/python benchmarks/stages.py        # after benchmarks/setup.sh --small

The stages run in one process on one event loop (uvloop) without sockets, 64 requests at a time, best of 15 rounds; what
uvicorn and the kernel add is the difference to `cpu µs/req` of benchmarks/serving.py.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from slipway_bundle import load_service, open_folder
from slipway_serve.app import create_app
from slipway_serve.computation import Computation
from slipway_serve.config import load_runtime
from slipway_serve.engine import Engine
from slipway_serve.handlers import RowHandler
from slipway_serve.lane import Outputs
from slipway_serve.routes import Asked, ServerState
from slipway_signals import ServiceMetrics, Slots

FOLDER = Path(__file__).parent / "service"
TOGETHER = 64
ROUNDS = 15
REPEATS = 10
BODY = b"{" + b",".join(b'"f%d":%.4f' % (n, 0.1257 * n - 1.1) for n in range(20)) + b"}"
HEADERS = [(b"host", b"127.0.0.1:8001"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


def per_call(function: Callable[[], object], calls: int = 2_000) -> float:
    """µs of one call, best of the rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, (time.perf_counter() - started) / calls)
    return best * 1e6


async def per_task(function: Callable[[], Awaitable[Any]]) -> float:
    """µs of one of TOGETHER concurrent tasks, best of the rounds."""
    loop = asyncio.get_running_loop()
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(REPEATS):
            await asyncio.wait([loop.create_task(function()) for _ in range(TOGETHER)])  # type: ignore[arg-type]
        best = min(best, (time.perf_counter() - started) / (REPEATS * TOGETHER))
    return best * 1e6


async def measure() -> list[tuple[str, float]]:
    """(stage, µs a request) in the order of a request's way; the last rows are sums of what is above them."""
    view = open_folder(FOLDER)
    config, _ = load_runtime(view.runtime, {}, {})
    slots, _ = Slots.create()
    metrics = ServiceMetrics(slots, service="bench", models=["churn"], routes=["/predict"])
    engine = Engine(load_service(view), view, config, metrics)  # type: ignore[arg-type]  # the bench's own Service
    await engine.start()
    app = create_app([engine], ServerState(config.limits, metrics), pages=False)
    lane = engine.lane("churn")
    handler = RowHandler(engine, engine.service.models["churn"])
    row = handler.decode(BODY)
    payload = lane.inputs.pack(row)
    computation = Computation(engine.service.models["churn"], view.models["churn"], threads=1)

    def computed(payloads: list[bytes]) -> Outputs:
        return Outputs(computation.compute(b"", payloads, len(payloads)), computation.outputs)

    answer = computed([payload]).row(0)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: object) -> None:
        del message

    async def nothing() -> None:
        return

    async def queued() -> None:
        await lane.pool.submit_nowait(payload, 1, time.monotonic() + 2)

    async def handled() -> None:
        await handler(Asked(BODY, {}, time.monotonic() + 2, {}))

    async def whole(path: str = "/predict") -> None:
        scope = {"type": "http", "method": "POST", "path": path, "headers": HEADERS, "root_path": "", "state": {}}
        await app(scope, receive, send)

    task = await per_task(nothing)
    together = [payload] * TOGETHER
    predict = per_call(lambda: computed(together).row(0), 100) / TOGETHER
    queue = await per_task(queued)
    inside = await per_task(handled)
    everything = await per_task(whole)
    routed = await per_task(lambda: whole("/predict/"))
    await engine.stop()
    return [
        ("an asyncio task (not ours to save)", task),
        ("decode + validate", per_call(lambda: handler.decode(BODY))),
        ("pack the row", per_call(lambda: lane.inputs.pack(row))),
        ("queue, batch, resolve", queue - task - predict),
        (f"predict, in batches of {TOGETHER}", predict),
        ("encode", per_call(lambda: handler.encode(answer))),
        ("request metrics", per_call(lambda: metrics.request("/predict", "POST", 200, 0.01))),
        ("handler in all (all but the metrics)", inside),
        ("application in all", everything),
        ("the same, found by Litestar", routed),
    ]


def main() -> int:
    """Print the table."""
    rows = uvloop.run(measure())
    print(f"{'stage':<40}{'µs/request':>12}")
    for name, micros in rows:
        print(f"{name:<40}{micros:>12.2f}  {'█' * round(micros)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
