"""The errors of the runtime: what a caller of a pool can get instead of an answer.

It does not choose an HTTP status: the server maps `code` (and `Refused.reason`) to one. The invariant: an admitted
ticket ends in exactly one of answer, `ModelFailed`, `Quarantined`, `DeadlineExceeded` or cancellation; `Refused` and
`RowsExceeded` come before admission (from a runner pool, a `Refused` may also come through the future).

    SlipwayError
    ├── HostError
    │   ├── Refused            refused             full queue, a deadline that cannot be met, or a draining pool
    │   ├── DeadlineExceeded   deadline_exceeded   the deadline passed before the answer was there
    │   ├── ModelFailed        model_failed        the model raised for this ticket; `cause` is what it raised
    │   ├── Quarantined        quarantined         two runners died while they computed this ticket, the second alone
    │   └── Unreachable        dispatcher_unreachable   no dispatcher listens where the runner pools should be
    └── UsageError
        └── RowsExceeded       rows_exceeded       one ticket is larger than the largest batch; the caller must split it
"""

from typing import Literal

from slipway_bundle.errors import HostError, UsageError

__all__ = [
    "DeadlineExceeded",
    "ModelFailed",
    "Quarantined",
    "RaisedInRunner",
    "Refused",
    "RefusedReason",
    "RowsExceeded",
    "Unreachable",
]

RefusedReason = Literal["queue_full", "deadline", "draining"]

_WHY: dict[RefusedReason, str] = {
    "queue_full": "its queue is full",
    "deadline": "it cannot answer before the deadline",
    "draining": "it is draining",
}


class Refused(HostError):
    """The pool did not admit the ticket; nothing of it was kept.

    `reason` says why; `retry_after_s` is the predicted time in seconds until the backlog is drained (0.0 when a retry
    makes sense at once, or when the pool will not come back).
    """

    code = "refused"

    def __init__(self, model: str, reason: RefusedReason, retry_after_s: float) -> None:
        super().__init__(
            f"pool {model!r} refused the request: {_WHY[reason]}",
            hint=None if reason == "draining" else f"retry after {retry_after_s:.3f} s, or give it a later deadline",
            reason=reason,
            retry_after_s=retry_after_s,
        )
        self.reason: RefusedReason = reason
        self.retry_after_s = retry_after_s


class DeadlineExceeded(HostError):
    """The deadline of an admitted ticket passed before its answer was there; `waited_s` is how long it was held."""

    code = "deadline_exceeded"

    def __init__(self, model: str, waited_s: float) -> None:
        super().__init__(
            f"pool {model!r} did not answer before the deadline: it held the request for {waited_s:.3f} s",
            waited_s=waited_s,
        )
        self.waited_s = waited_s


class ModelFailed(HostError):
    """The model raised while it computed this ticket; its batch mates were answered. `cause` is what it raised."""

    code = "model_failed"

    def __init__(self, model: str, cause: BaseException) -> None:
        super().__init__(
            f"model {model!r} raised {_kind(cause)} for this request: {str(cause)!r}",
            hint="the batch mates of this request were answered without it; the cause is in the server's log",
        )
        self.cause = cause
        self.__cause__ = cause


class RaisedInRunner(Exception):
    """What a model raised in another process: the name of its class and its text are all that crossed over."""

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(message)
        self.type_name = type_name


class Quarantined(HostError):
    """Two runners died while they computed this ticket, the second on it alone: it is not tried again."""

    code = "quarantined"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r} ended two runners on this request: it is not tried a third time",
            hint="the request itself ends the process (a native crash, or memory); the log of the runner says how",
        )


class Unreachable(HostError):
    """No dispatcher could be connected to."""

    code = "dispatcher_unreachable"

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__(
            f"the dispatcher of the runner pools cannot be reached: nobody listened at {path!r} for {timeout_s:.1f} s",
            hint="it is started by `slipway serve` beside the API workers; its log says why it is not there",
        )


class RowsExceeded(UsageError):
    """One ticket has more rows than the largest batch; whoever knows the payload's format must split it first."""

    code = "rows_exceeded"

    def __init__(self, model: str, rows: int, max_rows: int) -> None:
        super().__init__(
            f"one request for pool {model!r} holds too many rows: expected 1 to {max_rows}, got {rows}",
            hint="split it into several requests, or raise `max_rows` in the runtime table of the model",
            rows=rows,
            max_rows=max_rows,
        )
        self.max_rows = max_rows


def _kind(cause: BaseException) -> str:
    return cause.type_name if isinstance(cause, RaisedInRunner) else type(cause).__name__
