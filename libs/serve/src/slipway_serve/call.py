"""The request that is being answered now: its deadline and headers, and where its models live.

Two context variables: the request's is set by the route and read by `Model.__call__`, the observer's is set by a server
and read by what resources open. Nothing else travels implicitly.
`Call` is what a handler may ask for as its second argument.
"""

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

from slipway_runtime.steps import Step, StepBook, StepLog
from slipway_serve.problems import Problem

if TYPE_CHECKING:
    from slipway_serve.concurrency import Offloader
    from slipway_serve.lane import Lane
    from slipway_serve.streams import StreamSource

HeaderPairs = list[tuple[bytes, bytes]]


class UpstreamObserver(Protocol):
    """Receives what upstreams (upstream.py) do; `peer` is the name of one."""

    def called(self, peer: str) -> None:
        """One request is sent."""

    def called_again(self, peer: str, reason: str) -> None:
        """It repeats one that had no usable answer: `status`, `connection`, or `slow` (a hedge)."""


upstream_observer: ContextVar[UpstreamObserver] = ContextVar("upstream_observer")
"""Who hears of the upstreams that are made from now on in this context; a server sets it before resources open."""


class CallEngine(Protocol):
    """What answering a request needs of the engine; `Engine` satisfies it."""

    @property
    def offloader(self) -> "Offloader":
        """Threads for blocking work."""

    def call(self, deadline: float, headers: HeaderPairs) -> "Call":
        """Begin answering a request in this task."""

    def lane(self, model: str, /) -> "Lane":
        """Where the rows of a declared model go."""

    def stream_lane(self, model: str, /) -> "StreamSource":
        """Where the prompts of a declared stream model go."""

    def resource(self, name: str, /) -> object:
        """What the opener of a declared resource yielded."""


class Call:
    """One request in flight, as a handler sees it.

    Not thread-safe; valid until the handler returns.
    """

    __slots__ = ("_book", "_headers", "_log", "deadline", "engine", "produces")

    def __init__(self, engine: CallEngine, deadline: float, headers: HeaderPairs) -> None:
        self.engine = engine
        self.deadline = deadline
        """Point in time on `time.monotonic()`, in seconds, after which nobody waits for the answer."""
        self.produces = ""
        """Media type of the answer, where the endpoint offers several and the client has chosen."""
        self._headers = headers
        self._book: StepBook | None = None
        self._log: StepLog | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers, lower-case names; of repeated headers the last one."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers}

    def remaining_s(self) -> float:
        """Seconds left until the deadline; 0 when it has passed. Pass it as the timeout of what you call."""
        return max(0.0, self.deadline - time.monotonic())

    def divide(self, book: StepBook) -> None:
        """From now on the models that this request awaits get deadlines of their own, out of its endpoint's book."""
        self._book = book
        self._log = book.open(time.monotonic(), self.deadline)

    def begin(self, model: str) -> Step:
        """A model is about to be awaited; the step's `deadline` is what to queue its rows with."""
        if self._log is None:
            return Step(model, 0, None, 0.0, self.deadline)
        return self._log.begin(model, asyncio.current_task(), time.monotonic())

    def answered(self, step: Step) -> None:
        """The model has answered."""
        if self._log is not None:
            step.answered = time.monotonic()

    def end(self) -> None:
        """The request was answered; its endpoint's book learns from it. Not called when it failed."""
        if self._book is not None and self._log is not None and self._log.steps:
            self._book.learn(self._log, time.monotonic())


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
