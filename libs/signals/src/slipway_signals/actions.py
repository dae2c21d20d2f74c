"""What a POST to the admin port must carry before it does anything, and the JSON in which it is told that it failed.

It does not listen (`admin`) and does not know what an action does. The invariant: no page that a browser shows can
start an action, although a browser reaches the loopback: such a page cannot set `x-slipway-admin` without asking first
(CORS preflight, https://fetch.spec.whatwg.org/#http-cors-protocol), which the port never allows, and a page that has
made the port its own origin by DNS rebinding still sends `Origin`. Errors are problems (RFC 9457).
"""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["BODY_BYTES", "HEADER", "Action", "Answer", "perform", "problem"]

logger = logging.getLogger(__name__)

Answer = tuple[int, bytes, str]
"""Status, body, content type."""
Action = Callable[[bytes], Answer]
"""Does what a POST asks for; gets its body. Called from the admin port's threads."""

HEADER: Final = "x-slipway-admin"
"""The header, with the value `1`, that says: this is no web page."""
BODY_BYTES: Final = 65_536
"""The longest body."""
DISCARDED_BYTES: Final = 1_048_576
"""How much of a refused body is read: a client that is still sending when the port closes loses the answer."""
BODY_S: Final = 10.0
"""How long a body may take; the wait for its last bytes (the port's timeout, 10 s) comes on top."""


class _Body(Protocol):
    """What is behind `wsgi.input`."""

    def read1(self, size: int, /) -> bytes: ...


def problem(status: int, code: str, detail: str, hint: str | None = None) -> Answer:
    """An answer that says what is wrong, for `SlipwayError.code`, `.message` and `.hint`."""
    members = {"type": f"urn:slipway:problem:{code}", "title": HTTPStatus(status).phrase, "status": status}
    members |= {"detail": detail, "code": code}
    if hint is not None:
        members["hint"] = hint
    return status, msgspec.json.encode(members), "application/problem+json"


def perform(path: str, action: Action, environ: "WSGIEnvironment") -> Answer:
    """Run `action` on the body of the request, if the request may.

    It needs `x-slipway-admin: 1`, `content-type: application/json`, a `content-length` of at most `BODY_BYTES`, and no
    `origin`.
    """
    try:
        length = int(environ.get("CONTENT_LENGTH") or -1)
    except ValueError:
        length = -1
    refusal = _refusal(environ, length)
    body = _read(environ["wsgi.input"], min(length, DISCARDED_BYTES))
    if refusal is not None:
        return refusal
    if body is None:
        return problem(408, "body_late", f"the body did not arrive within {BODY_S:g} s: expected {length} bytes")
    if len(body) < length:
        return problem(400, "body_short", f"the body ended early: expected {length} bytes, got {len(body)}")
    try:
        return action(body)
    except Exception:  # top of a request: the action's fault must not end the port
        logger.exception("admin_action_failed", extra={"page": path})
        return problem(500, "action_failed", "the action failed; the log of the server says why")


def _refusal(environ: "WSGIEnvironment", length: int) -> Answer | None:
    """Why the request may not act, before a byte of its body is looked at."""
    if environ.get(f"HTTP_{HEADER.upper().replace('-', '_')}") != "1" or "HTTP_ORIGIN" in environ:
        return problem(403, "not_an_operator", f"a web page may not do this: send `{HEADER}: 1`, and no `origin`")
    content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        return problem(403, "content_type", f"the body must be `application/json`: got {content_type!r}")
    if length < 0:
        return problem(411, "length_required", "the length of the body must be known: send `content-length`")
    if length > BODY_BYTES:
        return problem(413, "body_too_large", f"the body is too large: {length} bytes, at most {BODY_BYTES}")
    return None


def _read(source: _Body, length: int) -> bytes | None:
    """Up to `length` bytes, fewer when the client ends; None when it takes too long."""
    chunks: list[bytes] = []
    until = time.monotonic() + BODY_S
    left = length
    while left > 0:
        try:
            chunk = source.read1(left)
        except TimeoutError:
            return None
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
        if left > 0 and time.monotonic() > until:
            return None
    return b"".join(chunks)
