"""Ending a run before it has decided: the Job's time is over, its pod is moved, somebody pressed Ctrl-C.

It judges nothing. The invariant: a run that was ended before its verdict stood is inconclusive, whatever its last look
said, and the evidence says why; a verdict that stood already stays.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from slipway_signals.gate.evidence import LoadEnd

__all__ = ["Ending", "ended_by_sigterm"]

STATUS: Final = 128 + signal.SIGTERM
"""What a shell calls a program that SIGTERM ended."""


class Ending:
    """Tells a run to end. `ask` may be called from a signal's handler, before the run, in it and after it."""

    def __init__(self) -> None:
        self.is_asked = False
        self._stop: Callable[[], None] | None = None

    def attach(self, stop: Callable[[], None]) -> None:
        """What is called, perhaps at once, when the run shall end; it must not block."""
        self._stop = stop
        if self.is_asked:
            stop()

    def ask(self) -> None:
        """End now."""
        self.is_asked = True
        if self._stop is not None:
            self._stop()

    @property
    def load_end(self) -> LoadEnd:
        """How evidence says it."""
        return LoadEnd(status=STATUS, was_stopped=False, said="whoever started the run ended it")


@contextmanager
def ended_by_sigterm() -> Iterator[Ending]:
    """An ending that SIGTERM asks for, for the length of the block; main thread only."""
    ending = Ending()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ending.ask()

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield ending
    finally:
        signal.signal(signal.SIGTERM, before)
