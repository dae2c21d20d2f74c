"""W3C Trace Context: what a caller says about the trace a request belongs to, and how it is said to the next server.

Pure: bytes in, values out. It decides nothing about sampling (`tracing`). The invariants: a header that is not exactly
what the standard says is as if it were not there, whatever its length; nothing of it reaches a log or a span but the
ids, the sampled flag and a `tracestate` of visible characters within the standard's limits.

Source: https://www.w3.org/TR/trace-context/ (sections 3.2 and 3.3).
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = [
    "TRACEPARENT",
    "TRACESTATE",
    "RemoteContext",
    "format_traceparent",
    "join_repeated",
    "parse_context",
    "parse_tracestate",
]

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
TRACESTATE_BYTES: Final = 512
"""The length that every vendor must carry (section 3.3.1.5); a longer one is left out."""
TRACESTATE_MEMBERS: Final = 32

_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_PARENT_BYTES: Final = 55
_LONGEST_BYTES: Final = 512
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_KEY: Final = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = re.compile(rf"({_KEY})=([ -+\--<>-~]{{0,255}}[!-+\--<>-~])")


class RemoteContext(msgspec.Struct, frozen=True, gc=False):
    """What the caller sent: still as text, because 99 of 100 requests never need the numbers."""

    trace: bytes
    """32 lower-case hexadecimal digits, not all 0."""
    span: bytes
    """16 of them: the caller's span."""
    is_sampled: bool
    state: bytes | None = None
    """`tracestate` as it came, not yet looked at."""

    @property
    def trace_id(self) -> int:
        """The trace id as a 128-bit number."""
        return int(self.trace, 16)

    @property
    def span_id(self) -> int:
        """The id of the caller's span as a 64-bit number."""
        return int(self.span, 16)


def join_repeated(headers: dict[bytes, bytes], pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """Put right what a mapping of repeated headers has lost: of each name it holds the last.

    A second `traceparent` makes both none, as the standard's own test suite asks; several `tracestate` are one list.

    Args:
        headers: a mapping of `pairs`; the two headers are changed in it.
        pairs: as received, names in lower case.
    """
    if sum(name == TRACEPARENT for name, _ in pairs) > 1:
        del headers[TRACEPARENT]
    if TRACESTATE in headers:
        headers[TRACESTATE] = b",".join(value for name, value in pairs if name == TRACESTATE)


def parse_context(traceparent: bytes, tracestate: bytes | None = None) -> RemoteContext | None:
    """The caller's context, or None when `traceparent` is not one. HOT: about a microsecond.

    Versions above 00 are read as 00, and may be longer, as the standard asks; version ff is none.
    """
    if not _PARENT_BYTES <= len(traceparent) <= _LONGEST_BYTES:
        return None
    found = _PARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if trace == _NO_TRACE or span == _NO_SPAN or (rest is not None and version == b"00"):
        return None
    return RemoteContext(trace, span, int(flags, 16) & 1 == 1, tracestate)


def parse_tracestate(raw: bytes | None) -> tuple[tuple[str, str], ...]:
    """The members of a `tracestate`, in order; () when it breaks the standard anywhere, a key twice included."""
    if raw is None or not raw or len(raw) > TRACESTATE_BYTES:
        return ()
    try:
        parts = [part.strip(" \t") for part in raw.decode("ascii").split(",")]
    except UnicodeDecodeError:
        return ()
    members = [_MEMBER.fullmatch(part) for part in parts if part]
    pairs = tuple((found[1], found[2]) for found in members if found is not None)
    if len(pairs) != len(members) or len(pairs) > TRACESTATE_MEMBERS or len(dict(pairs)) != len(pairs):
        return ()
    return pairs


def format_traceparent(trace_id: int, span_id: int, *, is_sampled: bool) -> str:
    """The header for the next server: the parent of what it does is `span_id`."""
    return f"00-{trace_id:032x}-{span_id:016x}-0{int(is_sampled)}"
