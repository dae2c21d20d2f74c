"""`[runtime.access]`: which callers a server answers, and how many requests it takes from each.

Words only. The invariants: nothing here is a secret, because it is printed and handed to processes on their command
line (paths are); what is left out is never more open than what is written: with keys or JWT configured every route asks
for one, but for those that a rule opens.
"""

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from slipway_bundle import ConfigError

Require: TypeAlias = Literal["key", "jwt", "certificate", "any", "none"]
"""`any`: one of those that the server knows. `none`: nothing; who says who he is must be right all the same."""
Algorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a key pair only. With `HS256` and its like every server could make tokens; and where both kinds are
allowed, a public key passes for a shared secret (RFC 8725, section 2.1)."""

KINDS: Final = ("key", "jwt", "certificate", "address")
"""What a client is known by; the beginning of its id, so that no token can name itself like a key."""


class RouteRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.access.routes."/PATH"]`; a path that ends with `*` stands for all that begin so."""

    require: Require | None = None
    """None: what the server asks for everywhere."""
    scopes: tuple[str, ...] = ()
    """All of them must be the caller's."""


class ClientLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.access.clients."KIND:NAME"]`: of one client; what is left out is as for all."""

    rate_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    quota_per_day: Annotated[int, Meta(ge=0)] | None = None


class JwtConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.access.jwt]`: the issuer whose tokens are believed."""

    issuer: Annotated[str, Meta(min_length=1)]
    """`iss` of the tokens, to the letter."""
    audience: Annotated[str, Meta(min_length=1)]
    """Must be among `aud`: a token for another service is none for this one."""
    jwks: str | None = None
    """File or `https://` address of the issuer's public keys; None: asked at the issuer (OpenID Connect Discovery)."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    leeway_s: Annotated[float, Meta(ge=0, le=600)] = 30.0
    """How far the issuer's clock may be from ours, for `exp` and `nbf`."""
    client_claim: str = "sub"
    """Which claim names the client."""
    scope_claim: str = "scope"
    """Which claim holds the scopes: words with spaces between them (RFC 8693), or a list."""
    refresh_s: Annotated[float, Meta(ge=10, le=86_400)] = 300.0
    """Seconds after which the keys are asked for again; a token with an unknown key asks at once, at most each 10 s."""


class AccessConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole `[runtime.access]` table."""

    keys: str | None = None
    """File of API keys, as `slipway access key new` writes it; read again when it changes."""
    jwt: JwtConfig | None = None
    require: Require | None = None
    """Of every route without a rule, but probes. None: `any` where keys, JWT or client certificates are configured."""
    scopes: tuple[str, ...] = ()
    """Of every route without a rule."""
    routes: dict[str, RouteRule] = {}
    rate_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    """Requests a second that one client may make in the long run, over all API workers of a server; 0 = any number."""
    burst: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Requests that it may make at once after a pause; 0 = those of one second."""
    quota_per_day: Annotated[int, Meta(ge=0)] = 0
    """Requests that one client may make from midnight to midnight, UTC; 0 = any number."""
    clients: dict[str, ClientLimits] = {}
    state: str | None = None
    """File in which the day's counts are kept over restarts; a quota needs one."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ConfigError: with the key that is wrong.
        """
        for name, limits in self.clients.items():
            kind, _, rest = name.partition(":")
            if kind not in KINDS or not rest:
                raise ConfigError(
                    f'`[runtime.access.clients."{name}"]` names no client, expected KIND:NAME with KIND one of '
                    f"{', '.join(KINDS)}",
                    hint=f'an API key by the name of {name!r} is the client "key:{name}"',
                )
            if limits.quota_per_day and self.state is None:
                raise _stateless(f'runtime.access.clients."{name}".quota_per_day')
        if self.quota_per_day and self.state is None:
            raise _stateless("runtime.access.quota_per_day")
        for path in self.routes:
            if not path.startswith("/") or "*" in path[:-1]:
                raise ConfigError(
                    f'`[runtime.access.routes."{path}"]` is no path, expected one like "/predict", or "/v2/*" for all '
                    "that begin so"
                )

    @property
    def limits(self) -> ClientLimits:
        """What clients without limits of their own may do."""
        return ClientLimits(rate_per_s=self.rate_per_s, burst=self.burst or None, quota_per_day=self.quota_per_day)

    @property
    def has_limits(self) -> bool:
        """Whether any client is limited."""
        all_limits = (self.limits, *self.clients.values())
        return any(limits.rate_per_s or limits.quota_per_day for limits in all_limits)

    def default(self, *, has_certificates: bool) -> Require:
        """What routes without a rule ask for."""
        if self.require is not None:
            return self.require
        return "any" if self.keys is not None or self.jwt is not None or has_certificates else "none"

    def is_on(self, *, has_certificates: bool) -> bool:
        """Whether requests must be looked at."""
        asks = (self.default(has_certificates=has_certificates), *(rule.require for rule in self.routes.values()))
        scopes = (self.scopes, *(rule.scopes for rule in self.routes.values()))
        return self.has_limits or any(scopes) or any(require not in {None, "none"} for require in asks)


def _stateless(field: str) -> ConfigError:
    return ConfigError(
        f"`{field}` is set and `runtime.access.state` is not: the count would begin again with each restart",
        hint='name a file for it, such as `state = "state/quotas"`; it is made when it is not there',
    )
