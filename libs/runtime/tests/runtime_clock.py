"""An event loop in virtual time, and a background that computes in it: pools are tested without a wall clock.

A turn of the loop costs 5 us; when nothing is ready, time jumps to the next timer. `spend` is what a model does: on the
loop it holds everything up, in the background only its own batch.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
TURN_S = 5e-6


class _Selector(selectors.SelectSelector):
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            msg = "nothing is ready and no timer is set: somebody waits for ever"
            raise AssertionError(msg)
        self.loop.now += max(timeout, TURN_S)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` only moves by turns, timers and `spend`."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 1000.0
        self.beside_s: float | None = None
        super().__init__(selector)

    def time(self) -> float:
        return self.now + (self.beside_s or 0.0)

    def spend(self, seconds: float) -> None:
        if self.beside_s is None:
            self.now += seconds
        else:
            self.beside_s += seconds


class VirtualBackground:
    """Runs a job at once, beside the loop, and is done when the time that it spent has passed."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.jobs = 0
        self.is_closed = False

    def start(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        self.jobs += 1
        self._loop.beside_s = 0.0
        try:
            job()
        finally:
            seconds, self._loop.beside_s = self._loop.beside_s, None
        self._loop.call_later(seconds, done)

    def close(self) -> None:
        self.is_closed = True


def in_virtual_time(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on a fresh virtual loop."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()
