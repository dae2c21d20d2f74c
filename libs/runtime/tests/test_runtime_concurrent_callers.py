"""Whom a call of the remote lane is made for."""

import asyncio

import pytest
from test_runtime_concurrent_pool import POISON, Bench, asking, bench, second

from slipway_runtime import ModelFailed


def test_a_call_is_told_who_asked_for_what_is_in_it_also_when_it_is_tried_in_parts() -> None:
    async def main(made: Bench) -> None:
        held = made.submit(b"first")
        while not made.model.callers:  # noqa: ASYNC110 - turns of a virtual loop; then the others leave together
            await asyncio.sleep(0)
        futures = []
        for name in ("ada", None, "bob", "eve"):
            asking.set(name)
            futures.append(made.submit(POISON if name == "bob" else b"row"))
        futures.pop().cancel()  # nobody calls for who has left
        with pytest.raises(ModelFailed):
            await futures[2]
        await asyncio.gather(held, *futures[:2])

    made = bench(main, second, concurrency=1, max_rows=8)

    assert made.model.callers[0] == [None]
    assert len(made.model.callers) > 2
    assert all(callers == ["ada", None, "bob"] for callers in made.model.callers[1:])
