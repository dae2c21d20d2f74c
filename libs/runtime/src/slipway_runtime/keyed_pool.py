"""The in-process lane of a model whose rows come in several shapes: one pool for each key, one thread for all.

It decides nothing: each key's `Pool` does, as for a model of one shape. The invariants: rows of different keys never
share a batch; batches of all keys are computed one after another, in one thread; at most `KEYS` keys are remembered,
and one with work is never forgotten.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias, cast

import msgspec

from slipway_runtime.background import ComputeThread
from slipway_runtime.observer import Observer
from slipway_runtime.pool import Pool
from slipway_runtime.request import Answer, Limits
from slipway_runtime.tally import DrainReport

__all__ = ["KeyedCompute", "KeyedPool"]

KeyedCompute: TypeAlias = Callable[[bytes, Sequence[bytes | memoryview], int], object]
"""A key, payloads of a batch and the rows in all of them → one result whose leading axis is those rows."""

KEYS: Final = 256
"""Keys of one model that are remembered; free dimensions could make any number of them."""


class KeyedPool:
    """Batches tickets of one model, key by key. Every method runs on the event loop's thread.

    Args:
        name: The model's name.
        compute: What computes a batch of one key; sync, free of side effects, any thread.
        limits: Bounds of each key's pool; nothing runs on the event loop, whatever `inline_s` says.
        clock: Monotonic seconds, the clock of all deadlines.
        observer: Told of every event, or None.
    """

    def __init__(
        self,
        name: str,
        compute: KeyedCompute,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.limits = msgspec.structs.replace(limits or Limits(), inline_s=0.0)
        self._compute = compute
        self._clock = clock
        self._observer = observer
        self._pools: dict[bytes, Pool] = {}
        self._thread: ComputeThread | None = None
        self._is_draining = False

    def submit_nowait(
        self, payload: bytes | memoryview, rows: int, deadline: float, key: bytes = b""
    ) -> "asyncio.Future[Answer]":
        """Admit one ticket to the pool of its key; see `Pool.submit_nowait`."""
        return self._pool(key).submit_nowait(cast("bytes", payload), rows, deadline)

    async def warm(self, payload: bytes | memoryview, rows: int = 1, *, key: bytes = b"", budget_s: float = 2.0) -> int:
        """Measure compute for one key; see `Pool.warm`."""
        return await self._pool(key).warm(cast("bytes", payload), rows, budget_s=budget_s)

    async def drain(self, timeout_s: float) -> DrainReport:
        """Refuse what comes, finish what waits for any key, stop the thread; see `Pool.drain`."""
        self._is_draining = True
        started = self._clock()
        reports = await asyncio.gather(*(pool.drain(timeout_s) for pool in self._pools.values()))
        if self._thread is not None:
            self._thread.close()
        return DrainReport(
            is_clean=all(report.is_clean for report in reports),
            abandoned=sum(report.abandoned for report in reports),
            took_s=self._clock() - started,
        )

    def _pool(self, key: bytes) -> Pool:
        pool = self._pools.pop(key, None)
        if pool is None:
            self._forget()
            pool = Pool(
                self.name,
                partial(self._compute, key),
                limits=self.limits,
                clock=self._clock,
                observer=self._observer,
                background=_Borrowed(self._shared()),
            )
        self._pools[key] = pool  # the one used last is the last
        return pool

    def _shared(self) -> ComputeThread:
        if self._thread is None:
            self._thread = ComputeThread(asyncio.get_running_loop(), self.name)
        return self._thread

    def _forget(self) -> None:
        """Make room: drop the idle pool that was used least recently."""
        if len(self._pools) < KEYS:
            return
        for key, pool in self._pools.items():
            statistics = pool.statistics()
            if not statistics.queue.tickets and not statistics.in_flight:
                del self._pools[key]
                return


class _Borrowed:
    """The thread that all keys share, without the right to end it."""

    __slots__ = ("_thread",)

    def __init__(self, thread: ComputeThread) -> None:
        self._thread = thread

    def start(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Run `job` in the thread, then `done` on the event loop."""
        self._thread.start(job, done)

    def close(self) -> None:
        """The thread goes on: other keys use it."""
