"""Asks the shadow what stable has answered, after the user has the answer: bounded, beside the way of requests.

It judges nothing: it says what became of each pair. The invariants: an offer never waits; what is waiting is bounded in
number and bytes, and what finds no room is dropped and counted; the shadow's answer goes nowhere; a copy's time counts
from the moment it was due, so a shadow that is slow cannot hide it by making copies wait (coordinated omission).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from slipway_serve.split.answered import Answered
from slipway_serve.split.arm_client import ArmClient, ArmFailed
from slipway_serve.split.config import ShadowConfig
from slipway_serve.split.request import SHADOW, Request, request_headers
from slipway_serve.watching import SYNTHETIC_HEADER

__all__ = ["Copy", "Tee"]

logger = logging.getLogger(__name__)

MEBIBYTE: Final = 1 << 20
SYNTHETIC: Final = (SYNTHETIC_HEADER, b"1")


class Copy(NamedTuple):
    """One request that stable has answered, and the same for the shadow."""

    request: Request
    stable: Answered
    is_judged: bool
    due: float
    """On the loop's clock."""

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.request.body) + len(self.stable.body or b"")


Told = Callable[[Copy, Answered | None, float], None]
"""Hears of each copy that ended: the shadow's answer, None when it was not sent; seconds that it was sent late."""


class Tee:
    """The copies of one configuration. Event loop only.

    Args:
        config: of `[shadow]`.
        client: connections to the shadow.
        dropped: headers that stop here.
        told: hears of each copy; must not wait or raise.
        chance: a number in [0, 1).
    """

    def __init__(
        self,
        config: ShadowConfig,
        client: ArmClient,
        dropped: frozenset[bytes],
        told: Told,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._client = client
        self._dropped = dropped
        self._told = told
        self._chance = chance
        self._queue: asyncio.Queue[Copy] = asyncio.Queue(config.queue)
        self._waiting_bytes = 0
        self._workers: list[asyncio.Task[None]] = []
        self._is_ending = False

    def start(self) -> None:
        """Begin to send; inside the event loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._config.in_flight)]

    def offer(self, request: Request, stable: Answered, *, is_judged: bool) -> bool:
        """Copy a request, unless chance leaves it out. Whether it was due: then `told` hears of it. HOT."""
        if self._is_ending or (self._config.share < 1.0 and self._chance() >= self._config.share):
            return False
        copy = Copy(request, stable, is_judged, asyncio.get_running_loop().time())
        if self._queue.full() or self._waiting_bytes + copy.size > self._config.queue_mb * MEBIBYTE:
            self._told(copy, None, 0.0)
        else:
            self._waiting_bytes += copy.size
            self._queue.put_nowait(copy)
        return True

    async def stop(self) -> None:
        """Drop what waits, wait for what was sent, by its own timeout at most, and end."""
        self._is_ending = True
        while not self._queue.empty():
            copy = self._queue.get_nowait()
            self._queue.task_done()
            self._told(copy, None, 0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.timeout_s):
                await self._queue.join()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            self._waiting_bytes -= copy.size
            try:
                await self._send(copy)
            except Exception:  # top of a copy: our bug must not end the shadow
                logger.exception("a copy failed")
            finally:
                self._queue.task_done()

    async def _send(self, copy: Copy) -> None:
        loop = asyncio.get_running_loop()
        late_s = loop.time() - copy.due
        left_s = self._config.timeout_s - late_s
        if left_s <= 0:
            self._told(copy, None, late_s)
            return
        answered = Answered()
        request = copy.request
        marks = [SHADOW]
        if self._config.is_synthetic or (SYNTHETIC_HEADER not in self._dropped and request.is_synthetic):
            marks.append(SYNTHETIC)
        headers = request_headers(request, dropped=self._dropped | {SYNTHETIC_HEADER}, more=marks)
        try:
            async with (
                asyncio.timeout(left_s),
                self._client.ask(request.method, request.target, headers, request.body, left_s) as answer,
            ):
                answered.status, answered.headers = answer.status, answer.headers
                while chunk := await answer.chunk():
                    answered.keep(chunk)
                answered.end()
        except ArmFailed as failure:
            answered.reason = failure.reason
        except TimeoutError:
            answered.reason = "timeout"
        answered.latency_us = int((loop.time() - copy.due) * 1e6)
        self._told(copy, answered, late_s)
