"""How the tests of `Upstream` talk to a server: settings without long waits, and one call in words."""

import asyncio
import time
from collections.abc import Callable, Coroutine

from slipway_runtime.resilience import BreakerLimits, BudgetLimits, JitterLimits
from slipway_serve.upstream import Upstream, UpstreamFailed, UpstreamLimits, UpstreamTimeout, UpstreamUnavailable

QUICK = JitterLimits(first_s=0.001, ceiling_s=0.002)
NEVER_OPENS = BreakerLimits(min_outcomes=1_000_000)
OPENS_AT_20 = BreakerLimits(min_outcomes=20, open_s=5.0, probes=3)


class Clock:
    """The real one, which can be put forward."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def limits(
    *,
    breaker: BreakerLimits = NEVER_OPENS,
    budget: BudgetLimits | None = None,
    hedge_after_s: float | None = None,
    retries: int = 2,
    timeout_s: float = 20.0,
) -> UpstreamLimits:
    return UpstreamLimits(
        timeout_s=timeout_s,
        retries=retries,
        jitter=QUICK,
        breaker=breaker,
        budget=budget or BudgetLimits(),
        hedge_after_s=hedge_after_s,
    )


def talk(
    url: str,
    conversation: Callable[[Upstream], Coroutine[object, object, None]],
    chosen: UpstreamLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run a conversation with the server at `url`."""

    async def run() -> None:
        async with Upstream(url, name="next", limits=chosen or limits(), clock=clock) as upstream:
            await conversation(upstream)

    asyncio.run(run())


async def ask(upstream: Upstream) -> str:
    """How one idempotent call ended."""
    try:
        await upstream.post("/predict", json={"x": 1}, idempotent=True)
    except (UpstreamFailed, UpstreamTimeout, UpstreamUnavailable) as error:
        return error.code
    return "ok"
