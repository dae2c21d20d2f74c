"""Puts the door before the routes of one API worker: what it is made of, and how HTTP and gRPC come to it.

It decides nothing about callers (door.py). The invariant: a server without `[runtime.access]` and client certificates
has no entrance, and its routes run the same instructions as if this package did not exist.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

from slipway_serve.access.described import describe
from slipway_serve.access.door import Door, Peer, current_visit
from slipway_serve.access.followed_files import FollowedFiles
from slipway_serve.access.jwks import IssuerKeys
from slipway_serve.access.keys import Keys, load_keys
from slipway_serve.access.rules import rules_of
from slipway_serve.access.tls import ServerTls, certificate_of_grpc, client_name
from slipway_serve.access.tokens import Tokens
from slipway_serve.access.usage import UsageTable
from slipway_serve.following import Following
from slipway_signals.metrics_access import ACCESS_STALE

if TYPE_CHECKING:
    import grpc

    from slipway_serve.engine import Engine
    from slipway_serve.routes import Headers, Receive, Scope, ServerState
    from slipway_signals.slots import Slots

Body: TypeAlias = "Callable[[Scope, Receive, Headers], Awaitable[bytes]]"
Pairs: TypeAlias = tuple[tuple[bytes, bytes], ...]
SentHeaders: TypeAlias = Callable[[Pairs], list[tuple[bytes, bytes]]]
LetIn: TypeAlias = "Callable[[Mapping[bytes, bytes], grpc.aio.ServicerContext[Any, Any]], Awaitable[None]]"

POLICY_HEADER: Final = b"ratelimit-policy"
REMAINING_HEADER: Final = b"ratelimit"


class Entrance:
    """Who may call the routes of this process.

    Args:
        engines: what is served; their `[runtime.access]` agree.
        slots: of this process.
        tls: of the public ports; None: they have none.
        usage_fd: of the table of what clients have used; None: nobody is limited.
        is_grpc: whether models can be asked over gRPC.

    Raises:
        SlipwayError: a rule, a file of keys or an issuer's keys cannot be used.
    """

    def __init__(
        self,
        engines: "Sequence[Engine]",
        slots: "Slots",
        *,
        tls: ServerTls | None,
        usage_fd: int | None,
        is_grpc: bool,
    ) -> None:
        config = engines[0].config.access
        has_certificates = tls is not None and tls.asks_clients
        self._has_certificates = has_certificates
        default = config.default(has_certificates=has_certificates)
        self._rules = rules_of(engines, default, is_grpc=is_grpc)
        self._keys = Keys()
        self._files: list[FollowedFiles] = [] if tls is None else [tls.files]
        if config.keys is not None:
            path = Path(config.keys)
            self._files.append(FollowedFiles([path], lambda: self._use(load_keys(path))))
        tokens = None if config.jwt is None else Tokens(config.jwt)
        self._issuer = None if config.jwt is None or tokens is None else IssuerKeys(config.jwt, tokens)
        self._stale = slots.gauge(ACCESS_STALE)
        self._door = Door(
            config,
            self._rules,
            slots,
            has_certificates=has_certificates,
            keys=None if config.keys is None else lambda: self._keys,
            tokens=tokens,
            issuer=self._issuer,
            usage=None if usage_fd is None else UsageTable(usage_fd),
            clock=lambda: datetime.now(UTC),
        )

    async def start(self) -> None:
        """Ask the issuer for its keys, if there is one."""
        if self._issuer is not None:
            await self._issuer.start()

    def tick(self) -> None:
        """Called about once a second: read again what has changed."""
        for files in self._files:
            files.look()
        stale = sum(files.is_stale for files in self._files)
        if self._issuer is not None:
            self._issuer.tick()
            stale += self._issuer.is_stale
        self._stale.set(stale)

    async def stop(self) -> None:
        """Ask nobody any more."""
        if self._issuer is not None:
            await self._issuer.stop()

    def check(self, templates: Sequence[str], *, is_grpc: bool) -> None:
        """Compare the rules with the routes that there are; raises ConfigError as `Rules.check`."""
        self._rules.check(templates, is_grpc=is_grpc)

    def describe(self, document: dict[str, Any], models: Sequence[str]) -> None:
        """Add to an OpenAPI document how to be let in; `models` are those that the protocol serves."""
        describe(document, self._door.rule, self._door.kinds, models)

    def body(self, template: str, read: Body) -> Body:
        """How a route reads the body of a request that is let in. Raises ConfigError as `Door.rule`."""
        rule, door = self._door.rule(template), self._door

        async def read_when_let_in(scope: "Scope", receive: "Receive", headers: "Headers") -> bytes:
            await door.let_in(rule, headers, self._peer(scope))
            return await read(scope, receive, headers)

        return read_when_let_in

    def following(self, template: str, server: "ServerState", slow_s: float | None) -> Following:
        """What follows the requests of a route."""
        return GuardedFollowing(template, server, slow_s)

    def headers(self, sent: SentHeaders) -> SentHeaders:
        """The headers of an answer, with what its client has left."""

        def limited(headers: Pairs) -> list[tuple[bytes, bytes]]:
            pairs = sent(headers)
            visit = current_visit()
            if visit is not None and visit.policy:
                pairs += [(POLICY_HEADER, visit.policy), (REMAINING_HEADER, visit.remaining)]
            return pairs

        return limited

    @property
    def is_closed(self) -> bool:
        """Whether routes without a rule ask for credentials: then nobody is told which paths there are."""
        return self._rules.of("").require != "none"

    def call(self, template: str) -> LetIn:
        """How a gRPC method lets a request in. Raises ConfigError as `Door.rule`."""
        rule, door = self._door.rule(template), self._door

        async def let_in(headers: Mapping[bytes, bytes], context: "grpc.aio.ServicerContext[Any, Any]") -> None:
            raw = certificate_of_grpc(context.auth_context()) if self._has_certificates else None
            name = None if raw is None else client_name(raw) or None
            await door.let_in(rule, headers, Peer(_grpc_address(context.peer()), name))

        return let_in

    def _use(self, keys: Keys) -> None:
        self._keys = keys

    def _peer(self, scope: "Scope") -> Peer:
        client = scope.get("client")
        address = client[0] if client else ""
        if not self._has_certificates:
            return Peer(address)
        return Peer(address, _certificate_name(scope))


class GuardedFollowing(Following):
    """Follows the requests of one route; those over their client's limit are counted at the door and not again."""

    __slots__ = ()

    def __init__(self, template: str, server: "ServerState", slow_s: float | None = None) -> None:
        super().__init__(template, server, slow_s)
        measure = self._measure

        def measured(route: str, method: str, status: int, seconds: float) -> None:
            visit = current_visit() if status == 429 else None
            if visit is None or not visit.is_limited:
                measure(route, method, status, seconds)

        self._measure = measured


def _certificate_name(scope: "Scope") -> str | None:
    connection = scope.get("slipway.connection")
    secured = None if connection is None else connection.transport.get_extra_info("ssl_object")
    raw = None if secured is None else secured.getpeercert(binary_form=True)
    return None if raw is None else client_name(raw) or None


def _grpc_address(peer: str) -> str:
    """`ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711` → the address."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else ""
