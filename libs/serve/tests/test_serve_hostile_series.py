"""Ten thousand requests that nobody should send: the page of metrics has not a series more, the process no more memory.

A real server with two API workers and a runner, with drift, capture, traces and logs of every request. What a client
may choose goes everywhere a client may put it; each of it is new, and carries a mark that is looked for.
"""

import asyncio
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

import psutil
import pytest
from otlp_sink import collector
from serve_process import Served, serving
from test_serve_watching import write_watched

REQUESTS: Final = 10_000
WARM_UP: Final = 8_000
CONNECTIONS: Final = 16
MARK: Final = "hx7q"
"""In everything that a client chose, so that one look at the page finds it."""
LONG: Final = 3_000
GROWTH: Final = 1.08
"""Of a process' resident memory: 8 MB of an API worker, to whom 50 MB of new words are sent. One short word of each
request that was kept would not be seen; its headers would."""
ROW: Final = b'{"tenure_days": 10.0, "mean_charge": 1.0}'
EVERYTHING: Final = """
[runtime.models.watched]
pool = {{ replicas = 1 }}
batching = false

[runtime.logging]
requests_ratio = 1.0
"""
METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE")
ODD_METHODS: Final = (b"PROPFIND", b"MKCOL", b"PURGE", b"UNLINK", b"SUBSCRIBE", b"M-SEARCH")
"""Known to the parser, and no route's."""


class Sent(NamedTuple):
    """One request as it goes into the socket."""

    method: bytes
    data: bytes


Make = Callable[[random.Random], Sent]


def word(draw: random.Random) -> bytes:
    """Something that no other request has: short, long, not ASCII, or made for whoever forgets to quote."""
    mark = f"{MARK}{draw.getrandbits(64):x}"
    kind = draw.randrange(5)
    if kind == 0:
        return (mark + "x" * LONG).encode()
    if kind == 1:
        return f"{mark}-ünïcödé-\u202e-{'𝕏' * 20}".encode()
    if kind == 2:
        return mark.encode() + bytes(draw.choices(range(0x80, 0x100), k=40))
    if kind == 3:
        return (mark + "".join(draw.choices(string.punctuation + "\t ", k=60)) + "x").encode()
    return f'{mark}"}},evil="1"}} 1\\n# HELP {{le="+Inf"}} ${{jndi:x}} <script>%00%0d%0a../..'.encode()


def step(draw: random.Random) -> bytes:
    """A word as part of a path."""
    return quote_from_bytes(word(draw), safe="").encode()


def headers(draw: random.Random) -> list[tuple[bytes, bytes]]:
    """A value for everything that is read, and for some that are not; names too."""
    trace = f"{draw.getrandbits(128):032x}-{draw.getrandbits(64):016x}"
    traceparent = draw.choice([f"00-{trace}-01", f"00-{trace}-00", f"ff-{trace}-01-x"]).encode()
    return [
        (b"host", word(draw)),
        (b"user-agent", word(draw)),
        (b"traceparent", draw.choice([traceparent, word(draw)])),
        (b"tracestate", word(draw)),
        (b"baggage", word(draw)),
        (b"x-request-id", draw.choice([f"{MARK}-{draw.getrandbits(64):x}".encode(), word(draw)])),
        (b"x-customer", word(draw)),
        (b"x-slipway-attempt", draw.choice([b"2", b"9" * 400, word(draw)])),
        (b"x-envoy-attempt-count", word(draw)),
        (b"x-slipway-model", word(draw)),
        (b"x-slipway-" + re.sub(rb"[^a-z0-9]", b"", word(draw)), word(draw)),
        (b"x-forwarded-for", word(draw)),
        (b"cookie", word(draw)),
        (b"accept", word(draw)),
    ]


def made(
    draw: random.Random, method: bytes, path: bytes, body: bytes = b"", *, more: Sequence[tuple[bytes, bytes]] = ()
) -> Sent:
    """A request with a query that nobody asked for."""
    fields = [(b"content-type", b"application/json"), *headers(draw), *more, (b"content-length", b"%d" % len(body))]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    target = path + b"?" + step(draw) + b"=" + step(draw)
    return Sent(method, method + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + body)


def inference(draw: random.Random) -> bytes:
    """The body of an inference request with names of its own."""
    name = step(draw).decode()
    return (
        f'{{"id": "{name}", "inputs": [{{"name": "{name}", "shape": [1], "datatype": "FP32", "data": [1]}}]}}'.encode()
    )


SHAPES: Final[tuple[Make, ...]] = (
    *[lambda draw: made(draw, b"POST", b"/predict", ROW)] * 6,
    lambda draw: made(draw, b"POST", b"/predict", ROW, more=[(b"x-slipway-synthetic", word(draw))]),
    lambda draw: made(draw, b"POST", b"/predict", ROW, more=[(b"x-slipway-timeout-ms", word(draw))]),
    lambda draw: made(draw, b"POST", b"/predict", ROW, more=[(b"x-slipway-timeout-ms", b"0.0001")]),
    lambda draw: made(draw, b"POST", b"/predict", b'{"' + step(draw) + b'": 1}'),
    lambda draw: made(draw, b"POST", b"/predict", word(draw)),
    lambda draw: made(draw, b"POST", b"/v2/models/watched/infer", inference(draw)),
    lambda draw: made(draw, b"POST", b"/v2/models/" + step(draw) + b"/infer", inference(draw)),
    lambda draw: made(
        draw, b"POST", b"/v2/models/" + step(draw) + b"/versions/" + step(draw) + b"/infer", inference(draw)
    ),
    lambda draw: made(draw, b"GET", b"/v2/models/" + step(draw)),
    lambda draw: made(draw, b"GET", b"/v2/models/" + step(draw) + b"/ready"),
    lambda draw: made(draw, b"GET", b"/v2/models/watched/versions/" + step(draw)),
    *[lambda draw, method=method: made(draw, method, b"/" + step(draw)) for method in METHODS],
    *[lambda draw, method=method: made(draw, method, b"/predict") for method in METHODS],
    *[lambda draw, method=method: made(draw, method, b"/predict") for method in ODD_METHODS],
    lambda draw: made(draw, b"GET", b"/predict/" + step(draw) + b"//" + step(draw) + b"/;" + step(draw)),
    lambda draw: made(draw, b"GET", b"/docs/" + step(draw)),
    lambda draw: made(draw, b"GET", b"//" + step(draw)),
    lambda draw: made(draw, b"GET", b"http://" + step(draw)[:60] + b"/predict"),
    lambda draw: made(draw, re.sub(rb"[^A-Z]", b"", word(draw).upper())[:30], b"/predict"),  # no method of any parser
)


class Client:
    """One connection after another; each answer's status is counted."""

    def __init__(self, host: str, port: int, seen: Counter[int]) -> None:
        self._address = (host, port)
        self._seen = seen

    async def send(self, requests: Iterator[Sent]) -> None:
        """Send what is left of `requests`, one at a time."""
        streams = None
        for sent in requests:
            reader, writer = streams or await asyncio.open_connection(*self._address, limit=1 << 20)
            writer.write(sent.data)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if length and sent.method != b"HEAD":
                await reader.readexactly(int(length[1]))
            self._seen[int(head[9:12])] += 1
            streams = (reader, writer)
            if b"connection: close" in head:
                writer.close()
                streams = None
        if streams:
            streams[1].close()


def bombard(served: Served, count: int, seed: int) -> Counter[int]:
    """Send so many hostile requests; gives how they were answered."""
    seen: Counter[int] = Counter()
    draw = random.Random(seed)  # noqa: S311 - the same requests in each run
    requests = (SHAPES[number % len(SHAPES)](draw) for number in range(count))
    host, port = served.url.removeprefix("http://").split(":")

    async def everybody() -> None:
        clients = [Client(host, int(port), seen) for _ in range(CONNECTIONS)]
        await asyncio.gather(*(client.send(requests) for client in clients))

    asyncio.run(everybody())
    return seen


def series(page: str) -> set[str]:
    """What is on the page, without the values."""
    return {line.rpartition(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}


def resident(served: Served) -> dict[int, int]:
    """The resident memory of each process by its id, bytes."""
    supervisor = psutil.Process(served.process.pid)
    return {process.pid: process.memory_info().rss for process in [supervisor, *supervisor.children(recursive=True)]}


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[Served]:
    """A service that watches, captures, traces and logs every request."""
    folder = write_watched(tmp_path / "watched", tmp_path / "captured", EVERYTHING)
    with collector() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_TRACES_SAMPLER_ARG": "1"}
        with serving(folder, store=tmp_path / "store", flags={"workers": 2}, env=env) as served:
            yield served


@pytest.mark.e2e
def test_ten_thousand_hostile_requests_add_no_series_and_no_memory(everything: Served) -> None:
    """And none of them is answered with 500. Before, as many that fill what is bounded: caches, pools, free lists."""
    warm = bombard(everything, WARM_UP, seed=1)
    page, memory = everything.metrics(), resident(everything)

    seen = bombard(everything, REQUESTS, seed=2)

    after = everything.metrics()
    assert {status // 100 for status in warm} == {2, 4, 5}
    assert seen.total() == REQUESTS
    assert (warm + seen)[500] == 0
    assert series(after) - series(page) == set()
    assert MARK not in after
    grown = {pid: now / memory[pid] for pid, now in resident(everything).items()}
    assert max(grown.values()) <= GROWTH, grown
