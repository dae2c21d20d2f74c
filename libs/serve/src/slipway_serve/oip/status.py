"""A problem as gRPC tells it: a status code, a sentence, and the whole problem in the trailing metadata.

One table; nothing else knows gRPC's codes. The invariant: every problem has a code, and it is never UNKNOWN. The
sentence and the metadata stay within the 8 KiB of trailers that clients take; the problem's JSON is left out before it
would exceed them. Sources: the status codes of https://grpc.github.io/grpc/core/md_doc_statuscodes.html; the retry
pushback of https://github.com/grpc/proposal/blob/master/A6-client-retries.md
"""

from collections.abc import Mapping
from typing import Final

import grpc

from slipway_serve.problems import Problem, body_of
from slipway_serve.protocol import sentence_of

PROBLEM_KEY: Final = "slipway-problem-bin"
"""Trailing metadata: the problem as the JSON of RFC 9457, as REST answers it."""
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Trailing metadata: milliseconds until a retry can succeed; gRPC's own retry policy obeys it."""
SENTENCE_BYTES: Final = 2_048
PROBLEM_BYTES: Final = 3_072
"""In base64, as it travels, a third more."""

CODES: Final[Mapping[str | int, grpc.StatusCode]] = {
    "refused_queue_full": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "refused_deadline": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "refused_draining": grpc.StatusCode.UNAVAILABLE,
    "stream_only": grpc.StatusCode.UNIMPLEMENTED,
    "schema_invalid": grpc.StatusCode.UNIMPLEMENTED,
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Stable code of a problem, where it says more than its HTTP status; else the HTTP status."""


def code_of(problem: Problem) -> grpc.StatusCode:
    """The status code of a problem; an HTTP status that is not in the table counts as its whole hundred."""
    code = CODES.get(problem.stable_code) or CODES.get(problem.status)
    return code or (grpc.StatusCode.INVALID_ARGUMENT if problem.status < 500 else grpc.StatusCode.INTERNAL)


def message_of(problem: Problem) -> str:
    """What happened and where: the status message."""
    return sentence_of(problem).encode(errors="replace")[:SENTENCE_BYTES].decode(errors="ignore")


def trailers_of(problem: Problem, *, instance: str | None = None) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata of a problem.

    Args:
        problem: what is told.
        instance: a reference that the server's log carries too.
    """
    trailers: list[tuple[str, str | bytes]] = []
    if problem.retry_after_s is not None:
        trailers.append((PUSHBACK_KEY, str(max(1, round(problem.retry_after_s * 1_000)))))
    body = body_of(problem, instance=instance)
    if len(body) <= PROBLEM_BYTES:
        trailers.append((PROBLEM_KEY, body))
    return tuple(trailers)
