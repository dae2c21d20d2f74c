"""Authorization: what a registry asks for, and the token or password that answers it.

It sends no request of its own: fetching a token is the transport's. The invariants: a password goes to the registry, or
over a protected connection to the token server that the registry named; a token is used until shortly before it ends,
and one that is refused is fetched again.
Sources: distribution.github.io/distribution/spec/auth/token and …/oauth; RFC 9110, 11.6.1 (`WWW-Authenticate`).
"""

import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import msgspec
from msgspec import Struct

from slipway_bundle.registry.credentials import Credentials
from slipway_bundle.registry.errors import RegistryRefusedError

__all__ = ["Authorizer", "Fetch"]

EXPIRY_MARGIN_S = 10.0
"""A token that ends sooner is not sent: the request would outlive it."""

DEFAULT_LIFE_S = 60.0
"""What the specification says where a server does not."""

Fetch = Callable[[str, str | None, Mapping[str, str] | None], bytes]
"""Asks a token server: its URL, an `Authorization` header, a form to post. Returns the body of a 200."""


class _Answer(Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = DEFAULT_LIFE_S


class _Token(Struct, frozen=True):
    header: str
    ends_s: float


class Authorizer:
    """The `Authorization` of one repository's requests; any thread may ask."""

    def __init__(
        self,
        host: str,
        credentials: Callable[[], Credentials | None],
        fetch: Fetch,
        *,
        needs_tls: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._load = credentials
        self._fetch = fetch
        self._needs_tls = needs_tls
        self._clock = clock
        self._lock = threading.Lock()
        self._scheme = ""
        self._challenge: dict[str, str] = {}
        self._tokens: dict[str, _Token] = {}

    def header(self, scope: str) -> str | None:
        """What to send with a request that needs `scope`; None before the registry has asked for anything.

        Raises:
            RegistryRefusedError, RegistryError: The token server gives none.
        """
        with self._lock:
            if self._scheme == "basic":
                return self._basic()
            if self._scheme != "bearer":
                return None
            known = self._tokens.get(scope)
            if known is None or known.ends_s - EXPIRY_MARGIN_S <= self._clock():
                known = self._tokens[scope] = self._ask(scope)
            return known.header

    def challenged(self, header: str, scope: str, sent: str | None) -> bool:
        """Take in the `WWW-Authenticate` of a 401; whether another try has something new to send.

        Raises:
            RegistryRefusedError: It asks for something that is not known here.
        """
        scheme, _, parameters = header.partition(" ")
        with self._lock:
            self._scheme = scheme.lower()
            if self._scheme == "basic":
                return self._basic() not in {None, sent}
            if self._scheme != "bearer":
                raise RegistryRefusedError(
                    f"registry {self._host!r} wants the authorization {scheme!r}, expected 'Bearer' or 'Basic'"
                )
            self._challenge = parse_keqv_list(parse_http_list(parameters))
            known = self._tokens.get(scope)
            if known is not None and known.header == sent:  # another thread may have fetched a new one meanwhile
                del self._tokens[scope]
            return True

    def _basic(self) -> str | None:
        found = self._load()
        return found.basic() if found is not None and found.username else None

    def _ask(self, scope: str) -> _Token:
        realm = self._challenge.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in {"http", "https"} or (self._needs_tls and parts.scheme != "https"):
            raise RegistryRefusedError(
                f"registry {self._host!r} sends us to the token server {realm!r}, expected an https address",
                hint="a password would go there without protection; ask who runs the registry",
            )
        found = self._load()
        named = {"service": self._challenge["service"]} if "service" in self._challenge else {}
        asked_s = self._clock()
        if found is not None and found.identity_token:
            form = {**named, "grant_type": "refresh_token", "refresh_token": found.identity_token}
            body = self._fetch(realm, None, {**form, "client_id": "slipway", "scope": scope})
        else:
            query = [*named.items(), *(("scope", part) for part in scope.split(" "))]
            joint = "&" if parts.query else "?"
            header = found.basic() if found is not None and found.username else None
            body = self._fetch(f"{realm}{joint}{urlencode(query)}", header, None)
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.MsgspecError:
            answer = _Answer()
        token = answer.token or answer.access_token
        if not token or not token.isascii() or any(character.isspace() for character in token):
            raise RegistryRefusedError(f"the token server {realm!r} of registry {self._host!r} gave no token")
        return _Token(f"Bearer {token}", asked_s + max(answer.expires_in, EXPIRY_MARGIN_S + 1))
