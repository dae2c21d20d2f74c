"""Several batches under way at once: on a virtual loop, where only the order of events counts, and in real threads."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_clock import VirtualBackground, VirtualLoop, in_virtual_time
from runtime_fakes import Recorder
from runtime_virtual import outcomes

from slipway_runtime import Answer, DeadlineExceeded, Limits, ModelFailed, Refused, RowsExceeded
from slipway_runtime.concurrent_pool import ConcurrentPool

POISON = b"poison"
asking: ContextVar[object] = ContextVar("asking", default=None)
LATE = 0.001
"""How much later than its deadline a ticket may hear of it: turns of the virtual loop."""


class Down(Exception):
    """The far end cannot be reached."""


class FarModel:
    """Answers the payloads; remembers its calls: when, key, payloads, seconds left."""

    def __init__(self, loop: VirtualLoop, cost: Callable[[int], float]) -> None:
        self.loop = loop
        self.cost = cost
        self.is_down = False
        self.calls: list[tuple[float, bytes, list[bytes], float]] = []
        self.callers: list[list[object]] = []

    def __call__(
        self, key: bytes, payloads: Sequence[bytes], rows: int, left_s: float, callers: Sequence[object]
    ) -> object:
        self.calls.append((self.loop.time(), key, list(payloads), left_s))
        self.callers.append(list(callers))
        self.loop.spend(self.cost(rows))
        if self.is_down:
            raise Down("no route")
        if any(payload.startswith(POISON) for payload in payloads):
            raise ValueError("bad row")
        return list(payloads)

    @property
    def computed(self) -> list[bytes]:
        return [payload for _, _, payloads, _ in self.calls for payload in payloads]


class Bench:
    """A pool on a virtual loop, with everything around it."""

    def __init__(self, loop: VirtualLoop, cost: Callable[[int], float], limits: Limits, concurrency: int) -> None:
        self.loop = loop
        self.model = FarModel(loop, cost)
        self.observer = Recorder()
        self.pool = ConcurrentPool(
            "far",
            self.model,
            concurrency=concurrency,
            limits=limits,
            unblamed=(Down,),
            caller=asking.get,
            clock=loop.time,
            observer=self.observer,
            make_background=lambda loop, name: VirtualBackground(self.loop),
        )

    def submit(
        self, payload: bytes = b"row", timeout_s: float = 60.0, key: bytes = b"", rows: int = 1
    ) -> "asyncio.Future[Answer]":
        return self.pool.submit_nowait(payload, rows, self.loop.time() + timeout_s, key)


def bench(
    main: Callable[[Bench], Coroutine[Any, Any, None]],
    cost: Callable[[int], float] = lambda rows: 0.01,
    concurrency: int = 2,
    **limits: Any,
) -> Bench:
    """Run `main` on a fresh bench; nothing may be lost when it ends."""
    made: list[Bench] = []

    async def run(loop: VirtualLoop) -> None:
        raised: list[object] = []
        loop.set_exception_handler(lambda _, context: raised.append(context))
        made.append(Bench(loop, cost, Limits(**{"gather_s": 0.0, **limits}), concurrency))
        await main(made[0])
        assert made[0].pool.statistics().is_conserved
        assert raised == []

    in_virtual_time(run)
    return made[0]


def second(rows: int) -> float:
    return 1.0


def test_as_many_batches_are_under_way_as_there_are_threads() -> None:
    async def main(made: Bench) -> None:
        futures = [made.submit(b"%d" % number) for number in range(5)]
        await asyncio.gather(*futures)

    made = bench(main, second, concurrency=2, max_rows=1)

    starts = [round(at - made.model.calls[0][0]) for at, _, _, _ in made.model.calls]
    assert starts == [0, 0, 1, 1, 2]
    assert made.model.computed == [b"0", b"1", b"2", b"3", b"4"]


def test_what_waits_leaves_together() -> None:
    async def main(made: Bench) -> None:
        futures = [made.submit(b"%d" % number) for number in range(6)]
        answers = await asyncio.gather(*futures)
        assert [answer.result[answer.start] for answer in answers] == [b"%d" % number for number in range(6)]  # type: ignore[index]  # a list

    made = bench(main, concurrency=1, max_rows=8)

    assert [payloads for _, _, payloads, _ in made.model.calls] == [[b"%d" % number for number in range(6)]]


def test_rows_of_different_keys_never_share_a_batch() -> None:
    async def main(made: Bench) -> None:
        await asyncio.gather(*(made.submit(key, key=key) for key in (b"a", b"b", b"a", b"b", b"a")))

    made = bench(main, concurrency=1, max_rows=8)

    assert sorted((key, len(payloads)) for _, key, payloads, _ in made.model.calls) == [(b"a", 3), (b"b", 2)]
    assert all(set(payloads) == {key} for _, key, payloads, _ in made.model.calls)


def test_compute_is_told_how_long_the_last_of_its_callers_waits() -> None:
    async def main(made: Bench) -> None:
        await asyncio.gather(made.submit(timeout_s=5), made.submit(timeout_s=9))

    made = bench(main, concurrency=1)

    assert made.model.calls[0][3] == pytest.approx(9, abs=LATE)


def test_one_bad_ticket_fails_alone() -> None:
    async def main(made: Bench) -> None:
        good, bad, fine = await outcomes([made.submit(b"a"), made.submit(POISON), made.submit(b"b")])
        assert isinstance(good, Answer)
        assert isinstance(fine, Answer)
        assert isinstance(bad, ModelFailed)
        assert isinstance(bad.cause, ValueError)

    made = bench(main, concurrency=1)

    assert made.pool.statistics().failed == 1
    assert made.pool.statistics().costs == ()  # a bisection's time is no batch's
    assert ("failed", "far", 1) in made.observer.events


def test_an_error_that_is_not_the_rows_fault_fails_the_batch_after_one_call() -> None:
    async def main(made: Bench) -> None:
        made.model.is_down = True
        ended = await outcomes([made.submit(b"%d" % number) for number in range(8)])
        assert all(isinstance(error, ModelFailed) and isinstance(error.cause, Down) for error in ended)
        assert len(made.model.calls) == 1
        made.model.is_down = False
        await made.submit(b"again")

    made = bench(main, concurrency=1)

    assert made.pool.statistics().failed == 8
    assert made.pool.statistics().ok == 1


def test_a_far_end_that_goes_away_while_a_bad_row_is_looked_for_is_not_asked_on() -> None:
    async def main(made: Bench) -> None:
        def cost(rows: int) -> float:
            made.model.is_down = len(made.model.calls) > 1
            return 0.01

        made.model.cost = cost
        ended = await outcomes([made.submit(POISON), *(made.submit() for _ in range(7))])
        assert all(isinstance(error, ModelFailed) and isinstance(error.cause, Down) for error in ended)

    made = bench(main, concurrency=1)

    assert len(made.model.calls) == 2


def test_a_deadline_is_told_on_time_while_its_batch_hangs() -> None:
    async def main(made: Bench) -> None:
        started = made.loop.time()
        under_way, waiting = made.submit(b"a", timeout_s=3), made.submit(b"b", timeout_s=2)
        for future, after_s in ((waiting, 2), (under_way, 3)):
            with pytest.raises(DeadlineExceeded):
                await future
            assert made.loop.time() - started == pytest.approx(after_s, abs=LATE)

    made = bench(main, lambda rows: 1000.0, concurrency=1, max_rows=1)

    assert made.model.computed in ([b"a"], [b"b"])
    assert made.pool.statistics().expired == 2


def test_each_deadline_of_one_batch_is_told_on_time() -> None:
    async def main(made: Bench) -> None:
        started = made.loop.time()
        futures = [made.submit(timeout_s=after_s) for after_s in (2, 3)]
        for future, after_s in zip(futures, (2, 3), strict=True):
            with pytest.raises(DeadlineExceeded):
                await future
            assert made.loop.time() - started == pytest.approx(after_s, abs=LATE)

    made = bench(main, lambda rows: 1000.0, concurrency=1)

    assert len(made.model.calls) == 1


def test_what_was_cancelled_is_never_computed() -> None:
    async def main(made: Bench) -> None:
        first = made.submit(b"first")
        made.submit(b"at once").cancel()
        await asyncio.sleep(0.1)
        waiting = made.submit(b"waiting")
        await asyncio.sleep(0.1)
        waiting.cancel()
        await first
        await made.submit(b"last")

    made = bench(main, second, concurrency=1, max_rows=1)

    assert made.model.computed == [b"first", b"last"]
    assert made.pool.statistics().cancelled == 2


def test_a_batch_whose_callers_all_left_in_the_same_turn_is_not_sent_and_teaches_nothing() -> None:
    async def main(made: Bench) -> None:
        made.submit(b"gone").cancel()
        await asyncio.sleep(0.1)
        assert made.pool.statistics().costs == ()
        await made.submit(b"here")

    made = bench(main, concurrency=1)

    assert made.model.computed == [b"here"]


def test_a_full_queue_and_a_ticket_too_large_are_refused() -> None:
    async def main(made: Bench) -> None:
        held = [made.submit() for _ in range(2)]
        await asyncio.sleep(0)
        held += [made.submit() for _ in range(2)]
        with pytest.raises(Refused, match="its queue is full") as full:
            made.submit()
        assert full.value.reason == "queue_full"
        with pytest.raises(RowsExceeded):
            made.submit(rows=3)
        await asyncio.gather(*held)

    made = bench(main, second, concurrency=2, max_rows=1, max_queued_rows=2)

    assert made.pool.statistics().refused["queue_full"] == 1


def test_after_a_warm_up_a_deadline_that_cannot_be_met_is_refused() -> None:
    async def main(made: Bench) -> None:
        assert await made.pool.warm(b"row", budget_s=10) > 0
        under_way = [made.submit() for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            made.submit(timeout_s=1.5)
        assert refused.value.reason == "deadline"
        await asyncio.gather(*under_way, made.submit(timeout_s=2.5))

    bench(main, second, max_rows=1)


def test_a_warm_up_that_fails_says_why() -> None:
    async def main(made: Bench) -> None:
        with pytest.raises(ModelFailed) as failed:
            await made.pool.warm(POISON)
        assert isinstance(failed.value.cause, ValueError)
        with pytest.raises(RowsExceeded):
            await made.pool.warm(b"row", rows=1000)

    bench(main)


def test_a_drain_finishes_what_came_and_refuses_what_comes() -> None:
    async def main(made: Bench) -> None:
        futures = [made.submit(b"%d" % number) for number in range(5)]
        draining = asyncio.ensure_future(made.pool.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            made.submit()
        assert refused.value.reason == "draining"
        report = await draining
        assert report.is_clean
        assert all(future.done() for future in futures)
        assert (await made.pool.drain(60)).is_clean

    made = bench(main, second, concurrency=2, max_rows=1)

    assert made.pool.statistics().ok == 5


def test_a_drain_that_runs_out_of_time_tells_everybody() -> None:
    async def main(made: Bench) -> None:
        futures = [made.submit(payload, timeout_s=600) for payload in (b"0", POISON, b"2", b"3")]
        await asyncio.sleep(0.1)
        report = await made.pool.drain(5)
        assert (report.is_clean, report.abandoned) == (False, 4)
        assert all(isinstance(error, DeadlineExceeded) for error in await outcomes(futures))
        await asyncio.sleep(1000)  # the batches come back to a pool that is over

    made = bench(main, lambda rows: 500.0, concurrency=2, max_rows=1)

    assert len(made.model.calls) == 2


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["submit", "submit", "submit", "cancel", "pass", "poison", "down", "up"]),
            st.floats(0.0005, 3.0),
            st.integers(0, 2),
        ),
        max_size=40,
    ),
    concurrency=st.integers(1, 4),
    max_rows=st.integers(1, 4),
)
def test_every_ticket_ends_once_whatever_happens(
    steps: list[tuple[str, float, int]], concurrency: int, max_rows: int
) -> None:
    async def main(made: Bench) -> None:
        futures: list[asyncio.Future[Answer]] = []
        for number, (step, seconds, key) in enumerate(steps):
            match step:
                case "submit" | "poison":
                    payload = POISON if step == "poison" else b"%d" % number
                    with contextlib.suppress(Refused):
                        futures.append(made.submit(payload, timeout_s=seconds, key=b"k" * key))
                case "cancel" if futures:
                    futures[key % len(futures)].cancel()
                case "pass":
                    await asyncio.sleep(seconds / 10)
                case _:
                    made.model.is_down = step == "down"
            assert made.pool.statistics().is_conserved
        await made.pool.drain(100)
        assert all(future.done() for future in futures)
        for ended in await outcomes(futures):
            assert isinstance(ended, Answer | ModelFailed | DeadlineExceeded | asyncio.CancelledError)

    made = bench(main, lambda rows: 0.05 * rows, concurrency, max_rows=max_rows, max_queued_rows=16)

    assert max((len(payloads) for _, _, payloads, _ in made.model.calls), default=0) <= max_rows


def test_real_threads_wait_side_by_side() -> None:
    """Each call waits for two others: with fewer threads nobody would be answered."""
    together = threading.Barrier(3)

    def compute(key: bytes, payloads: Sequence[bytes], rows: int, left_s: float, callers: Sequence[object]) -> object:
        together.wait(left_s)
        return list(payloads)

    async def main() -> list[Answer]:
        limits = Limits(max_rows=1, gather_s=0.0)
        pool = ConcurrentPool("far", compute, concurrency=3, limits=limits, unblamed=(threading.BrokenBarrierError,))
        deadline = pool._clock() + 20
        answers = await asyncio.gather(*(pool.submit_nowait(b"%d" % number, 1, deadline) for number in range(6)))
        assert (await pool.drain(20)).is_clean
        return answers

    assert [answer.result for answer in asyncio.run(main())] == [[b"%d" % number] for number in range(6)]
