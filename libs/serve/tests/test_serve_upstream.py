import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import httpx
import pytest
from upstream_conversations import OPENS_AT_20, Clock, ask, limits, talk
from upstream_servers import Reply, closed_port, neighbour

from slipway_runtime.resilience import BudgetLimits
from slipway_serve.call import Call
from slipway_serve.upstream import Upstream, UpstreamFailed, UpstreamTimeout, UpstreamUnavailable
from slipway_serve.upstream_exchange import parse_retry_after

pytestmark = pytest.mark.alone  # how long something takes is judged here

if TYPE_CHECKING:
    from slipway_serve.call import CallEngine

DOWN = Reply(503)


@pytest.mark.parametrize("at_once", [1, 50])
def test_a_server_that_fails_everything_is_asked_a_tenth_more_at_most(at_once: int) -> None:
    asked, floor = 300, 3.0

    with neighbour(lambda _: DOWN) as server:

        async def storm(upstream: Upstream) -> None:
            for _ in range(asked // at_once):
                ended = await asyncio.gather(*(ask(upstream) for _ in range(at_once)))
                assert set(ended) == {"upstream_failed"}
            counted = upstream.statistics()
            assert (counted.asked, counted.sent) == (asked, len(server.seen))

        started = time.monotonic()
        talk(server.url, storm, limits(budget=BudgetLimits(floor=floor, window_s=3_600)))

    refilled = floor * (time.monotonic() - started) / 3_600
    assert asked < len(server.seen) <= 1.1 * asked + floor + refilled


def test_an_open_breaker_asks_nothing_then_probes_then_closes() -> None:
    clock = Clock()

    with neighbour(lambda _: DOWN) as server:

        async def through_an_outage(upstream: Upstream) -> None:
            for _ in range(20):
                await ask(upstream)
            during = len(server.seen)
            assert [await ask(upstream) for _ in range(50)] == ["upstream_unavailable"] * 50
            assert len(server.seen) == during

            clock.ahead_s += OPENS_AT_20.open_s
            ended = await asyncio.gather(*(ask(upstream) for _ in range(50)))
            assert ended.count("upstream_unavailable") >= 50 - OPENS_AT_20.probes
            assert 0 < len(server.seen) - during <= OPENS_AT_20.probes

            server.answer = lambda _: Reply()
            clock.ahead_s += 2 * OPENS_AT_20.open_s
            assert [await ask(upstream) for _ in range(10)] == ["ok"] * 10
            assert upstream.statistics().breaker == "closed"

        talk(server.url, through_an_outage, limits(breaker=OPENS_AT_20), clock)


def test_an_open_breaker_says_when_to_come_back() -> None:
    with closed_port() as url:

        async def until_open(upstream: Upstream) -> None:
            for _ in range(20):
                await ask(upstream)
            with pytest.raises(UpstreamUnavailable) as refused:
                await upstream.get("/")
            assert 0 < refused.value.retry_after_s <= OPENS_AT_20.open_s
            assert refused.value.message.startswith("service 'next' was not asked")

        talk(url, until_open, limits(breaker=OPENS_AT_20, retries=0))


def test_a_call_that_is_not_declared_idempotent_is_sent_once() -> None:
    with neighbour(lambda _: DOWN) as server:

        async def order(upstream: Upstream) -> None:
            with pytest.raises(UpstreamFailed):
                await upstream.post("/order", content=b"one, please")
            assert len(server.seen) == 1
            with pytest.raises(UpstreamFailed) as failed:
                await upstream.post("/order", content=b"one, please", idempotent=True)
            assert len(server.seen) == 1 + 3
            assert failed.value.message == "service 'next' failed: status 503, after 3 requests"
            assert {seen.body for seen in server.seen} == {b"one, please"}

        talk(server.url, order)


@pytest.mark.parametrize(("status", "sent"), [(429, 2), (503, 2), (500, 1), (502, 1), (504, 1)])
def test_only_not_now_is_asked_again(status: int, sent: int) -> None:
    with neighbour(lambda number: Reply(status) if number == 0 else Reply()) as server:

        async def once(upstream: Upstream) -> None:
            assert await ask(upstream) == ("ok" if sent == 2 else "upstream_failed")

        talk(server.url, once)

    assert len(server.seen) == sent


@pytest.mark.parametrize("status", [200, 204, 301, 404, 422])
def test_an_answer_is_the_callers_to_judge(status: int) -> None:
    with neighbour(lambda _: Reply(status, body=b"")) as server:

        async def once(upstream: Upstream) -> None:
            assert (await upstream.get("/x?y=1")).status_code == status

        talk(server.url, once)

    assert [seen.path for seen in server.seen] == ["/x"]


def test_a_retry_waits_as_long_as_it_was_told() -> None:
    busy = Reply(429, ((b"retry-after", b"1"),))

    with neighbour(lambda number: busy if number == 0 else Reply()) as server:

        async def once(upstream: Upstream) -> None:
            assert await ask(upstream) == "ok"

        talk(server.url, once)

    first, second = server.seen
    assert second.at - first.at >= 1.0


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    with neighbour(lambda _: Reply(503, ((b"retry-after", b"30"),))) as server:

        async def once(upstream: Upstream) -> None:
            started = time.monotonic()
            with pytest.raises(UpstreamFailed) as failed:
                await upstream.get("/", timeout_s=15.0)
            assert (failed.value.status, failed.value.retry_after_s) == (503, 30.0)
            assert time.monotonic() - started < 10.0

        talk(server.url, once)

    assert len(server.seen) == 1


def test_no_connection_is_asked_again_and_then_told() -> None:
    with closed_port() as url:

        async def once(upstream: Upstream) -> None:
            with pytest.raises(UpstreamFailed, match=r"no answer .* after 3 requests") as failed:
                await upstream.get("/")
            assert failed.value.status is None

        talk(url, once)


def test_a_connection_that_breaks_is_made_again() -> None:
    connections = 0

    async def serve_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections > 1:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve_second, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Upstream(f"http://127.0.0.1:{port}", limits=limits()) as upstream:
            assert (await upstream.get("/")).content == b"ok"

    asyncio.run(run())

    assert connections == 2


def test_a_server_that_hangs_costs_the_deadline_and_no_more() -> None:
    with neighbour(lambda _: Reply(hangs=True)) as server:

        async def once(upstream: Upstream) -> None:
            started = time.monotonic()
            with pytest.raises(UpstreamTimeout) as late:
                await upstream.get("/", timeout_s=0.3)
            assert 0.29 <= late.value.waited_s <= time.monotonic() - started < 10.0

        talk(server.url, once)
        assert server.left.acquire(timeout=20.0)

    assert [200 < int(seen.headers["x-slipway-timeout-ms"]) <= 300 for seen in server.seen] == [True]


def test_servers_that_hang_open_the_breaker() -> None:
    with neighbour(lambda _: Reply(hangs=True)) as server:

        async def many(upstream: Upstream) -> None:
            await asyncio.gather(*(ask(upstream) for _ in range(20)))
            assert await ask(upstream) == "upstream_unavailable"

        talk(server.url, many, limits(breaker=OPENS_AT_20, timeout_s=0.2))


def test_callers_in_a_hurry_do_not_open_the_breaker() -> None:
    """Their deadlines say nothing about the server."""
    with neighbour(lambda _: Reply(hangs=True)) as server:

        async def many(upstream: Upstream) -> None:
            await asyncio.gather(*(ask(upstream) for _ in range(20)))
            assert upstream.statistics().breaker == "closed"

        talk(server.url, many, limits(breaker=OPENS_AT_20, timeout_s=0.02))


def test_a_call_whose_deadline_has_passed_is_not_sent() -> None:
    with neighbour() as server:

        async def late(upstream: Upstream) -> None:
            call = Call(cast("CallEngine", None), time.monotonic() - 1.0, [])
            with pytest.raises(UpstreamTimeout):
                await upstream.get("/", call=call)

        talk(server.url, late)

    assert server.seen == []


def test_a_caller_that_leaves_takes_its_request_along() -> None:
    with neighbour(lambda _: Reply(hangs=True)) as server:

        async def leave(upstream: Upstream) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await upstream.get("/")
            assert upstream.statistics().breaker == "closed"

        talk(server.url, leave)
        assert server.left.acquire(timeout=20.0)


def test_what_cannot_be_sent_is_no_failure_of_the_other_side() -> None:
    with neighbour() as server:

        async def wrong(upstream: Upstream) -> None:
            for _ in range(30):
                with pytest.raises(httpx.LocalProtocolError):
                    await upstream.get("/", headers={"x": "two\nlines"})
            assert upstream.statistics().breaker == "closed"

        talk(server.url, wrong, limits(breaker=OPENS_AT_20))


WALL = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("-1", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, WALL) == seconds
