"""The request that is being answered now: its deadline and headers, and where its models live.

One context variable is set by the route and read by `Model.__call__`; nothing else travels implicitly.
`Call` is what a handler may ask for as its second argument.
"""

import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from slipway_serve.problems import Problem

if TYPE_CHECKING:
    from slipway_serve.engine import Engine

HeaderPairs = list[tuple[bytes, bytes]]


class Call:
    """One request in flight, as a handler sees it.

    Not thread-safe; valid until the handler returns.
    """

    __slots__ = ("_headers", "deadline", "engine")

    def __init__(self, engine: "Engine", deadline: float, headers: HeaderPairs) -> None:
        self.engine = engine
        self.deadline = deadline
        """Point in time on `time.monotonic()`, in seconds, after which nobody waits for the answer."""
        self._headers = headers

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers, lower-case names; of repeated headers the last one."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers}

    def remaining_s(self) -> float:
        """Seconds left until the deadline; 0 when it has passed. Pass it as the timeout of what you call."""
        return max(0.0, self.deadline - time.monotonic())


current_call: Final[ContextVar[Call | None]] = ContextVar("slipway_call", default=None)


def call_now() -> Call:
    """The call that this task answers.

    Raises:
        Problem: 500, when no request is being answered (a model was awaited outside a handler).
    """
    call = current_call.get()
    if call is None:
        raise Problem(
            500,
            "no_request",
            "a model or resource was used outside a request, got no call in this context",
            hint="in a test, use `with local(service, folder=...) as app: app.call(...)`",
        )
    return call
