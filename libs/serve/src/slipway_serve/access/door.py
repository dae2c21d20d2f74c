"""Lets requests in, or says why not: who asks, may he ask this, has he asked too often.

One `Door` stands in each API worker, before HTTP and gRPC alike. The invariants: what a caller sent as proof is in no
error, log, trace or metric; the body of a request that is not let in is not read; a request over its client's limit is
counted as that and as nothing else, so that no client can spend a service's error budget.
"""

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from msgspec import Struct

from slipway_bundle import ConfigError
from slipway_serve.access.config import AccessConfig, ClientLimits
from slipway_serve.access.jwks import IssuerKeys
from slipway_serve.access.keys import PREFIX, Keys
from slipway_serve.access.limits import Limit
from slipway_serve.access.rules import Rule, Rules
from slipway_serve.access.tokens import TokenError, Tokens
from slipway_serve.problems import Problem
from slipway_signals.metrics_access import ACCESS_REFUSED, REASONS, AccessReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from slipway_serve.access.usage import UsageTable
    from slipway_signals.slots import Slots

KEY_HEADER: Final = b"x-api-key"
TOKEN_HEADER: Final = b"authorization"
CHALLENGE: Final = b"www-authenticate"
REALM: Final = 'Bearer realm="slipway"'
WORDS: Final[Mapping[str, str]] = {
    "key": "an API key",
    "jwt": "a token (JWT)",
    "certificate": "a client certificate",
}
HOW: Final = "send `Authorization: Bearer KEY-OR-TOKEN`, or a key as `X-API-Key`"
LIMITS_KNOWN: Final = 4_096


class Peer(NamedTuple):
    """What a connection says about its other end."""

    address: str
    """Empty where there is none (a Unix socket)."""
    certificate: str | None = None
    """Name in the client's certificate."""


class Caller(NamedTuple):
    """Who asks."""

    client: str
    """`key:NAME`, `jwt:NAME`, `certificate:NAME` or `address:ADDRESS`."""
    kind: str
    scopes: frozenset[str] = frozenset()


class Visit(Struct, gc=False):
    """A request that was looked at."""

    client: str
    policy: bytes = b""
    """`RateLimit-Policy`; empty: the client has no limits."""
    remaining: bytes = b""
    """`RateLimit`."""
    is_limited: bool = False
    """Not let in because of a limit."""
    task: int = 0
    """Which task answers it. A request that a client sent before the answer to another one has a copy of that one's
    context, because uvicorn makes its task there."""


_visit: Final[ContextVar[Visit | None]] = ContextVar("slipway_visit", default=None)


def current_visit() -> Visit | None:
    """Of the request that this task answers; None: it was not looked at, or not let in for want of credentials."""
    visit = _visit.get()
    return visit if visit is not None and visit.task == id(asyncio.current_task()) else None


class Door:
    """Knows callers, rules and limits. Event loop only.

    Args:
        config: `[runtime.access]`.
        rules: of the server's routes.
        slots: where refusals are counted.
        has_certificates: whether clients show certificates.
        keys: gives the keys as they are now; None: there are none.
        tokens: judges JWT; None: none are taken.
        issuer: keeps the keys of `tokens` fresh.
        usage: what clients have used; None: nobody is limited.
        clock: Unix time, as a date.
    """

    def __init__(
        self,
        config: AccessConfig,
        rules: Rules,
        slots: "Slots",
        *,
        has_certificates: bool,
        keys: "Callable[[], Keys] | None",
        tokens: Tokens | None,
        issuer: IssuerKeys | None,
        usage: "UsageTable | None",
        clock: "Callable[[], datetime]",
    ) -> None:
        self._rules = rules
        self._can = {"key": keys is not None, "jwt": tokens is not None, "certificate": has_certificates}
        self._keys = keys
        self._tokens = tokens
        self._issuer = issuer
        self._usage = usage
        self._clock = clock
        self._others = config.limits
        self._own = {name: Limit(limits, config.limits) for name, limits in config.clients.items()}
        self._everybody = Limit(ClientLimits(), config.limits)
        self._refused = {reason: slots.counter(ACCESS_REFUSED, reason) for reason in REASONS}
        for counter in self._refused.values():
            counter.inc(0)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of credentials, which callers can have here."""
        return tuple(kind for kind, can in self._can.items() if can)

    def rule(self, template: str) -> Rule:
        """What a route asks.

        Raises:
            ConfigError: for something that nobody can have.
        """
        rule = self._rules.of(template)
        can = self._can
        wants = rule.require if rule.require != "none" or not rule.scopes else "any"
        if wants != "none" and not can.get(wants, any(can.values())):
            table = {"key": "runtime.access.keys", "jwt": "runtime.access.jwt", "certificate": "--tls-client-ca"}
            missing = table.get(wants, " or ".join(table.values()))
            raise ConfigError(
                f"route `{template}` asks for {'credentials' if wants == 'any' else f'a {wants}'}, and nobody can have "
                f"any: expected {missing}",
                hint=f'configure it, or write `require = "none"` for `[runtime.access.routes."{template}"]`',
            )
        return rule

    async def let_in(self, rule: Rule, headers: Mapping[bytes, bytes], peer: Peer) -> None:
        """Let a request in; returns at once, unless the issuer must be asked for a new key.

        Args:
            rule: of its route.
            headers: names in lower case.
            peer: who is at the other end.

        Raises:
            Problem: 401, 403, 429, 503.
        """
        if rule.is_probe:
            return
        unix = time.time()
        try:
            caller = self._caller(rule, headers, peer, unix)
        except TokenError as error:
            caller = await self._again(error, rule, headers, peer, unix)
        if caller is None:
            if rule.require != "none" or rule.scopes:
                self._refuse("missing", 401, "credentials_missing", f"{self._wanted(rule)} is needed here", REALM)
            caller = Caller(f"address:{_network(peer.address)}", "address")
        elif rule.require not in {"any", "none", caller.kind}:
            self._refuse("kind", 401, "credentials_kind", f"got a {caller.kind}, expected {self._wanted(rule)}", REALM)
        if not rule.scopes <= caller.scopes:
            words = " ".join(sorted(rule.scopes))
            detail = f"the caller lacks a scope, expected {words}"
            self._refuse("scope", 403, "scope_missing", detail, f'{REALM}, error="insufficient_scope", scope="{words}"')
        visit = Visit(caller.client, task=id(asyncio.current_task()))
        _visit.set(visit)
        if self._usage is not None:
            limit = self._own.get(caller.client, self._everybody)
            if limit.is_limited:
                self._take(limit, visit, unix)

    def _caller(self, rule: Rule, headers: Mapping[bytes, bytes], peer: Peer, unix: float) -> Caller | None:
        """Who asks; None: he does not say. Raises TokenError, Problem."""
        certified = None if peer.certificate is None else Caller(f"certificate:{peer.certificate}", "certificate")
        if rule.require == "certificate" or (self._keys is None and self._tokens is None):
            return certified
        sent = headers.get(TOKEN_HEADER)
        if sent is None:
            sent = headers.get(KEY_HEADER)
            if sent is None:
                return certified
        else:
            scheme, _, sent = sent.partition(b" ")
            if scheme.lower() != b"bearer":
                self._invalid("`Authorization` is not of the scheme Bearer")
        sent = sent.strip()
        if sent.startswith(PREFIX.encode()) or self._tokens is None:
            return self._keyed(sent)
        if not self._tokens.is_ready:
            detail = "the keys of the token issuer are not known yet"
            self._refuse("unavailable", 503, "access_unavailable", detail, retry_after_s=1.0)
        bearer = self._tokens.bearer(sent, unix)
        return Caller(f"jwt:{bearer.name}", "jwt", bearer.scopes)

    def _keyed(self, sent: bytes) -> Caller:
        entry = None if self._keys is None else self._keys().find(sent)
        if entry is None:
            self._invalid("the API key is not known")
        if entry.expires is not None and entry.is_expired(self._clock()):
            self._expired("the API key has expired")
        return Caller(f"key:{entry.name}", "key", frozenset(entry.scopes))

    async def _again(
        self, error: TokenError, rule: Rule, headers: Mapping[bytes, bytes], peer: Peer, unix: float
    ) -> Caller | None:
        """A token was not believed: it may be signed with a key that is new."""
        if error.fault == "key_unknown" and self._issuer is not None:
            await self._issuer.seek()
            try:
                return self._caller(rule, headers, peer, unix)
            except TokenError as still:
                error = still
        return self._expired(error.detail) if error.fault == "expired" else self._invalid(error.detail)

    def _take(self, limit: Limit, visit: Visit, unix: float) -> None:
        """Count the request.

        Raises:
            Problem: 429.
        """
        if self._usage is None:
            return
        taken = self._usage.take(visit.client, limit, time.monotonic(), unix)
        visit.policy, visit.remaining = limit.policy, limit.remaining(taken, unix)
        if taken.refusal is None:
            return
        visit.is_limited = True
        if taken.refusal == "rate":
            detail = f"more than {limit.rate_per_s:g} requests a second, {limit.burst} at once"
            self._refuse("rate", 429, "rate_limited", detail, retry_after_s=taken.wait_s)
        detail = f"more than {limit.quota_per_day} requests on this day, UTC"
        self._refuse("quota", 429, "quota_spent", detail, retry_after_s=taken.wait_s)

    def _wanted(self, rule: Rule) -> str:
        """What a caller must have, in words."""
        if rule.require in WORDS:
            return WORDS[rule.require]
        return " or ".join(words for kind, words in WORDS.items() if self._can[kind])

    def _invalid(self, detail: str) -> NoReturn:
        self._refuse("invalid", 401, "credentials_invalid", detail, f'{REALM}, error="invalid_token"')

    def _expired(self, detail: str) -> NoReturn:
        self._refuse("expired", 401, "credentials_expired", detail, f'{REALM}, error="invalid_token"')

    def _refuse(
        self,
        reason: AccessReason,
        status: int,
        code: str,
        detail: str,
        challenge: str | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> NoReturn:
        self._refused[reason].inc()
        headers = () if challenge is None else ((CHALLENGE, challenge.encode()),)
        hint = HOW if status == 401 else "wait as long as `Retry-After` says" if status == 429 else None
        raise Problem(status, code, detail, hint=hint, retry_after_s=retry_after_s, headers=headers)


def _network(address: str) -> str:
    """What counts as one caller without a name: an IPv4 address, the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    from ipaddress import IPv6Address, IPv6Network

    try:
        whole = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = whole.ipv4_mapped
    return str(mapped) if mapped is not None else str(IPv6Network((int(whole) >> 64 << 64, 64)))
