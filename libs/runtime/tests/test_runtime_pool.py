"""The in-process pool in virtual time: how tickets end, and where batches run."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from runtime_clock import VirtualBackground, VirtualLoop, in_virtual_time
from runtime_fakes import POISON, FakeModel, Recorder

from slipway_runtime import Answer, DeadlineExceeded, Limits, ModelFailed, Pool, Refused, RowsExceeded

SLOW = 0.020


class Bench:
    """A pool on a virtual loop, with everything around it."""

    def __init__(
        self, loop: VirtualLoop, cost: Callable[[int], float] = lambda rows: 0.0001, limits: Limits | None = None
    ) -> None:
        self.loop = loop
        self.model = FakeModel(loop, cost)
        self.observer = Recorder()
        self.background = VirtualBackground(loop)
        self.pool = Pool(
            "churn", self.model, limits=limits, clock=loop.time, observer=self.observer, background=self.background
        )

    def submit(self, payload: bytes = b"row", rows: int = 1, timeout_s: float = 60.0) -> "asyncio.Future[Answer]":
        return self.pool.submit_nowait(payload, rows, self.loop.time() + timeout_s)


def bench(
    main: Callable[[Bench], Coroutine[Any, Any, None]],
    cost: Callable[[int], float] = lambda rows: 0.0001,
    limits: Limits | None = None,
) -> Bench:
    """Run `main` on a fresh bench; nothing may be lost when it ends."""
    made: list[Bench] = []

    async def run(loop: VirtualLoop) -> None:
        made.append(Bench(loop, cost, limits))
        await main(made[0])
        assert made[0].pool.statistics().is_conserved

    in_virtual_time(run)
    return made[0]


def slow(rows: int) -> float:
    return SLOW


async def outcomes(futures: list["asyncio.Future[Answer]"]) -> list[Answer | BaseException]:
    return await asyncio.gather(*futures, return_exceptions=True)


def test_tickets_of_one_turn_leave_together_and_know_their_rows() -> None:
    async def main(b: Bench) -> None:
        answers = await asyncio.gather(b.submit(b"a"), b.submit(b"b", rows=3), b.submit(b"c"))

        assert [(answer.start, answer.stop) for answer in answers] == [(0, 1), (1, 4), (4, 5)]
        assert all(answer.result is answers[0].result for answer in answers)

    ran = bench(main)

    assert ran.model.calls == [([b"a", b"b", b"c"], 5)]
    assert [event[0] for event in ran.observer.events] == ["admitted"] * 3 + ["batch"]


def test_one_client_alone_waits_for_nothing() -> None:
    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        for _ in range(20):
            asked = b.loop.time()
            await b.submit()
            # one turn to send, one to wake the caller
            assert b.loop.time() - asked < 0.0001 + 15e-6

    bench(main)


def test_a_batch_never_holds_more_than_max_rows() -> None:
    async def main(b: Bench) -> None:
        await asyncio.gather(*[b.submit(rows=rows) for rows in (3, 3, 3, 8, 1, 7, 2)])

    ran = bench(main, limits=Limits(max_rows=8))

    assert max(rows for _, rows in ran.model.calls) <= 8


@pytest.mark.parametrize("rows", [0, 65])
def test_a_ticket_larger_than_a_batch_is_refused_by_name(rows: int) -> None:
    async def main(b: Bench) -> None:
        with pytest.raises(RowsExceeded, match="expected 1 to 64"):
            b.submit(rows=rows)

    bench(main)


def test_short_batches_run_on_the_loop_and_long_ones_beside_it() -> None:
    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        await b.submit()

    short, long = bench(main), bench(main, cost=slow)

    assert short.background.jobs == 1  # the warm-up
    assert long.background.jobs == 2
    assert short.pool.statistics().is_inline
    assert not long.pool.statistics().is_inline


def test_the_loop_stays_alive_while_a_long_batch_runs_and_the_next_batch_binds_late() -> None:
    async def main(b: Bench) -> None:
        first = b.submit(b"first")
        await asyncio.sleep(SLOW / 4)
        late = [b.submit(b"late %d" % at) for at in range(5)]
        await asyncio.sleep(SLOW / 4)
        assert not first.done()

        await asyncio.gather(first, *late)

    ran = bench(main, cost=slow)

    assert [rows for _, rows in ran.model.calls] == [1, 5]


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


def test_an_urgent_ticket_ends_the_gathering_in_time() -> None:
    """Sixteen clients are expected back; one returns, then one with a near deadline: both leave for that deadline."""

    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        for _ in range(4):
            await asyncio.gather(*[b.submit() for _ in range(16)])
            await asyncio.sleep(0.002)
        patient = b.submit()
        await asyncio.sleep(0)

        await b.submit(timeout_s=0.0205)

        assert b.pool.statistics().expired == 0
        await patient

    bench(main, cost=slow)


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


def test_free_turns_end_in_time_for_the_earliest_deadline() -> None:
    """Sixty-four clients are expected and one comes in every turn, but the first of them is in a hurry."""

    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        for _ in range(4):
            await asyncio.gather(*[b.submit() for _ in range(64)])
        urgent = b.submit(timeout_s=0.025)
        trickle = []
        for _ in range(60):
            b.loop.spend(0.0002)
            trickle.append(b.submit())
            await asyncio.sleep(0)

        await urgent

        assert b.pool.statistics().expired == 0
        await asyncio.gather(*trickle)

    bench(main, cost=lambda rows: 0.0003 * rows)


def test_switched_off_batching_computes_one_row_at_a_time() -> None:
    async def main(b: Bench) -> None:
        await asyncio.gather(*[b.submit() for _ in range(5)])

    ran = bench(main, limits=Limits(max_rows=1))

    assert [rows for _, rows in ran.model.calls] == [1] * 5


def test_clients_in_a_closed_loop_are_gathered_into_one_batch() -> None:
    """Eight clients that ask again at once share every batch after the first two, beside the loop and on it."""

    async def main(b: Bench) -> None:
        await b.pool.warm(b"warm")
        calls = len(b.model.calls)

        async def client(number: int) -> None:
            for _ in range(20):
                await b.submit()
                await asyncio.sleep(20e-6 * (1 + number))

        await asyncio.gather(*[client(number) for number in range(8)])

        sizes = [rows for _, rows in b.model.calls[calls:]]
        assert sum(sizes) == 160
        assert len(sizes) <= 24

    bench(main, cost=lambda rows: 0.005 + 0.0001 * rows)


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
