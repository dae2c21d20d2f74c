"""A pool on a virtual loop with everything around it, for tests of how its tickets end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from runtime_clock import VirtualBackground, VirtualLoop, in_virtual_time
from runtime_fakes import FakeModel, Recorder

from slipway_runtime import Answer, Limits, Pool

SLOW = 0.020
"""Seconds of a batch that is too long for the event loop."""


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
