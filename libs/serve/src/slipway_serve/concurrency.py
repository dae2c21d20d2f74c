"""Doing several things at once inside a handler: `gather` and `offload`.

`asyncio.gather` leaves the siblings of a failed call running; ours cancels and awaits them.
`asyncio.to_thread` is unbounded in what it queues; ours refuses when its threads are all behind.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

from slipway_serve.problems import Problem

Params = ParamSpec("Params")
Result = TypeVar("Result")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@overload
async def gather(first: Awaitable[A], second: Awaitable[B], /) -> tuple[A, B]: ...
@overload
async def gather(first: Awaitable[A], second: Awaitable[B], third: Awaitable[C], /) -> tuple[A, B, C]: ...
@overload
async def gather(
    first: Awaitable[A], second: Awaitable[B], third: Awaitable[C], fourth: Awaitable[D], /
) -> tuple[A, B, C, D]: ...
@overload
async def gather(*awaitables: Awaitable[A]) -> tuple[A, ...]: ...
async def gather(*awaitables: Awaitable[Any]) -> tuple[Any, ...]:
    """Await all, in parallel; the first failure cancels the rest, waits for them to end, and is raised alone.

    Returns:
        The results in the order of the arguments.
    """
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION) if tasks else None
        failed = next((task for task in tasks if task.done() and not task.cancelled() and task.exception()), None)
        if failed is not None:
            raise failed.exception() or RuntimeError("this is a bug in slipway: a failed task without exception")
        return tuple([await task for task in tasks])
    finally:
        pending = [task for task in tasks if not task.done()]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


class Offloader:
    """A bounded thread pool for blocking work: `threads` at work and `backlog` waiting, no more.

    One per API worker, owned by the engine; `offload` finds it through the running call.
    """

    def __init__(self, threads: int, backlog: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="offload")
        self._free = threads + backlog

    async def run(self, function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
        """Run `function` in a thread, with this task's context variables.

        Raises:
            Problem: 503, when every thread is busy and the backlog is full.
        """
        if self._free <= 0:
            raise Problem(503, "offload_full", "all threads for blocking work are busy", retry_after_s=1.0)
        self._free -= 1
        context = contextvars.copy_context()
        job = asyncio.get_running_loop().run_in_executor(
            self._executor, partial(context.run, function, *args, **kwargs)
        )
        job.add_done_callback(self._done)
        return await job

    def _done(self, job: "asyncio.Future[Any]") -> None:
        self._free += 1
        if not job.cancelled():
            job.exception()  # seen: a caller that left does not want to read it in the log

    def close(self) -> None:
        """Stop taking work and let what runs end on its own."""
        self._executor.shutdown(wait=False, cancel_futures=True)
