"""How tickets of a pool end without an answer: refused, expired, cancelled, failed."""

import asyncio

import pytest
from runtime_clock import VirtualLoop
from runtime_fakes import POISON
from runtime_virtual import SLOW, Bench, bench, outcomes, slow

from slipway_runtime import Answer, DeadlineExceeded, Limits, ModelFailed, Refused, RowsExceeded


@pytest.mark.parametrize("rows", [0, 65])
def test_a_ticket_larger_than_a_batch_is_refused_by_name(rows: int) -> None:
    async def main(b: Bench) -> None:
        with pytest.raises(RowsExceeded, match="expected 1 to 64"):
            b.submit(rows=rows)

    bench(main)


def test_one_bad_ticket_of_32_fails_alone() -> None:
    async def main(b: Bench) -> None:
        futures = [b.submit(POISON if at == 13 else b"good %d" % at) for at in range(32)]

        ended = await outcomes(futures)

        failed = [at for at, outcome in enumerate(ended) if isinstance(outcome, ModelFailed)]
        assert failed == [13]
        for at, outcome in enumerate(ended):
            if isinstance(outcome, Answer):
                assert outcome.result[outcome.start] == b"good %d" % at  # type: ignore[index]  # the fake's list
        error = ended[13]
        assert isinstance(error, ModelFailed)
        assert isinstance(error.cause, ValueError)

    for warm_cost in (0.0001, SLOW):
        ran = bench(main, cost=lambda rows, cost=warm_cost: cost)  # type: ignore[misc]  # a default is no parameter
        statistics = ran.pool.statistics()

        assert (statistics.ok, statistics.failed) == (31, 1)
        assert ("failed", "churn", 1) in ran.observer.events


def test_a_bad_ticket_is_isolated_beside_the_loop_also_when_its_batch_ran_on_it() -> None:
    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        jobs = b.background.jobs

        ended = await outcomes([b.submit(b"good"), b.submit(POISON)])

        assert [type(outcome) for outcome in ended] == [Answer, ModelFailed]
        assert b.background.jobs == jobs + 1

    bench(main)


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("is_warm", [True, False])
def test_an_interrupt_in_the_model_fails_its_batch_and_stops_the_loop(
    fatal: type[BaseException], is_warm: bool
) -> None:
    loop = VirtualLoop()
    b = Bench(loop)

    def interrupt(payloads: object, rows: int) -> None:
        raise fatal

    async def main() -> None:
        if is_warm:
            await b.pool.warm(b"warm")
        b.model.before = interrupt
        await outcomes([b.submit(), b.submit()])

    task = loop.create_task(main())
    with pytest.raises(fatal):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    loop.close()

    statistics = b.pool.statistics()
    assert statistics.failed == 2
    assert statistics.is_conserved


def test_an_expired_ticket_is_told_at_its_deadline_and_never_computed() -> None:
    """Also while a batch hangs: the deadline is kept by a timer, not by the end of the batch."""

    async def main(b: Bench) -> None:
        stuck = b.submit(b"stuck", timeout_s=100.0)
        await asyncio.sleep(0.001)
        hopeful = b.submit(b"hopeful", timeout_s=0.5)
        asked = b.loop.time()

        with pytest.raises(DeadlineExceeded) as caught:
            await hopeful

        assert b.loop.time() - asked == pytest.approx(0.5, abs=0.001)
        assert caught.value.waited_s == pytest.approx(0.5, abs=0.001)
        await stuck

    ran = bench(main, cost=lambda rows: 30.0)

    assert b"hopeful" not in ran.model.computed
    assert ("expired", "churn", 1) in ran.observer.events


def test_a_ticket_in_a_hanging_batch_is_told_at_its_deadline() -> None:
    async def main(b: Bench) -> None:
        futures = [b.submit(timeout_s=0.5), b.submit(timeout_s=0.7)]
        started = b.loop.time()

        assert [type(outcome) for outcome in await outcomes(futures)] == [DeadlineExceeded] * 2

        assert b.loop.time() - started == pytest.approx(0.7, abs=0.001)
        statistics = b.pool.statistics()
        assert (statistics.expired, statistics.in_flight) == (2, 0)

    bench(main, cost=lambda rows: 30.0)


def test_a_cancelled_ticket_frees_its_rows_and_is_never_computed() -> None:
    async def main(b: Bench) -> None:
        first = b.submit(b"first")
        await asyncio.sleep(0.001)
        waiting = [b.submit(b"waiting %d" % at) for at in range(4)]

        waiting[2].cancel()
        await asyncio.sleep(0)

        assert b.pool.statistics().queue.rows == 3
        await asyncio.gather(first, *waiting[:2], waiting[3])

    ran = bench(main, cost=slow)

    assert b"waiting 2" not in ran.model.computed
    assert ran.pool.statistics().cancelled == 1


def test_a_ticket_cancelled_in_the_turn_of_its_batch_is_never_computed() -> None:
    async def main(b: Bench) -> None:
        futures = [b.submit(b"a"), b.submit(b"b")]
        futures[0].cancel()

        await futures[1]

    ran = bench(main)

    assert ran.model.computed == [b"b"]


def test_cancelling_in_mid_batch_leaves_the_mates_alone() -> None:
    async def main(b: Bench) -> None:
        futures = [b.submit() for _ in range(8)]
        await asyncio.sleep(SLOW / 2)

        futures[3].cancel()
        ended = await outcomes(futures)

        assert [isinstance(outcome, Answer) for outcome in ended].count(True) == 7

    ran = bench(main, cost=slow)

    assert ran.pool.statistics().cancelled == 1
    assert [event for event in ran.observer.events if event[0] == "answered"] == [("answered", "churn", 7)]


def test_a_full_queue_refuses_with_the_time_to_come_back() -> None:
    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        first = b.submit()
        await asyncio.sleep(0.001)
        waiting = [b.submit() for _ in range(16)]

        with pytest.raises(Refused) as caught:
            b.submit()

        assert caught.value.reason == "queue_full"
        assert caught.value.retry_after_s == pytest.approx(5 * SLOW, rel=0.1)
        await asyncio.gather(first, *waiting)

    ran = bench(main, cost=slow, limits=Limits(max_rows=4, max_queued_rows=16))

    assert ("refused", "churn", "queue_full") in ran.observer.events
    assert ran.pool.statistics().refused["queue_full"] == 1


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door() -> None:
    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        waiting = [b.submit() for _ in range(40)]
        await asyncio.sleep(0.001)

        with pytest.raises(Refused) as caught:
            b.submit(timeout_s=SLOW)

        assert caught.value.reason == "deadline"
        await asyncio.gather(*waiting)

    bench(main, cost=slow, limits=Limits(max_rows=4))


def test_a_pool_whose_first_batch_was_cold_recovers() -> None:
    """The first batch takes 30 s, every deadline is 1 s: the probe after it finds the model fast, and all is well."""
    costs = iter([30.0])

    async def main(b: Bench) -> None:
        await outcomes([b.submit(timeout_s=1.0)])
        await asyncio.sleep(60.0)
        await b.submit(timeout_s=1.0)

        answers = await asyncio.gather(*[b.submit(timeout_s=1.0) for _ in range(64)])

        assert len(answers) == 64

    bench(main, cost=lambda rows: next(costs, 0.005))


def test_a_ticket_that_is_lost_is_told_before_its_deadline_and_never_computed() -> None:
    """A batch takes longer than predicted: when it lands, what can no longer be answered in time makes room at once."""

    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        b.model.cost = lambda rows: 0.045
        first = b.submit(b"first")
        await asyncio.sleep(0.001)
        b.model.cost = slow
        lost, patient = b.submit(b"lost", timeout_s=0.050), b.submit(b"patient")
        asked = b.loop.time()

        with pytest.raises(DeadlineExceeded):
            await lost

        assert b.loop.time() - asked < 0.047
        await asyncio.gather(first, patient)

    ran = bench(main, cost=slow)

    assert b"lost" not in ran.model.computed
