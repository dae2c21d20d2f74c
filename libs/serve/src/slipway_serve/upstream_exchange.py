"""One HTTP exchange with an upstream: what is sent, and what its answer means for the caller, a retry and the breaker.

It never sends twice (`upstream.py` decides that). The invariants: an exchange ends by its deadline; the other side is
told how much of it is left; what an answer means is decided in one place, `_meaning`.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import httpx
from msgspec import Struct

from slipway_bundle import HostError
from slipway_serve.upstream_errors import UpstreamFailed, UpstreamTimeout
from slipway_serve.watching import SYNTHETIC, is_synthetic
from slipway_signals.traces_record import current_trace, headers_out

__all__ = ["Ask", "Exchange", "Outcome", "parse_retry_after"]

TIMEOUT_HEADER: Final = "x-slipway-timeout-ms"
ATTEMPT_HEADER: Final = "x-slipway-attempt"
"""Which try this is, from the second on: who is asked can count repetitions."""
NOT_NOW: Final = frozenset({429, 503})
"""Statuses after which asking again may help; other failures may have done half of the work."""
FAIR_S: Final = 0.1
"""A timeout of less says more about the caller's deadline than about the upstream."""
SHORTEST_S: Final = 0.001
"""A client library takes 0 for "no limit"."""


class Ask(Struct, kw_only=True, eq=False):
    """One call of a user, over all its tries."""

    method: str
    path: str
    content: bytes | None
    headers: Mapping[str, str]
    started: float
    deadline: float
    may_repeat: bool
    sent: int = 0
    """Requests so far."""


class Outcome(NamedTuple):
    """What one exchange gave: a usable answer or an error."""

    response: httpx.Response | None = None
    error: HostError | None = None
    may_help_again: bool = False
    """Whether the same request may succeed on another try."""
    retry_after_s: float | None = None
    """What the upstream asks for, seconds."""
    is_healthy: bool | None = None
    """What it says about the upstream; None = nothing."""


class Exchange:
    """Sends requests of one upstream over `client`, which somebody else opens and closes."""

    def __init__(self, name: str, client: httpx.AsyncClient, connect_s: float, clock: Callable[[], float]) -> None:
        self._name = name
        self._client = client
        self._connect_s = connect_s
        self._clock = clock

    async def send(self, ask: Ask) -> Outcome:
        """The outcome of one request; cancelling it closes the connection.

        Raises:
            httpx.LocalProtocolError: what is to be sent is no HTTP, such as a header with a line break.
        """
        remaining_s = max(SHORTEST_S, ask.deadline - self._clock())
        asked_for = {**headers_out(current_trace.get()), **(SYNTHETIC if is_synthetic() else {})}
        headers = {**ask.headers, **asked_for, TIMEOUT_HEADER: str(max(1, int(remaining_s * 1_000)))}
        if ask.sent:
            headers[ATTEMPT_HEADER] = str(ask.sent + 1)
        timeout = httpx.Timeout(remaining_s, connect=min(remaining_s, self._connect_s))
        ask.sent += 1
        try:
            async with asyncio.timeout(remaining_s):  # httpx limits each read and write, not their sum
                response = await self._client.request(
                    ask.method, ask.path, content=ask.content, headers=headers, timeout=timeout
                )
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol):
            raise
        except (TimeoutError, httpx.TimeoutException) as error:
            if isinstance(error, httpx.ConnectTimeout) and self._clock() < ask.deadline:
                return self._unconnected(ask, error)
            is_fair = remaining_s >= FAIR_S and not isinstance(error, httpx.PoolTimeout)
            waited_s = self._clock() - ask.started
            return Outcome(error=UpstreamTimeout(self._name, waited_s), is_healthy=False if is_fair else None)
        except httpx.RequestError as error:
            return self._unconnected(ask, error)
        return self._meaning(ask, response)

    def _unconnected(self, ask: Ask, error: httpx.RequestError) -> Outcome:
        """No connection, or one that broke: nobody knows whether the request arrived."""
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        failed = UpstreamFailed(self._name, f"no answer ({words})", sent=ask.sent)
        return Outcome(error=failed, may_help_again=isinstance(error, httpx.TransportError), is_healthy=False)

    def _meaning(self, ask: Ask, response: httpx.Response) -> Outcome:
        """429 says that it is alive and busy; 5xx that it is not well; the rest is an answer."""
        status = response.status_code
        if status < 500 and status != 429:
            return Outcome(response=response, is_healthy=True)
        retry_after_s = parse_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        reason = f"status {status}"
        failed = UpstreamFailed(self._name, reason, sent=ask.sent, status=status, retry_after_s=retry_after_s)
        return Outcome(
            error=failed,
            may_help_again=status in NOT_NOW,
            retry_after_s=retry_after_s,
            is_healthy=None if status == 429 else False,
        )


def parse_retry_after(text: str | None, wall: datetime) -> float | None:
    """Seconds from `wall` that a `Retry-After` asks for, a number or a date (RFC 9110, 10.2.3); None if neither."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - wall.timestamp()
    return max(0.0, seconds) if math.isfinite(seconds) else None
