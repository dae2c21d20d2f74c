"""A request on its way through: what of it is sent on, and what of an answer is given back. Pure.

The invariants: headers that are about one connection stay on it (RFC 9110, 7.6.1); nobody outside can mark a request as
synthetic unless the configuration says that they may; what names the arm never reaches an arm.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from slipway_serve.split.config import StickyConfig
from slipway_serve.watching import SYNTHETIC_HEADER

__all__ = ["ARM_HEADER", "SHADOW", "Request", "Sticky", "answer_headers", "request_headers"]

Pairs = list[tuple[bytes, bytes]]

ARM_HEADER: Final = b"x-slipway-arm"
SHADOW: Final = (b"x-slipway-shadow", b"1")
"""On copies: nobody gets the answer."""
VIA: Final = (b"via", b"1.1 slipway-split")
HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Of one connection."""
OURS: Final = frozenset({b"host", b"content-length", b"expect", SHADOW[0]})
"""Written anew for each connection to an arm."""
IDEMPOTENCY_HEADER: Final = b"idempotency-key"
"""The client says that the request has an effect (draft-ietf-httpapi-idempotency-key-header)."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110, 9.2.1."""


class Request(NamedTuple):
    """One request, read to its end."""

    method: str
    path: str
    """Decoded, for rules."""
    target: bytes
    """Path and query as they were sent."""
    headers: Pairs
    """As they came, names in lower case."""
    body: bytes
    client: str
    """Address; "" when nobody knows."""
    is_https: bool = False

    def header(self, name: bytes) -> bytes | None:
        """The first of this name, lower case."""
        for found, value in self.headers:
            if found == name:
                return value
        return None

    @property
    def is_synthetic(self) -> bool:
        """Whether it says that it is a test or a probe."""
        return self.header(SYNTHETIC_HEADER) is not None

    def may_repeat(self, *, is_repeatable: bool) -> bool:
        """Whether sending it twice does no harm; `is_repeatable`: its path is one of those that say so."""
        if self.header(IDEMPOTENCY_HEADER) is not None:
            return False
        return is_repeatable or self.method in SAFE


class Sticky:
    """Finds the key of a request.

    Args:
        config: what of it is the key.
    """

    def __init__(self, config: StickyConfig) -> None:
        self._header = None if config.header is None else config.header.lower().encode()
        self._cookie = None if config.cookie is None else config.cookie.encode()
        self._decoder: msgspec.json.Decoder[object] | None = None
        if config.field is not None:
            keyed = msgspec.defstruct(
                "Keyed", [("key", str | int | float | None, None)], rename={"key": config.field}, frozen=True
            )
            self._decoder = msgspec.json.Decoder(keyed)
        self.salt: Final = config.salt.encode()

    def key(self, request: Request) -> bytes | None:
        """The key; None: it has none."""
        if self._header is not None:
            return request.header(self._header) or None
        if self._cookie is not None:
            return self._of_cookie(request)
        if self._decoder is None:
            return None
        try:
            value = getattr(self._decoder.decode(request.body), "key", None)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        return None if value is None else str(value).encode()

    def _of_cookie(self, request: Request) -> bytes | None:
        for name, value in request.headers:
            if name == b"cookie":
                for pair in value.split(b";"):
                    left, equals, right = pair.strip().partition(b"=")
                    if equals and left == self._cookie and right:
                        return right
        return None


def request_headers(request: Request, *, dropped: Collection[bytes], more: Sequence[tuple[bytes, bytes]] = ()) -> Pairs:
    """What is sent on to an arm.

    Args:
        request: as it came.
        dropped: names, lower case, that stop here.
        more: added.
    """
    stops = HOP | OURS | _named(request.headers) | set(dropped)
    kept = [pair for pair in request.headers if pair[0] not in stops and pair[0] != b"x-forwarded-for"]
    before = b", ".join(value for name, value in request.headers if name == b"x-forwarded-for")
    if request.client:
        before = b", ".join(filter(None, (before, request.client.encode())))
    if before:
        kept.append((b"x-forwarded-for", before))
    if request.header(b"x-forwarded-proto") is None:
        kept.append((b"x-forwarded-proto", b"https" if request.is_https else b"http"))
    return [*kept, VIA, *more]


def answer_headers(headers: Pairs, status: int) -> Pairs:
    """What is given back of an arm's answer; 204 and 304 have no length, because they have no body."""
    stops = HOP | _named(headers)
    if status in {204, 304}:
        stops |= {b"content-length"}
    return [pair for pair in headers if pair[0] not in stops]


def _named(headers: Pairs) -> frozenset[bytes]:
    """The headers that `Connection` names."""
    return frozenset(
        name.strip().lower() for found, value in headers if found == b"connection" for name in value.split(b",")
    )
