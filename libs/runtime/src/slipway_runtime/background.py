"""One worker thread beside an event loop: runs one job at a time, tells the loop when it is done.

It knows nothing of batches. The invariant: `done` runs on the loop's thread, once for each job, in order, and not at
all once the loop is closed. A thread pool of the standard library was turned down: it joins its threads when the
interpreter exits, so one hanging model would keep the process alive after its drain.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol, TypeAlias

__all__ = ["Background", "ComputeThread"]

_Job: TypeAlias = Callable[[], None]


class Background(Protocol):
    """Runs jobs beside the event loop. A job must not raise: it keeps its own outcome."""

    def start(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Run `job` elsewhere, then `done` on the event loop."""

    def close(self) -> None:
        """Take no more jobs; does not wait for the one that runs."""


class ComputeThread:
    """A daemon thread, started with the first job."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._jobs: SimpleQueue[tuple[_Job, _Job] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Run `job` in the thread, then `done` on the event loop."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"slipway-{self._name}", daemon=True)
            self._thread.start()
        self._jobs.put((job, done))

    def close(self) -> None:
        """End the thread after the job that runs; returns at once."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, done = work
            job()
            del job
            try:
                self._loop.call_soon_threadsafe(done)
            except RuntimeError:  # the loop is closed: nobody is left to tell
                return
            del done, work
