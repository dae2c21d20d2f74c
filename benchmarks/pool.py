"""What the in-process pool costs a request: microseconds at 1, 16 and 64 clients, beside a bare asyncio future.

The model does nothing, so what is measured is admission, queue, batching, futures and accounting. The floor is the
least that any batcher on an event loop pays: one future a request and one callback a batch. It measures no HTTP, and
processor time instead of elapsed time, because the loop never idles here and a busy machine would blur the figures.

    python benchmarks/pool.py [--requests 200000] [--loop uvloop|asyncio]
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence

import uvloop

from slipway_runtime import Pool

CLIENTS = (1, 16, 64)
ROUNDS = 3


def nothing(payloads: Sequence[bytes], rows: int) -> object:
    """A model that costs nothing."""
    return payloads, rows


async def clients(count: int, requests: int, ask: Callable[[], Coroutine[None, None, None]]) -> float:
    """Least microseconds of processor time per request of `count` clients in closed loops, of three rounds."""

    async def client() -> None:
        for _ in range(requests // count):
            await ask()

    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        await asyncio.gather(*[client() for _ in range(count)])
        best = min(best, (time.process_time() - started) / (requests // count * count))
    return best * 1e6


async def measure_floor(count: int, requests: int) -> float:
    """One future a request and one callback a batch, and nothing else."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[int]] = []

    def answer() -> None:
        batch = waiting[:]
        waiting.clear()
        for future in batch:
            future.set_result(1)

    async def ask() -> None:
        future: asyncio.Future[int] = loop.create_future()
        if not waiting:
            loop.call_soon(answer)
        waiting.append(future)
        await future

    return await clients(count, requests, ask)


async def measure_pool(count: int, requests: int) -> tuple[float, float]:
    """Microseconds per request through a pool, and its mean batch."""
    pool = Pool("nothing", nothing)
    await pool.warm(b"row")

    async def ask() -> None:
        await pool.submit_nowait(b"row", 1, time.monotonic() + 10.0)

    cost = await clients(count, requests, ask)
    await pool.drain(10.0)
    statistics = pool.statistics()
    return cost, statistics.computed_rows / sum(statistics.batches.values())


async def main(requests: int) -> None:
    """Print the table."""
    print(f"{'clients':>8} {'pool us':>9} {'floor us':>9} {'added us':>9} {'mean batch':>11}")
    for count in CLIENTS:
        floor = await measure_floor(count, requests)
        cost, batch = await measure_pool(count, requests)
        print(f"{count:>8} {cost:>9.2f} {floor:>9.2f} {cost - floor:>9.2f} {batch:>11.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    arguments = parser.parse_args()
    print(f"python {sys.version.split()[0]}, {arguments.loop}, {arguments.requests} requests, best of {ROUNDS}")
    if arguments.loop == "uvloop":
        uvloop.run(main(arguments.requests))
    else:
        asyncio.run(main(arguments.requests))
