"""The life of a pool: its warm-up and its drain."""

import asyncio

import pytest
from runtime_fakes import POISON
from runtime_virtual import Bench, bench, outcomes, slow

from slipway_runtime import DeadlineExceeded, Limits, ModelFailed, Refused


def test_a_warm_up_teaches_the_table_and_makes_tickets_wait() -> None:
    async def main(b: Bench) -> None:
        warming = asyncio.ensure_future(b.pool.warm(b"warm"))
        await asyncio.sleep(0)
        answer = await b.submit(b"row")

        assert await warming == 21
        assert answer.result == [b"row"]
        assert [round(point.rows) for point in b.pool.statistics().costs] == [1, 2, 4, 8, 16, 32, 64]

    bench(main)


def test_a_warm_up_keeps_its_budget() -> None:
    async def main(b: Bench) -> None:
        started = b.loop.time()

        measured = await b.pool.warm(b"warm", budget_s=1.0)

        assert measured >= 1
        assert b.loop.time() - started < 2.0

    bench(main, cost=lambda rows: 0.4)


def test_a_warm_up_with_a_bad_payload_tells_so_and_the_pool_goes_on() -> None:
    async def main(b: Bench) -> None:
        with pytest.raises(ModelFailed):
            await b.pool.warm(POISON)

        await b.submit()

    bench(main)


def test_a_drain_finishes_what_waits_and_refuses_what_comes() -> None:
    async def main(b: Bench) -> None:
        futures = [b.submit() for _ in range(10)]
        draining = asyncio.ensure_future(b.pool.drain(10.0))
        await asyncio.sleep(0)

        with pytest.raises(Refused) as caught:
            b.submit()
        report = await draining

        assert caught.value.reason == "draining"
        assert report.is_clean
        assert all(future.done() for future in futures)
        assert b.background.is_closed

    ran = bench(main, cost=slow, limits=Limits(max_rows=4))

    assert ran.pool.statistics().ok == 10


def test_a_drain_may_be_asked_for_again() -> None:
    async def main(b: Bench) -> None:
        b.submit()

        reports = await asyncio.gather(b.pool.drain(5.0), b.pool.drain(5.0))
        again = await b.pool.drain(0.0)

        assert all(report.is_clean for report in [*reports, again])

    bench(main, cost=slow)


def test_a_drain_that_runs_out_of_time_gives_everybody_an_end() -> None:
    async def main(b: Bench) -> None:
        futures = [b.submit() for _ in range(8)]
        await asyncio.sleep(0.001)

        report = await b.pool.drain(1.0)

        assert (report.is_clean, report.abandoned) == (False, 8)
        assert [type(outcome) for outcome in await outcomes(futures)] == [DeadlineExceeded] * 8
        assert b.pool.statistics().is_conserved

    bench(main, cost=lambda rows: 30.0, limits=Limits(max_rows=4))


def test_a_pool_drains_empty_at_once() -> None:
    async def main(b: Bench) -> None:
        report = await b.pool.drain(10.0)

        assert report.is_clean
        assert report.took_s < 0.001

    bench(main)


def test_a_drain_does_not_wait_for_a_ticket_that_was_cancelled_as_it_began() -> None:
    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")

        async def client(number: int) -> None:
            await asyncio.sleep(0.001 * number)
            await b.submit()

        for _ in range(4):
            await asyncio.gather(*[client(number) for number in range(8)])
        gathering = b.submit()
        await asyncio.sleep(0.0005)
        assert b.pool._nap.at < float("inf")  # waits for company, by a timer

        gathering.cancel()
        report = await b.pool.drain(10.0)

        assert report.is_clean
        assert report.took_s < 0.001

    bench(main, cost=slow)


def test_a_drain_ends_when_the_last_ticket_is_cancelled() -> None:
    async def main(b: Bench) -> None:
        stuck = b.submit(timeout_s=1.0)
        await asyncio.sleep(0.001)
        waiting = b.submit()
        draining = asyncio.ensure_future(b.pool.drain(1000.0))
        await asyncio.sleep(0.001)
        waiting.cancel()

        report = await draining

        assert report.is_clean
        assert isinstance((await outcomes([stuck]))[0], DeadlineExceeded)

    bench(main, cost=lambda rows: 30.0)
