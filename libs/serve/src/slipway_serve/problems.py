"""What a client is told when something is wrong: one error type, one table, one JSON shape (RFC 9457).

Every error that leaves the server passes through `problem_of`; nothing else in the house knows HTTP status codes.
Server-side causes are logged by the caller, never sent: the body of a 500 carries a reference to look for in the log.

    Problem(404, "customer_unknown", "no features for customer 'c-17'")
"""

from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec
from msgspec import Struct

from slipway_bundle import HostError, IntegrityError, RowError, SlipwayError, UsageError
from slipway_runtime import DeadlineExceeded, ModelFailed, Refused
from slipway_runtime.errors import Quarantined, RaisedInRunner
from slipway_serve.upstream_errors import UpstreamFailed, UpstreamTimeout, UpstreamUnavailable

MEDIA_TYPE: Final = b"application/problem+json"

TITLES: Final[Mapping[int, str]] = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    411: "Length required",
    413: "Payload too large",
    414: "URI too long",
    415: "Unsupported media type",
    422: "Input does not fit the schema",
    429: "Too many requests",
    431: "Request header fields too large",
    499: "Client closed request",
    500: "Internal server error",
    501: "Not implemented",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "Deadline exceeded",
    507: "Insufficient storage",
}


class Problem(SlipwayError):  # the field's word (RFC 9457)
    """An answer that is an error: HTTP status, a stable code, and a sentence for the person who reads it.

    Args:
        status: HTTP status, 400 to 599.
        code: stable, lower_snake_case; clients may switch on it.
        detail: what happened, got, expected, where.
        hint: what to do about it.
        retry_after_s: seconds until a retry can succeed; sent as `Retry-After`, rounded up.
        headers: more response headers, lower-case names.
    """

    code: ClassVar[str] = "problem"
    exit_status: ClassVar[int] = 1

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        retry_after_s: float | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        path: str | None = None,
    ) -> None:
        super().__init__(detail, hint=hint)
        self.status = status
        self.stable_code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.headers = headers
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Problem, (self.status, self.stable_code, self.detail))


class ProblemBody(Struct, omit_defaults=True):
    """The JSON a client reads: RFC 9457 members, and `code`, `path`, `hint` as extensions."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retry_after_s: float | None = None
    path: str | None = None
    """JSON path of the offending field, e.g. `$.income`."""
    hint: str | None = None
    instance: str | None = None
    """A reference that the server's log carries too (500 only)."""


_encoder = msgspec.json.Encoder()


def body_of(problem: Problem, *, instance: str | None = None) -> bytes:
    """The problem as JSON bytes."""
    return _encoder.encode(problem_body(problem, instance=instance))


def problem_body(problem: Problem, *, instance: str | None = None) -> ProblemBody:
    """The problem as the members of RFC 9457."""
    return ProblemBody(
        type=f"urn:slipway:problem:{problem.stable_code}",
        title=TITLES.get(problem.status, "Error"),
        status=problem.status,
        detail=problem.detail,
        code=problem.stable_code,
        path=problem.path,
        hint=problem.hint,
        instance=instance,
    )


def problem_of(error: BaseException) -> Problem:  # noqa: PLR0911  # one table, one row an error
    """The answer to give for any exception; the one place where errors become statuses.

    Unknown exceptions become a 500 whose detail does not repeat the exception's text: it may hold a customer's data.
    """
    match error:
        case Problem():
            return error
        case Refused():
            return Problem(
                503,
                f"refused_{error.reason}",
                error.message,
                retry_after_s=error.retry_after_s,
                hint="retry after the time in `Retry-After`, with jitter",
            )
        case DeadlineExceeded():
            return Problem(504, "deadline_exceeded", error.message)
        case RowError():
            return Problem(422, error.code, error.message, hint=error.hint, path=error.path)
        case msgspec.ValidationError():
            detail, path = _split_path(str(error))
            return Problem(422, "schema_mismatch", detail, path=path)
        case msgspec.DecodeError():
            return Problem(400, "json_invalid", f"the body is not valid JSON: {error}")
        case RecursionError():
            return Problem(400, "json_too_deep", "the body nests deeper than the server reads")
        case SlipwayError(code="answer_invalid"):
            return Problem(500, error.code, "the model gave an answer that breaks its own schema")
        case ModelFailed(cause=RowError() as cause):
            return problem_of(cause)
        case UpstreamTimeout() | UpstreamUnavailable() | UpstreamFailed() | Quarantined():
            return _problem_elsewhere(error)
        case ModelFailed(cause=SlipwayError(code="remote_unavailable" | "remote_failed") as cause):
            return _problem_elsewhere(cause)
        case ModelFailed(cause=RaisedInRunner(type_name="RowError") as cause):
            return Problem(422, RowError.code, str(cause))
        case ModelFailed():
            return Problem(500, "model_failed", "the model raised an error on this input")
        case UsageError() | IntegrityError() | HostError():
            return Problem(500, error.code, "the service is misconfigured; its log has the reason")
    return Problem(500, "internal", "an unexpected error; the server's log has it under the `instance` below")


def _problem_elsewhere(error: SlipwayError) -> Problem:
    """What went wrong in another process. Not in the error's own words: they may name hosts."""
    match error:
        case Quarantined():
            return Problem(500, error.code, "this input ended two processes of the model: it is not tried again")
        case UpstreamTimeout():
            return Problem(504, error.code, "a service that this one asks did not answer in time")
        case UpstreamUnavailable(retry_after_s=float(wait_s)) | UpstreamFailed(retry_after_s=float(wait_s)):
            return Problem(503, error.code, "a service that this one asks does not work", retry_after_s=wait_s)
        case SlipwayError(code="remote_unavailable"):
            return Problem(503, error.code, "the server that computes this model cannot be reached", retry_after_s=1.0)
    return Problem(502, error.code, "a server that this one asks gave no usable answer")


def _split_path(message: str) -> tuple[str, str]:
    """msgspec's "Expected `int`, got `str` - at `$.x`" as (sentence, path)."""
    sentence, separator, path = message.rpartition(" - at `")
    return (sentence, path.rstrip("`")) if separator else (message, "$")
