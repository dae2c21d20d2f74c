"""The worker thread, for real: a pool on a real event loop with a real thread."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from slipway_runtime import Limits, ModelFailed, Pool
from slipway_runtime.background import ComputeThread

IN_THREAD = Limits(inline_s=0.0)


def test_jobs_run_one_after_the_other_in_one_thread_and_are_told_on_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        thread = ComputeThread(loop, "test")
        seen: list[tuple[str, int]] = []
        finished = loop.create_future()

        for number in range(3):
            thread.start(
                lambda number=number: seen.append((threading.current_thread().name, number)),  # type: ignore[misc]  # a default is no parameter
                lambda number=number: seen.append((threading.current_thread().name, number)),  # type: ignore[misc]  # a default is no parameter
            )
        thread.start(lambda: None, lambda: finished.set_result(None))
        await asyncio.wait_for(finished, 10.0)
        thread.close()

        assert [number for name, number in seen if name == "slipway-test"] == [0, 1, 2]
        assert [number for name, number in seen if name != "slipway-test"] == [0, 1, 2]

    asyncio.run(main())


def test_a_loop_that_closed_meanwhile_is_not_told() -> None:
    entered, leave = threading.Event(), threading.Event()

    async def main() -> ComputeThread:
        thread = ComputeThread(asyncio.get_running_loop(), "late")

        def job() -> None:
            entered.set()
            leave.wait(10.0)

        thread.start(job, lambda: None)
        return thread

    asyncio.run(main())
    assert entered.wait(10.0)
    worker = next(thread for thread in threading.enumerate() if thread.name == "slipway-late")
    leave.set()
    worker.join(10.0)

    assert not worker.is_alive()


def test_the_loop_answers_while_the_model_computes_in_the_thread() -> None:
    leave = threading.Event()

    def compute(payloads: Sequence[bytes], rows: int) -> object:
        assert leave.wait(10.0)
        return list(payloads)

    async def main() -> None:
        pool = Pool("m", compute, limits=IN_THREAD)
        future = pool.submit_nowait(b"row", 1, time.monotonic() + 60.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pool.statistics().in_flight == 1

        leave.set()
        answer = await future

        assert answer.result == [b"row"]
        assert (await pool.drain(10.0)).is_clean

    asyncio.run(main())


def test_an_error_in_the_thread_comes_back_with_its_cause() -> None:
    def compute(payloads: Sequence[bytes], rows: int) -> object:
        raise MemoryError("no room")

    async def main() -> None:
        pool = Pool("m", compute, limits=IN_THREAD)

        with pytest.raises(ModelFailed) as caught:
            await pool.submit_nowait(b"row", 1, time.monotonic() + 60.0)

        assert isinstance(caught.value.cause, MemoryError)
        assert caught.value.__cause__ is caught.value.cause
        assert (await pool.drain(10.0)).is_clean

    asyncio.run(main())
