"""Open-loop load: requests leave when a Poisson clock says so, answered or not; latency counts from that moment.

A closed loop (wrk) waits for a slow server and so forgives it (coordinated omission). This client is what the promise
"p99 < 50 ms at 1,000 req/s" is measured with. It keeps a pool of connections, loopback only, and stops by itself.

    .venv/bin/python benchmarks/open_loop.py http://127.0.0.1:8000/predict benchmarks/.bench/body.json --rate 1000
"""

import argparse
import asyncio
import random
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

DRAIN_S = 5.0


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.scheduled = 0.0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, scheduled: float) -> None:
        self.scheduled = scheduled
        self.transport.write(self.run.request)  # type: ignore[attr-defined]  # a write transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) >= length:
            self.buffer = b""
            self.run.answered(self, ok=head.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.run.lost(self)


class Run:
    """The clock, the pool of connections, and what they saw."""

    def __init__(self, request: bytes, rate: float, seconds: float) -> None:
        self.request = request
        self.rate = rate
        self.seconds = seconds
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.latencies: list[float] = []
        self.bad = 0
        self.sent = 0
        self.is_over = False
        self.complete = asyncio.Event()

    def answered(self, connection: Connection, *, ok: bool) -> None:
        self.latencies.append(time.monotonic() - connection.scheduled)
        self.bad += not ok
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)
        if self.is_over and len(self.latencies) >= self.sent:
            self.complete.set()

    def lost(self, connection: Connection) -> None:
        if connection not in self.idle:
            self.bad += 1
        else:
            self.idle.remove(connection)

    async def go(self) -> None:
        clock = random.Random(0)  # noqa: S311  # arrivals, not secrets
        start = due = time.monotonic()
        while due - start < self.seconds:
            due += clock.expovariate(self.rate)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self.sent += 1
            if self.idle:
                self.idle.popleft().send(due)
            else:
                self.waiting.append(due)
        self.is_over = True
        if len(self.latencies) < self.sent:
            await asyncio.wait([asyncio.ensure_future(self.complete.wait())], timeout=DRAIN_S)


async def measure(options: argparse.Namespace) -> Run:
    """Open the connections, warm up, run."""
    url = urlsplit(options.url)
    if url.hostname not in {"127.0.0.1", "localhost", "::1"}:
        sys.exit(f"load goes to loopback only, got {url.hostname!r}")
    body = options.body.read_bytes()
    head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    loop = asyncio.get_running_loop()
    runs = [Run(request, options.rate, seconds) for seconds in (1.0, options.seconds)]
    for run in runs:
        for _ in range(options.connections):
            _, connection = await loop.create_connection(partial(Connection, run), url.hostname, url.port)
            run.idle.append(connection)
        await run.go()
    return runs[1]


def main() -> int:
    """Print one line; exit 1 when a request was not answered with 200."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("body", type=Path, help="file with the JSON body")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connections", type=int, default=128)
    options = parser.parse_args()
    run = asyncio.run(measure(options))
    times = sorted(run.latencies)
    at = {q: times[min(len(times) - 1, int(len(times) * q))] * 1e3 for q in (0.5, 0.95, 0.99, 0.999)}
    unanswered = run.sent - len(times)
    print(
        f"open loop {options.rate:.0f} req/s for {options.seconds:.0f} s: sent {run.sent}, bad {run.bad}, "
        f"unanswered {unanswered}, p50 {at[0.5]:.2f} ms, p95 {at[0.95]:.2f} ms, p99 {at[0.99]:.2f} ms, "
        f"p99.9 {at[0.999]:.2f} ms, max {times[-1] * 1e3:.2f} ms"
    )
    return int(run.bad + unanswered > 0)


if __name__ == "__main__":
    sys.exit(main())
