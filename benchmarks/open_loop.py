"""Open-loop load: requests leave when a Poisson clock says so, answered or not; latency counts from that moment.

A closed loop (wrk) waits for a slow server and so forgives it (coordinated omission). This client is what the promise
"p99 < 50 ms at 1,000 req/s" is measured with. It behaves as an ordinary HTTP client with a pool: connections are kept
and opened again when they were closed, a request is sent once, and whatever is not a 200 with the right answer within
the timeout has failed. Loopback only; it stops by itself.

    .venv/bin/python benchmarks/open_loop.py http://127.0.0.1:8000/predict benchmarks/.bench/body.json --rate 1000
"""

import argparse
import asyncio
import math
import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
"""From the moment a request was due; what httpx waits by default."""
TOLERANCE = 1e-3
"""Of an answer: servers add up in 32 bits and write the sum in their own ways."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
NUMBER = re.compile(rb"-?\d+\.\d+(?:e-?\d+)?")


class Question(NamedTuple):
    """A request, and what is right."""

    request: bytes
    answer: float | None = None
    """The first decimal number of the right body; None: any body will do."""


class Asked(NamedTuple):
    """A question that is due."""

    due: float
    question: Question


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.asked: Asked | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, asked: Asked) -> None:
        self.asked = asked
        self.timer = asyncio.get_running_loop().call_at(asked.due + TIMEOUT_S, self.give_up)
        self.transport.write(asked.question.request)  # type: ignore[attr-defined]  # a write transport

    def give_up(self) -> None:
        self.finish("timeout")
        self.transport.abort()  # type: ignore[attr-defined]  # a write transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator or self.asked is None:
            return
        head = head.lower()
        _, told, length = head.partition(b"content-length:")
        if len(body) < int(length.split(b"\r\n")[0]) if told else not body.endswith(b"0\r\n\r\n"):
            return
        self.buffer = b""
        self.finish(verdict(head, body, self.asked.question.answer))
        if b"connection: close" in head:
            self.transport.close()
        else:
            self.run.freed(self)

    def finish(self, how: str) -> None:
        asked, self.asked = self.asked, None
        if asked is not None:
            self.timer.cancel()
            self.run.finished(asked, how)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.finish("connection lost")
        self.run.closed(self)


def verdict(head: bytes, body: bytes, answer: float | None) -> str:
    """`ok`, `refused` (a 503 that says when to come again), or what is wrong. The head is in lower case."""
    status = head[9:12].decode()
    if status == "503" and b"retry-after:" in head:
        return "refused"
    if status != "200":
        return f"status {status}"
    if answer is None:
        return "ok"
    number = NUMBER.search(body)
    return "ok" if number and abs(float(number[0]) - answer) < TOLERANCE else "wrong answer"


class Run:
    """The clock, the pool of connections, and what they saw."""

    def __init__(self, address: tuple[str, int], questions: Sequence[Question], rate: float, connections: int) -> None:
        self.address = address
        self.questions = questions
        self.rate = rate
        self.connections = connections
        self.open = 0
        self.idle: deque[Connection] = deque()
        self.waiting: deque[Asked] = deque()
        self.opening: set[asyncio.Task[None]] = set()
        self.latencies: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.sent = 0
        self.last_ok = math.nan
        self.silence_s = 0.0
        self.is_over = asyncio.Event()
        self.is_ending = False
        self.is_answered = asyncio.Event()

    @property
    def failed(self) -> int:
        """Requests that were neither answered rightly nor refused with a Retry-After."""
        return self.outcomes.total() - self.outcomes["ok"] - self.outcomes["refused"]

    def quantile_ms(self, q: float) -> float:
        """Of all requests; those without the right answer count as infinitely late."""
        times = sorted(self.latencies)
        place = min(self.sent - 1, int(self.sent * q))
        return times[place] * 1e3 if place < len(times) else math.inf

    async def go(self, seconds: float) -> None:
        """Send for so long, or until `is_over`; then wait for the last answers."""
        clock = random.Random(0)  # noqa: S311  # arrivals, not secrets
        start = due = self.last_ok = time.monotonic()
        while due - start < seconds and not self.is_over.is_set():
            due += clock.expovariate(self.rate)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self.waiting.append(Asked(due, self.questions[self.sent % len(self.questions)]))
            self.sent += 1
            self.pump()
        self.silence_s = max(self.silence_s, time.monotonic() - self.last_ok)
        self.is_ending = True
        if self.outcomes.total() < self.sent:
            await asyncio.wait([asyncio.ensure_future(self.is_answered.wait())], timeout=TIMEOUT_S + 1)
        self.waiting.clear()
        self.outcomes["timeout"] += self.sent - self.outcomes.total()  # who never got a connection

    def forget(self) -> None:
        """Begin to count anew, over the same connections."""
        self.latencies, self.outcomes, self.sent, self.silence_s = [], Counter(), 0, 0.0
        self.is_ending = False
        self.is_answered.clear()
        self.is_over.clear()

    def pump(self) -> None:
        """Send what waits over connections that are free, or new ones."""
        while self.waiting:
            if time.monotonic() > self.waiting[0].due + TIMEOUT_S:
                self.finished(self.waiting.popleft(), "timeout")
            elif self.idle:
                self.idle.popleft().send(self.waiting.popleft())
            elif self.open < self.connections:
                self.open += 1
                task = asyncio.ensure_future(self.connect(self.waiting.popleft()))
                self.opening.add(task)
                task.add_done_callback(self.opening.discard)
            else:
                return

    async def connect(self, asked: Asked) -> None:
        """Open a connection for a request. One that cannot be opened fails the request."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self), *self.address
                )
        except OSError as error:
            self.open -= 1
            self.finished(asked, "connection refused" if isinstance(error, ConnectionRefusedError) else "no connection")
        else:
            connection.send(asked)

    def freed(self, connection: Connection) -> None:
        self.idle.append(connection)
        self.pump()

    def closed(self, connection: Connection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    def finished(self, asked: Asked, how: str) -> None:
        self.outcomes[how] += 1
        if how == "ok":
            now = time.monotonic()
            self.latencies.append(now - asked.due)
            self.silence_s = max(self.silence_s, now - self.last_ok)
            self.last_ok = now
        if self.is_ending and self.outcomes.total() >= self.sent:
            self.is_answered.set()


def request_of(url: str, body: bytes) -> bytes:
    """The bytes of a POST. Exits when the address is not on the loopback."""
    parts = urlsplit(url)
    if parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        sys.exit(f"load goes to loopback only, got {parts.hostname!r}")
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def measure(url: str, questions: Sequence[Question], rate: float, seconds: float, connections: int) -> Run:
    """Warm up for a second, then run."""
    parts = urlsplit(url)
    run = Run((parts.hostname or "", parts.port or 80), questions, rate, connections)
    await run.go(1.0)
    run.forget()
    await run.go(seconds)
    return run


def main() -> int:
    """Print one line; exit 1 when a request was not answered with 200."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("body", type=Path, help="file with the JSON body")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connections", type=int, default=128)
    options = parser.parse_args()
    questions = [Question(request_of(options.url, options.body.read_bytes()))]
    run = asyncio.run(measure(options.url, questions, options.rate, options.seconds, options.connections))
    shown = ", ".join(f"{name} {run.quantile_ms(q):.2f} ms" for name, q in QUANTILES.items())
    bad = Counter({how: n for how, n in run.outcomes.items() if n and how != "ok"})
    print(
        f"open loop {options.rate:.0f} req/s for {options.seconds:.0f} s: sent {run.sent}, bad {bad.total()}"
        f"{f' {dict(bad)}' if bad else ''}, {shown}, max {max(run.latencies, default=math.nan) * 1e3:.2f} ms"
    )
    return int(bad.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
