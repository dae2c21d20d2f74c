"""What is remembered of one request until it is known whether its trace is kept: a few numbers, no span.

It makes no span (`traces_spans`) and decides nothing (`tracing`). The invariants: a record is written by the task that
answers its request and leaves the process only after `ended`; ids are drawn when somebody first asks for them, so
the request that nobody asks about draws none; all of it is plain data, because another process exports it.
Times are `time.monotonic()` seconds, which all processes of a machine share; 0.0 is "did not happen".
"""

import os
from contextvars import ContextVar
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec

from slipway_signals.traces_context import RemoteContext, format_traceparent, parse_tracestate

__all__ = ["BatchTold", "Kept", "RequestTrace", "Step", "current_trace", "draw_id", "headers_out"]

Kept = Literal["", "sampled", "error", "slow"]
"""Why a trace is kept; "" for not."""
STEPS: Final = 64
"""Steps of one request that are remembered; a request that asks a model more often is still traced to here."""


@runtime_checkable
class BatchTold(Protocol):
    """What comes back with an answer about the batch it was computed in; one object for all members of a batch."""

    @property
    def number(self) -> int:
        """Counts the batches of the lane or dispatcher that sent it."""

    @property
    def rows(self) -> int:
        """Rows computed together."""

    @property
    def sent_at(self) -> float:
        """When it left the queue."""

    @property
    def started_at(self) -> float:
        """When the model began."""

    @property
    def compute_s(self) -> float:
        """Seconds in the model."""

    @property
    def reason(self) -> str:
        """What made it leave: full, knee, deadline, idle, flush."""

    @property
    def replica(self) -> str:
        """Who computed it; "" in this process."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """One answer of one model within a request."""

    model: str
    queued: float
    """When its rows went into the queue."""
    answered: float
    """When the request went on with the answer, or the error."""
    batch: BatchTold | None = None
    """None: it was never computed, or the lane does not say."""
    lane: str = ""
    """`in_process`, `pool` or `remote`."""


class RequestTrace(msgspec.Struct, eq=False, weakref=False, gc=False):
    """One request. A C-level Struct, because one is made for every request."""

    route: str
    """The template, never the path."""
    method: str
    path: str
    started: float
    remote: RemoteContext | None
    is_sampled: bool
    """By its caller, or by the draw for requests without a caller's decision."""
    received: float = 0.0
    """The body is here."""
    decoded: float = 0.0
    """The body is a row, or a request of an endpoint."""
    encoding: float = 0.0
    """The answer is known; its encoding begins."""
    encoded: float = 0.0
    """The answer is bytes."""
    ended: float = 0.0
    status: int = 0
    error_type: str = ""
    """Class of the exception, or of the failure inside a stream whose status was 200."""
    steps: list[Step] | None = None
    kept: Kept = ""
    is_synthetic: bool = False
    rpc_status: str = ""
    """Of a gRPC call: how it ended, `OK` or another name of a status code."""
    own_span: int = 0
    """Id of the server span, once drawn; see `ids`."""
    own_trace: bytes = b""
    """16 bytes where there is no caller's, once drawn; see `ids`."""

    def step(self, step: Step) -> None:
        """A model has answered, or failed to."""
        if self.steps is None:
            self.steps = [step]
        elif len(self.steps) < STEPS:
            self.steps.append(step)

    def ids(self) -> tuple[int, int]:
        """Trace id and id of the server span, drawn at the first call and the same ever after."""
        if not self.own_span:
            self.own_span = draw_id(8)
            self.own_trace = draw_id(16).to_bytes(16, "big") if self.remote is None else b""
        trace_id = int.from_bytes(self.own_trace, "big") if self.remote is None else self.remote.trace_id
        return trace_id, self.own_span


current_trace: Final[ContextVar[RequestTrace | None]] = ContextVar("slipway_trace", default=None)
"""The request that this task answers. Set by `RouteTracer.begin`; every request has a task, and so a context, of its
own, so nobody has to set it back."""


def draw_id(size: int) -> int:
    """A new id of `size` bytes, never 0. From the system: a service may call `random.seed`, or fork."""
    return int.from_bytes(os.urandom(size), "big") or 1


def headers_out(trace: RequestTrace | None) -> dict[str, str]:
    """Headers for a call to another server on behalf of a request: its server span becomes the parent there.

    An unsampled request says so: what it called is kept there only by the other server's own rules. `{}` without a
    request. Costs about 2 µs, and draws the ids.
    """
    if trace is None:
        return {}
    trace_id, span_id = trace.ids()
    headers = {"traceparent": format_traceparent(trace_id, span_id, is_sampled=trace.is_sampled)}
    if trace.remote is not None and trace.remote.state:
        members = parse_tracestate(trace.remote.state)
        if members:
            headers["tracestate"] = ",".join(f"{key}={value}" for key, value in members)
    return headers
