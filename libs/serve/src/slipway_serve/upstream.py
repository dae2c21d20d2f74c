"""Calls another service over HTTP within the caller's deadline, without making that service's trouble worse.

It decides nothing itself: `slipway_runtime.resilience` says whether to ask, and to ask again. The invariants: a call
ends by its deadline; requests sent are at most 1 + `budget.ratio` times those asked for, plus the budget's floor; only
what was declared idempotent is sent twice; with the breaker open nothing is sent. An `Upstream` belongs to one event
loop. Source: `docs/calling-services.md`.

    async with Upstream("http://features:8000") as features:
        answer = await features.post("/lookup", json=who, idempotent=True)
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Annotated, Final, Self

import httpx
import msgspec
from msgspec import Meta, Struct

from slipway_runtime.resilience import (
    BreakerLimits,
    BreakerState,
    BudgetLimits,
    CircuitBreaker,
    JitterLimits,
    Permit,
    RetryBudget,
    jittered_wait_s,
)
from slipway_serve.call import Call, current_call, upstream_observer
from slipway_serve.upstream_errors import UpstreamFailed, UpstreamTimeout, UpstreamUnavailable
from slipway_serve.upstream_exchange import Ask, Exchange, Outcome

logger = logging.getLogger(__name__)

__all__ = [
    "Upstream",
    "UpstreamFailed",
    "UpstreamLimits",
    "UpstreamStatistics",
    "UpstreamTimeout",
    "UpstreamUnavailable",
]

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Idempotent whoever answers: RFC 9110, 9.2.1."""
KEEP_ALIVE_S: Final = 4.0
"""Idle connections are closed before the other side does it, which is after 5 s in uvicorn."""

Seconds = Annotated[float, Meta(gt=0)]


class UpstreamLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one service is called; may be a field of a resource's settings in `[runtime.resources.NAME]`."""

    timeout_s: Seconds = 10.0
    """The longest that one call takes, all tries together; the deadline of the request being answered holds as well."""
    connect_s: Seconds = 0.5
    """The longest that making a connection takes; another try may follow."""
    retries: Annotated[int, Meta(ge=0)] = 2
    """The most retries of one call."""
    hedge_after_s: Seconds | None = None
    """Send an idempotent request a second time when it is not answered by then; counts as a retry. None = never."""
    connections: Annotated[int, Meta(ge=1)] = 100
    """Requests in flight at once; further ones wait within their deadline."""
    budget: BudgetLimits = BudgetLimits()
    breaker: BreakerLimits = BreakerLimits()
    jitter: JitterLimits = JitterLimits()


class UpstreamStatistics(Struct, frozen=True, kw_only=True):
    """What was asked and sent since the start; a JSON-ready value."""

    asked: int
    """Calls, except those whose deadline had already passed."""
    kept_back: int
    """Calls that were not sent, because the breaker was open."""
    sent: int
    """Requests, retries and hedges included."""
    retried: int
    hedged: int
    breaker: BreakerState
    """Now."""


class Upstream:
    """A service that this one calls. Open it as a resource: an async context manager.

    Args:
        base_url: where it is, e.g. `http://features:8000`; paths are relative to it.
        name: for errors and logs; by default host and port of `base_url`.
        limits: time, retries, breaker.
        headers: sent with every request, e.g. an API key.
        clock: monotonic seconds.
        draw: a number in [0, 1), for the jitter.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str | None = None,
        limits: UpstreamLimits | None = None,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = name or httpx.URL(base_url).netloc.decode("ascii") or base_url
        self._limits = limits or UpstreamLimits()
        self._clock = clock
        self._draw = draw
        self._budget = RetryBudget(self._limits.budget, clock())
        self._breaker = CircuitBreaker(self._limits.breaker)
        self._observer = upstream_observer.get(None)
        self._asked = self._kept_back = self._sent = self._retried = self._hedged = 0
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            limits=httpx.Limits(max_connections=self._limits.connections, keepalive_expiry=KEEP_ALIVE_S),
            trust_env=False,  # a proxy for the way out is none for the service next door
        )
        self._exchange = Exchange(self.name, self._client, self._limits.connect_s, clock)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def get(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        call: Call | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """`request` with GET, which is idempotent."""
        return await self.request("GET", path, headers=headers, call=call, timeout_s=timeout_s)

    async def post(
        self,
        path: str,
        *,
        json: object = msgspec.UNSET,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
        call: Call | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """`request` with POST; `idempotent=True` when sending it twice does no harm, as with a prediction."""
        body, sent = (content, headers) if json is msgspec.UNSET else _as_json(json, headers)
        return await self.request(
            "POST", path, content=body, headers=sent, idempotent=idempotent, call=call, timeout_s=timeout_s
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
        call: Call | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """The answer of the service with its body: any status but 429 and 5xx, so redirects and 404 too.

        Args:
            method: upper-case; GET, HEAD and OPTIONS count as idempotent.
            path: relative to `base_url`, with a query if there is one.
            content: the body.
            headers: more of them.
            idempotent: sending it twice does no harm, so that it may be retried and hedged.
            call: the request being answered, whose deadline holds here too; by default this task's, if there is one.
            timeout_s: the longest it may take, all tries together, if less than `UpstreamLimits.timeout_s`.

        Raises:
            UpstreamUnavailable: nothing was sent, because the breaker is open.
            UpstreamFailed: no connection, 429 or 5xx, on the last try that deadline and budget allowed.
            UpstreamTimeout: no answer by the deadline.
        """
        now = self._clock()
        allowed_s = min(self._limits.timeout_s, math.inf if timeout_s is None else timeout_s)
        if (answering := call or current_call.get()) is not None:
            allowed_s = min(allowed_s, answering.remaining_s())
        if allowed_s <= 0:
            raise UpstreamTimeout(self.name, 0.0)
        ask = Ask(
            method=method,
            path=path,
            content=content,
            headers=headers or {},
            started=now,
            deadline=now + allowed_s,
            may_repeat=idempotent or method in SAFE_METHODS,
        )
        try:
            return await self._answer(ask)
        finally:
            self._sent += ask.sent

    def statistics(self) -> UpstreamStatistics:
        """Counts since the start, and the breaker's state now; calls in flight are counted when they end."""
        return UpstreamStatistics(
            asked=self._asked,
            kept_back=self._kept_back,
            sent=self._sent,
            retried=self._retried,
            hedged=self._hedged,
            breaker=self._breaker.state(self._clock()),
        )

    async def _answer(self, ask: Ask) -> httpx.Response:
        """Try until there is an answer, or no further try is allowed."""
        self._asked += 1
        permit = self._breaker.enter(self._clock())
        if permit is None:
            self._kept_back += 1
            raise UpstreamUnavailable(self.name, self._breaker.retry_after_s(self._clock()))
        self._budget.asked(self._clock())
        retry = 0
        while True:
            outcome = await (self._send(ask, permit) if retry else self._send_hedged(ask, permit))
            if outcome.response is not None:
                return outcome.response
            error = outcome.error or RuntimeError(f"neither answer nor error, this is a bug in slipway: {outcome!r}")
            wait_s = self._wait_s(ask, outcome, retry)
            if wait_s is None:
                raise error
            await asyncio.sleep(wait_s)
            permit = self._breaker.enter(self._clock())
            if permit is None:
                raise error
            retry += 1
            self._retried += 1
            self._repeats("connection" if getattr(error, "status", None) is None else "status")

    def _repeats(self, reason: str) -> None:
        if self._observer is not None:
            self._observer.called_again(self.name, reason)

    def _wait_s(self, ask: Ask, outcome: Outcome, retry: int) -> float | None:
        """Seconds until the next try, which is paid for; None when there is none."""
        if not ask.may_repeat or not outcome.may_help_again or retry >= self._limits.retries:
            return None
        now = self._clock()
        wait_s = (outcome.retry_after_s or 0.0) + jittered_wait_s(self._limits.jitter, retry, self._draw)
        if now + wait_s >= ask.deadline or not self._budget.spend(now):
            return None
        return wait_s

    async def _send(self, ask: Ask, permit: Permit) -> Outcome:
        """One request; the breaker hears how it went, or that nobody knows (cancelled)."""
        is_healthy: bool | None = None
        if self._observer is not None:
            self._observer.called(self.name)
        try:
            outcome = await self._exchange.send(ask)
            is_healthy = outcome.is_healthy
            return outcome
        finally:
            now = self._clock()
            before = self._breaker.state(now)
            self._breaker.leave(permit, is_healthy, now)
            if (after := self._breaker.state(now)) != before:
                logger.warning("upstream_breaker", extra={"upstream": self.name, "was": before, "is": after})

    async def _send_hedged(self, ask: Ask, permit: Permit) -> Outcome:
        """One request, and a second one when it is late: the first usable answer wins, the other is cancelled."""
        hedge_after_s = self._limits.hedge_after_s
        if hedge_after_s is None or not ask.may_repeat:
            return await self._send(ask, permit)
        tasks = [asyncio.ensure_future(self._send(ask, permit))]
        try:
            done, pending = await asyncio.wait(tasks, timeout=hedge_after_s)
            if not done and (second := self._hedge_permit()) is not None:
                tasks.append(asyncio.ensure_future(self._send(ask, second)))
                pending = set(tasks)
            while pending:
                if any(task.result().response is not None for task in done):
                    break
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            outcomes = [task.result() for task in done]
            return next((outcome for outcome in outcomes if outcome.response is not None), outcomes[0])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _hedge_permit(self) -> Permit | None:
        """Leave for a second request, which is paid for like a retry."""
        now = self._clock()
        if self._breaker.state(now) != "closed" or not self._budget.spend(now):
            return None
        self._hedged += 1
        self._repeats("slow")
        return self._breaker.enter(now)


def _as_json(value: object, headers: Mapping[str, str] | None) -> tuple[bytes, Mapping[str, str]]:
    """What msgspec can encode, Structs included, and headers that say so."""
    return msgspec.json.encode(value), {"content-type": "application/json", **(headers or {})}
