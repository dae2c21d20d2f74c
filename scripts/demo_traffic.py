"""The demo's client: a few hundred requests over raw keep-alive connections, and what came of each.

It draws nothing (`demo_report.py` does) and never leaves the loopback address. The invariants: every wait has an end,
every request has exactly one outcome, and the requests are the same in every run. Standard library only, so that its
own cost stays small beside the server's: both share the machine.
"""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

SEED: Final = 7
TIMEOUT_S: Final = 10.0
HEAD_BYTES: Final = 64 * 1024
STEADY: Final = 360
"""Good requests in the steady phase; every sixth is followed by a bad one."""
STEADY_CONNECTIONS: Final = 8
BURSTS: Final = 3
BURST_CONNECTIONS: Final = 64
BURST_DEPTH: Final = 2
"""Requests of each connection in a burst."""
CUSTOMERS: Final = 4
"""Connections of the customers who ask while an alert is shown."""
HASTY: Final = 48
HASTY_MS: Final = 0.05
"""A deadline that no answer can meet: what cannot be in time is refused, not computed."""

Kind = Literal["good", "bad", "hasty"]
EXPECTED: Final[dict[Kind, tuple[int, ...]]] = {
    "good": (200,),
    "bad": (400, 404, 405, 413, 415, 422),
    "hasty": (200, 429, 503, 504),
}

UNHAPPY: Final[dict[str, Any]] = {
    "tenure_months": 2.0,
    "monthly_charges": 96.5,
    "support_calls": 5,
    "income": None,
    "contract": "monthly",
}
LOYAL: Final[dict[str, Any]] = {
    "tenure_months": 60.0,
    "monthly_charges": 49.9,
    "support_calls": 0,
    "income": 58000.0,
    "contract": "yearly",
}


@dataclass(frozen=True)
class Request:
    """One HTTP request, ready to be sent."""

    kind: Kind
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """What came of a request; status 0 = no answer."""

    kind: Kind
    status: int
    seconds: float
    has_retry_after: bool

    @property
    def is_expected(self) -> bool:
        """Whether the server may answer such a request so."""
        return self.status in EXPECTED[self.kind]


@dataclass
class Phase:
    """One part of the traffic."""

    name: str
    connections: int
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0


Tell = Callable[[str, int], None]
"""Told after each answer: phase, answers so far."""


def send_traffic(port: int, tell: Tell) -> list[Phase]:
    """All phases, one after the other; a few seconds."""
    return asyncio.run(_send_all(port, tell))


class Customers:
    """Customers as those of the training (`services/churn/train.py`), all the time, in a thread, until `close`.

    Args:
        port: Of the server.
        rate: Requests a second; fewer where the server is slower.
    """

    def __init__(self, port: int, rate: float = 80.0) -> None:
        self.answered: Counter[int] = Counter()
        """Answers by their status; 0 = no answer."""
        self.first_error: float | None = None
        """Monotonic seconds of the first answer of 500 or above."""
        self._port, self._rate = port, rate
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask nothing more; waits for the last answers."""
        self._is_over.set()
        self._thread.join()

    async def _ask(self) -> None:
        draw = random.Random(SEED + 2)  # noqa: S311 - as above
        links = [_Link(self._port) for _ in range(CUSTOMERS)]
        due = time.monotonic()
        while not self._is_over.is_set():
            outcomes = await asyncio.gather(*(link.outcome(_customer(draw)) for link in links))
            self.answered.update(outcome.status for outcome in outcomes)
            if self.first_error is None and any(outcome.status >= 500 for outcome in outcomes):
                self.first_error = time.monotonic()
            due = max(due + CUSTOMERS / self._rate, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        for link in links:
            link.close()


def predict_once(port: int, row: dict[str, Any]) -> dict[str, Any]:
    """One prediction over a connection of its own.

    Raises:
        OSError, EOFError, ValueError: The server does not answer, or not with a prediction.
    """
    return asyncio.run(_once(port, _request("POST", "/predict", json.dumps(row).encode())))


def get_text(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET. Raises OSError and EOFError when there is no answer."""
    return asyncio.run(_get(port, path))


def steady_requests() -> list[Request]:
    """Ordinary customers, and between them the mistakes that clients make."""
    draw = random.Random(SEED)  # noqa: S311 - customers, not secrets
    mistakes = list(_mistakes())
    requests = []
    for place in range(STEADY):
        requests.append(_good(draw))
        if place % 6 == 5:
            requests.append(mistakes[place // 6 % len(mistakes)])
    return requests


def burst_requests() -> list[Request]:
    """As many good requests as a burst sends."""
    draw = random.Random(SEED + 1)  # noqa: S311 - as above
    return [_good(draw) for _ in range(BURST_CONNECTIONS * BURST_DEPTH)]


def hasty_requests() -> list[Request]:
    """Good rows that nobody will wait for."""
    body = json.dumps(UNHAPPY).encode()
    header = f"x-slipway-timeout-ms: {HASTY_MS}"
    return [Request("hasty", _request("POST", "/predict", body, header)) for _ in range(HASTY)]


def _good(draw: random.Random) -> Request:
    row = {
        "tenure_months": round(draw.uniform(0, 90), 1),
        "monthly_charges": round(draw.uniform(15, 140), 2),
        "support_calls": draw.randrange(8),
        "income": None if draw.random() < 0.125 else round(draw.uniform(12_000, 140_000), -2),
        "contract": draw.choice(("monthly", "yearly")),
    }
    return Request("good", _request("POST", "/predict", json.dumps(row).encode()))


def _customer(draw: random.Random) -> Request:
    is_yearly = draw.random() < 0.35
    charges = min(max(draw.gauss(66.0, 24.0), 12.0), 160.0)
    row = {
        "tenure_months": round(min(draw.expovariate(1 / (40.0 if is_yearly else 22.0)), 600.0), 1),
        "monthly_charges": round(charges, 2),
        "support_calls": _poisson(draw, 0.6 + 0.012 * charges),
        "income": None if draw.random() < 0.125 else round(draw.lognormvariate(10.6, 0.5), -2),
        "contract": "yearly" if is_yearly else "monthly",
    }
    return Request("good", _request("POST", "/predict", json.dumps(row).encode()))


def _poisson(draw: random.Random, mean: float) -> int:
    """Arrivals within `mean` units of time, one a unit on average."""
    count, waited = 0, draw.expovariate(1.0)
    while waited < mean:
        count, waited = count + 1, waited + draw.expovariate(1.0)
    return count


def _mistakes() -> Iterable[Request]:
    wrong_rows: tuple[dict[str, Any], ...] = (
        {**UNHAPPY, "support_calls": "many"},
        {**UNHAPPY, "tenure_months": -1},
        {**UNHAPPY, "contract": "weekly"},
        {**UNHAPPY, "tenure": 3},
        {key: value for key, value in UNHAPPY.items() if key != "contract"},
        {**UNHAPPY, "support_calls": 2**70},
    )
    bodies = [*(json.dumps(row).encode() for row in wrong_rows), b'{"tenure_months": NaN}', b"not JSON", b""]
    requests = [_request("POST", "/predict", body) for body in bodies]
    requests.append(_request("POST", "/predikt", b"{}"))
    requests.append(_request("GET", "/predict", b""))
    return (Request("bad", data) for data in requests)


def _request(method: str, path: str, body: bytes, *headers: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _send_all(port: int, tell: Tell) -> list[Phase]:
    steady = Phase("steady", STEADY_CONNECTIONS)
    await _run(port, steady, steady_requests(), tell)
    bursts = Phase("bursts", BURST_CONNECTIONS)
    for _ in range(BURSTS):
        await _run(port, bursts, burst_requests(), tell)
    hasty = Phase("hasty", STEADY_CONNECTIONS)
    await _run(port, hasty, hasty_requests(), tell)
    return [steady, bursts, hasty]


async def _run(port: int, phase: Phase, requests: Sequence[Request], tell: Tell) -> None:
    """Sends `requests` over the phase's connections, each taking the next one when it has its answer."""
    waiting = iter(requests)
    started = time.perf_counter()

    async def connection() -> None:
        link = _Link(port)
        try:
            for request in waiting:
                phase.outcomes.append(await link.outcome(request))
                tell(phase.name, len(phase.outcomes))
        finally:
            link.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(phase.connections):
            group.create_task(connection())
    phase.seconds += time.perf_counter() - started


class _Link:
    """One keep-alive connection, opened again when the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def outcome(self, request: Request) -> Outcome:
        """Sends one request; never raises for what a server can do."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, head, _ = await self.exchange(request.data)
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
            self.close()
            return Outcome(request.kind, 0, time.perf_counter() - started, has_retry_after=False)
        return Outcome(request.kind, status, time.perf_counter() - started, has_retry_after=b"\r\nretry-after:" in head)

    async def exchange(self, data: bytes) -> tuple[int, bytes, bytes]:
        """Status, head in lower case, body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=HEAD_BYTES)
        reader, writer = self._streams
        writer.write(data)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length or 0))
        if b"\r\nconnection: close" in head:
            self.close()
        return status, head, body

    def close(self) -> None:
        """Close, if open."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _once(port: int, data: bytes) -> dict[str, Any]:
    link = _Link(port)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status, _, body = await link.exchange(data)
    finally:
        link.close()
    if status != 200:
        raise ValueError(f"status {status}: {body.decode('utf-8', 'replace')}")
    answer: dict[str, Any] = json.loads(body)
    return answer


async def _get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" " not in head:
        raise EOFError("the connection was closed without an answer")
    return int(head.split(b" ", 2)[1]), body.decode("utf-8", "replace")
