"""The in-process pool in virtual time: when batches leave, how large, and where they run."""

import asyncio

from runtime_virtual import SLOW, Bench, bench, slow

from slipway_runtime import Limits


def test_tickets_of_one_turn_leave_together_and_know_their_rows() -> None:
    async def main(b: Bench) -> None:
        answers = await asyncio.gather(b.submit(b"a"), b.submit(b"b", rows=3), b.submit(b"c"))

        assert [(answer.start, answer.stop) for answer in answers] == [(0, 1), (1, 4), (4, 5)]
        assert all(answer.result is answers[0].result for answer in answers)

    ran = bench(main)

    assert ran.model.calls == [([b"a", b"b", b"c"], 5)]
    assert [event[0] for event in ran.observer.events] == ["admitted"] * 3 + ["answered", "batch"]


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

        assert b.pool.statistics().batches["deadline"] == 0  # it did not have to shrink for the hurry
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
