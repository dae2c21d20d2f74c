"""Any interleaving of submits, cancels, expiries, poison and batches: no ticket is lost, doubled, wrongly computed."""

import asyncio
import random
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from runtime_clock import VirtualBackground, VirtualLoop
from runtime_fakes import POISON, FakeModel, Recorder

from slipway_runtime import Answer, DeadlineExceeded, Limits, ModelFailed, Pool, Refused

LIMITS = Limits(max_rows=8, max_queued_rows=40)


class Ledger:
    """A pool on a virtual loop beside the client's own account of every ticket."""

    def __init__(self, cost_s: float) -> None:
        self.loop = VirtualLoop()
        self.cost_s = cost_s
        self.model = FakeModel(self.loop, lambda rows: self.cost_s + 0.0001 * rows)
        self.model.before = self.check_batch
        self.observer = Recorder()
        self.pool = Pool(
            "m",
            self.model,
            limits=LIMITS,
            clock=self.loop.time,
            observer=self.observer,
            background=VirtualBackground(self.loop),
        )
        self.futures: dict[bytes, asyncio.Future[Answer]] = {}
        self.rows: dict[bytes, int] = {}
        self.refused = 0

    def check_batch(self, payloads: Sequence[bytes], rows: int) -> None:
        assert 1 <= rows <= LIMITS.max_rows
        assert rows == sum(self.rows[payload] for payload in payloads)
        assert len(set(payloads)) == len(payloads)
        assert not any(self.futures[payload].done() for payload in payloads)

    def submit(self, rows: int, timeout_s: float, *, is_poison: bool = False) -> None:
        payload = (POISON if is_poison else b"good") + b" %d" % len(self.rows)
        self.rows[payload] = rows

        async def one() -> None:
            try:
                self.futures[payload] = self.pool.submit_nowait(payload, rows, self.loop.time() + timeout_s)
            except Refused:
                self.refused += 1

        self.loop.run_until_complete(one())

    def cancel(self, pick: int) -> None:
        if self.futures:
            list(self.futures.values())[pick % len(self.futures)].cancel()

    def step(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def check_answers(self) -> None:
        for payload, future in self.futures.items():
            if not future.done() or future.cancelled():
                continue
            error = future.exception()
            if error is None:
                answer = future.result()
                assert answer.stop - answer.start == self.rows[payload]
                assert payload in answer.result  # type: ignore[operator]  # the fake's list
                assert not payload.startswith(POISON)
            elif isinstance(error, ModelFailed):
                assert payload.startswith(POISON)
            else:
                assert isinstance(error, DeadlineExceeded)

    def close(self) -> None:
        """Drain; then the pool's account must be the client's."""
        self.loop.run_until_complete(self.pool.drain(1000.0))
        self.step(0.0)
        self.check_answers()
        ended = list(self.futures.values())
        assert all(future.done() for future in ended)
        statistics = self.pool.statistics()
        kinds = [type(future.exception()) for future in ended if not future.cancelled()]
        assert statistics.is_conserved
        assert statistics.queue.rows == statistics.in_flight == 0
        assert statistics.admitted == len(ended)
        assert statistics.ok == kinds.count(type(None))
        assert statistics.failed == kinds.count(ModelFailed)
        assert statistics.expired == kinds.count(DeadlineExceeded)
        assert statistics.cancelled == sum(future.cancelled() for future in ended)
        assert sum(statistics.refused.values()) == self.refused
        names = [event[0] for event in self.observer.events]
        assert names.count("admitted") == statistics.admitted
        assert names.count("expired") == statistics.expired
        assert names.count("cancelled") == statistics.cancelled
        assert names.count("failed") == statistics.failed
        self.loop.close()


class PoolMachine(RuleBasedStateMachine):
    """Hypothesis chooses what happens next, and for how long the loop runs in between."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(0.0001)

    @rule(rows=st.integers(1, 8), timeout_ms=st.sampled_from([0, 1, 3, 10, 100, 1000]), is_poison=st.booleans())
    def submit(self, rows: int, timeout_ms: int, is_poison: bool) -> None:
        self.ledger.submit(rows, timeout_ms / 1000, is_poison=is_poison)

    @rule(count=st.integers(1, 30))
    def submit_many(self, count: int) -> None:
        for _ in range(count):
            self.ledger.submit(1, 0.050)

    @rule(pick=st.integers(0, 1000))
    def cancel(self, pick: int) -> None:
        self.ledger.cancel(pick)

    @rule(cost_s=st.sampled_from([0.0001, 0.005, 0.050, 2.0]))
    def change_cost(self, cost_s: float) -> None:
        self.ledger.cost_s = cost_s

    @rule(micros=st.sampled_from([0, 5, 20, 500, 10_000, 3_000_000]))
    def step(self, micros: int) -> None:
        self.ledger.step(micros / 1e6)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.ledger.pool.statistics().is_conserved
        self.ledger.check_answers()

    def teardown(self) -> None:
        self.ledger.close()


PoolMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPoolInAnyInterleaving = PoolMachine.TestCase


def test_ten_thousand_random_cancellations_lose_nobody() -> None:
    source = random.Random(11)  # noqa: S311
    ledger = Ledger(0.005)
    cancelled = 0

    while cancelled < 10_000:
        newest = len(ledger.rows)
        for _ in range(source.randrange(1, 20)):
            ledger.submit(source.randrange(1, 4), 10.0)
        if source.random() < 0.5:
            ledger.step(source.choice([0.0, 5e-6, 0.002, 0.006]))
        fresh = list(ledger.futures.values())[-(len(ledger.rows) - newest) :]
        for future in source.sample(fresh, source.randrange(len(fresh) + 1)):
            cancelled += future.cancel()
        if source.random() < 0.5:
            ledger.step(source.choice([0.0, 5e-6, 0.002, 0.006]))

    ledger.close()
    assert ledger.pool.statistics().cancelled == cancelled
