import asyncio
import time

import pytest
from upstream_conversations import NEVER_OPENS, ask, limits, talk
from upstream_servers import Reply, neighbour

from slipway_runtime.resilience import BudgetLimits
from slipway_serve.upstream import Upstream, UpstreamLimits, UpstreamTimeout

pytestmark = pytest.mark.alone  # how long something takes is judged here


def test_a_hedge_answers_for_a_request_that_is_late() -> None:
    with neighbour(lambda number: Reply(hangs=number == 0, body=b"quick")) as server:

        async def once(upstream: Upstream) -> None:
            started = time.monotonic()
            assert (await upstream.get("/")).content == b"quick"
            assert time.monotonic() - started < 10.0
            assert upstream.statistics().hedged == 1

        talk(server.url, once, limits(hedge_after_s=0.05))
        assert server.left.acquire(timeout=20.0)  # the late one was cancelled, not left behind

    assert len(server.seen) == 2


@pytest.mark.parametrize("idempotent", [True, False])
def test_no_hedge_without_budget_or_permission(idempotent: bool) -> None:
    with neighbour(lambda _: Reply(hangs=True)) as server:

        async def once(upstream: Upstream) -> None:
            with pytest.raises(UpstreamTimeout):
                await upstream.post("/", idempotent=idempotent)

        budget = BudgetLimits(floor=0.0 if idempotent else 3.0)
        talk(server.url, once, limits(hedge_after_s=0.02, budget=budget, timeout_s=0.3))

    assert len(server.seen) == 1


def test_hedges_and_retries_share_one_budget() -> None:
    asked = 100

    with neighbour(lambda _: Reply(hangs=True)) as server:

        async def storm(upstream: Upstream) -> None:
            await asyncio.gather(*(ask(upstream) for _ in range(asked)))
            assert upstream.statistics().hedged > 0

        chosen = UpstreamLimits(
            timeout_s=1.0,
            connections=500,
            hedge_after_s=0.02,
            breaker=NEVER_OPENS,
            budget=BudgetLimits(floor=3.0, window_s=3_600),
        )
        talk(server.url, storm, chosen)

    assert len(server.seen) <= 1.1 * asked + 3.1
