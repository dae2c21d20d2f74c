"""Load for chaos: clients on raw connections that count every request they sent and how each one ended.

A request is *failed* when its connection broke or its answer was neither 200 nor a refusal. Clients keep their
connection, ask one after another, and give each request a deadline far beyond the faults they are to survive.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SOAK_S = float(os.environ.get("SOAK_S", "60"))
"""Seconds of each scenario."""
REFUSALS = (429, 503)
ROW = {"tenure_days": 4.0, "mean_charge": 1.0, "action": 0.0}
PATIENCE_MS = 30_000


@dataclass
class Report:
    """What a scenario did to its clients."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)

    def count(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.answered += 1
            self.latencies_s.append(seconds)
        elif status in REFUSALS:
            self.refused += 1
            self.refusals_s.append(seconds)
        else:
            self.failed += 1

    @property
    def balances(self) -> bool:
        return self.sent == self.answered + self.refused + self.failed

    def quantile_ms(self, share: float, of: str = "latencies_s") -> float:
        times = sorted(getattr(self, of))
        return times[min(len(times) - 1, int(share * len(times)))] * 1e3 if times else 0.0

    def line(self, name: str) -> str:
        return (
            f"chaos {name:<34} sent {self.sent:>7} answered {self.answered:>7} refused {self.refused:>6} "
            f"failed {self.failed:>3}  p50 {self.quantile_ms(0.5):.1f} ms p99 {self.quantile_ms(0.99):.1f} ms"
        )


class Load:
    """Clients in a thread of their own: `clients` closed loops, or open arrivals at `rate` a second."""

    def __init__(
        self,
        url: str,
        *,
        clients: int = 16,
        rate: float | None = None,
        action: float = 0.0,
        patience_ms: float = PATIENCE_MS,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        body = json.dumps({**ROW, "action": action}).encode()
        self._request = (
            f"POST /predict HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"x-slipway-timeout-ms: {patience_ms:g}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._clients = clients
        self._rate = rate
        self._is_over = threading.Event()
        self.report = Report()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def stop(self) -> Report:
        self._is_over.set()
        self._thread.join(PATIENCE_MS / 1e3 + 30)
        if self._thread.is_alive():
            raise AssertionError("clients still wait for answers")
        return self.report

    async def _run(self) -> None:
        if self._rate is None:
            await asyncio.gather(*(self._client() for _ in range(self._clients)))
            return
        idle: asyncio.Queue[_Connection] = asyncio.Queue()
        for _ in range(self._clients):
            idle.put_nowait(_Connection(self._host, self._port))
        running: set[asyncio.Task[None]] = set()

        async def once(connection: _Connection) -> None:
            await self._once(connection)
            idle.put_nowait(connection)

        started, number = time.monotonic(), 0
        while not self._is_over.is_set():
            number += 1
            await at(started + number / self._rate)
            task = asyncio.create_task(once(await idle.get()))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        while not idle.empty():
            await idle.get_nowait().end()

    async def _client(self) -> None:
        connection = _Connection(self._host, self._port)
        while not self._is_over.is_set():
            await self._once(connection)
        await connection.end()

    async def _once(self, connection: "_Connection") -> None:
        self.report.sent += 1
        started = time.monotonic()
        try:
            status = await connection.ask(self._request)
        except (OSError, EOFError):
            status = 0
            connection.close()
        self.report.count(status, time.monotonic() - started)


class _Connection:
    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
        await reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def end(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def at(when: float) -> None:
    """Until that point in time, on the monotonic clock."""
    loop = asyncio.get_running_loop()
    due: asyncio.Future[None] = loop.create_future()
    loop.call_later(max(0.0, when - time.monotonic()), due.set_result, None)
    await due


def pause(seconds: float) -> None:
    """Let the load run on."""
    threading.Event().wait(seconds)


def eventually(claim: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Ask again and again until it is true."""
    ends = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < ends, "it never became true"
        pause(0.05)


async def trickle(url: str, count: int, seconds: float) -> None:
    """Open the connections, say how many, and send each one byte a second until the server has had enough."""
    address = urlsplit(url)
    limit = asyncio.Semaphore(256)
    request = b"POST /predict HTTP/1.1\r\nhost: slow\r\ncontent-type: application/json\r\n"

    async def one() -> asyncio.StreamWriter | None:
        async with limit:
            try:
                _, writer = await asyncio.open_connection(address.hostname, address.port)
            except OSError:
                return None
        return writer

    writers = [writer for writer in await asyncio.gather(*(one() for _ in range(count))) if writer is not None]
    sys.stdout.write(f"{len(writers)}\n")
    sys.stdout.flush()
    started = time.monotonic()
    for place in range(int(seconds)):
        for writer in writers:
            if not writer.is_closing():
                writer.write(request[place % len(request) : place % len(request) + 1])
        await at(started + place + 1)


if __name__ == "__main__":
    asyncio.run(trickle(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
