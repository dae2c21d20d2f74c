"""JWT of one OpenID Connect issuer: is this token for us, from it, valid now, and who is it?

It fetches nothing (jwks.py does). The invariants: an algorithm is one that the configuration names and that fits the
kind of the issuer's key, whatever the token says about itself; `exp`, `iss` and `aud` must be there; a token that was
found right is not computed again, and never believed longer than it says. Source: RFC 8725 (best practices), RFC 9068.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import jwt
import msgspec
from msgspec import Struct

from slipway_serve.access.config import JwtConfig
from slipway_serve.access.errors import JwksError

FAMILIES: Final[Mapping[str, str]] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""Beginning of an algorithm → kind of key that it needs."""
REMEMBERED: Final = 4_096
"""Tokens whose signature was found right; each takes about 500 bytes."""
FAR: Final = 1 << 40
"""Unix time of a day that nobody sees; `exp` may be any number."""
EXPIRED: Final = "the token has expired"
JWKS_BYTES: Final = 1 << 20
JWKS_KEYS: Final = 256

Fault: TypeAlias = Literal["invalid", "expired", "key_unknown"]


class TokenError(Exception):
    """A token is not to be believed.

    Args:
        fault: of which kind.
        detail: for the caller; never holds the token.
    """

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault: Final = fault
        self.detail: Final = detail


class Bearer(NamedTuple):
    """Who a token says that its bearer is."""

    name: str
    scopes: frozenset[str]
    expires: float
    """Unix time, in seconds, leeway included."""


class Jwk(Struct, frozen=True):
    """What is asked of a key before it is used; the other members depend on its kind."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None


class Jwks(Struct, frozen=True):
    """A JSON Web Key Set."""

    keys: tuple[msgspec.Raw, ...]


Verifiers: TypeAlias = dict[tuple[str | None, str], jwt.PyJWK]


def verifiers_of(raw: bytes, algorithms: Sequence[str]) -> Verifiers:
    """The keys of a set by id and algorithm: those that sign, of algorithms that are allowed.

    Raises:
        JwksError: it is no key set, or has no such key.
    """
    if len(raw) > JWKS_BYTES:
        raise JwksError(f"the key set has {len(raw)} bytes, expected at most {JWKS_BYTES}")
    try:
        keys = msgspec.json.decode(raw, type=Jwks).keys
    except msgspec.DecodeError as error:
        raise JwksError(f"not a JSON Web Key Set: {error}") from error
    if len(keys) > JWKS_KEYS:
        raise JwksError(f"the key set has {len(keys)} keys, expected at most {JWKS_KEYS}")
    found: Verifiers = {}
    for raw_key in keys:
        for algorithm in _algorithms_of(raw_key, algorithms):
            try:
                made = jwt.PyJWK(msgspec.json.decode(raw_key), algorithm)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue  # of another curve or use than ours: others in the set may do
            found.setdefault((_decoded(raw_key).kid, algorithm), made)
    if not found:
        raise JwksError(
            f"the key set has {len(keys)} keys and none for {', '.join(algorithms)}",
            hint="compare `runtime.access.jwt.algorithms` with what the issuer signs with",
        )
    return found


class Tokens:
    """Judges tokens.

    Args:
        config: `[runtime.access.jwt]`.
    """

    def __init__(self, config: JwtConfig) -> None:
        self._config = config
        self._verifiers: Verifiers = {}
        self._remembered: OrderedDict[bytes, Bearer] = OrderedDict()

    @property
    def is_ready(self) -> bool:
        """Whether the issuer's keys are known."""
        return bool(self._verifiers)

    def use(self, verifiers: Verifiers) -> None:
        """From now on these are the issuer's keys: what an earlier one signed counts no more."""
        self._verifiers = verifiers
        self._remembered.clear()

    def bearer(self, token: bytes, now: float) -> Bearer:
        """Who it is. HOT where JWT are asked for: 2 us for one that was seen before, 50 to 150 us for another.

        Args:
            token: as the caller sent it.
            now: Unix time.

        Raises:
            TokenError: it is not to be believed.
        """
        digest = sha256(token).digest()
        known = self._remembered.get(digest)
        if known is not None:
            if now < known.expires:
                return known
            raise TokenError("expired", EXPIRED)
        claims = self._claims(token)
        name = claims.get(self._config.client_claim)
        if not isinstance(name, str) or not 0 < len(name) <= 256:
            raise TokenError("invalid", f"the token's `{self._config.client_claim}` names nobody")
        expires = min(int(claims["exp"]), FAR) + self._config.leeway_s
        if now >= expires:
            raise TokenError("expired", EXPIRED)
        bearer = Bearer(name, _scopes(claims.get(self._config.scope_claim)), expires)
        self._remembered[digest] = bearer
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return bearer

    def _claims(self, token: bytes) -> dict[str, Any]:
        """The payload, when everything about it is right."""
        config = self._config
        try:
            header = jwt.get_unverified_header(token)
            return jwt.decode(
                token,
                self._verifier(header),
                algorithms=list(config.algorithms),
                audience=config.audience,
                issuer=config.issuer,
                leeway=config.leeway_s,
                options={"require": ["exp", "iss", "aud"], "verify_sub": False},
            )
        except jwt.ExpiredSignatureError:
            raise TokenError("expired", EXPIRED) from None
        except jwt.ImmatureSignatureError:
            raise TokenError("invalid", "the token is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise TokenError("invalid", "the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise TokenError("invalid", "the token is of another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenError("invalid", f"the token has no `{error.claim}`") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise TokenError("invalid", "the token is malformed, or its signature is not the issuer's") from None

    def _verifier(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._config.algorithms:
            raise TokenError("invalid", f"the token is not signed with {' or '.join(self._config.algorithms)}")
        if kid is not None and not isinstance(kid, str):
            raise TokenError("invalid", "the token's `kid` is no text")
        of_algorithm = [key for (_, name), key in self._verifiers.items() if name == algorithm]
        if kid is None and len(of_algorithm) == 1:
            return of_algorithm[0]
        found = self._verifiers.get((kid, str(algorithm)))
        if found is None:
            raise TokenError("key_unknown", "the token is signed with a key that the issuer does not publish")
        return found


def _decoded(raw: msgspec.Raw) -> Jwk:
    return msgspec.json.decode(raw, type=Jwk)


def _algorithms_of(raw: msgspec.Raw, allowed: Sequence[str]) -> list[str]:
    """Which of the allowed algorithms a key may be used with."""
    try:
        key = _decoded(raw)
    except msgspec.DecodeError:
        return []
    if key.use not in {None, "sig"}:
        return []
    fitting = [name for name in allowed if FAMILIES[name[:2]] == key.kty]
    return fitting if key.alg is None else [name for name in fitting if name == key.alg]


def _scopes(claim: object) -> frozenset[str]:
    if isinstance(claim, str):
        return frozenset(claim.split())
    return frozenset(word for word in claim if isinstance(word, str)) if isinstance(claim, list) else frozenset()
