"""Which tokens are believed, and where the issuer's keys come from."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import jwt
import pytest
from access_issuer import AUDIENCE, ISSUER, Issuer, published

from slipway_bundle import ConfigError
from slipway_serve.access.config import JwtConfig
from slipway_serve.access.errors import JwksError
from slipway_serve.access.jwks import AGAIN_S, IssuerKeys
from slipway_serve.access.tokens import TokenError, Tokens, verifiers_of

CONFIG = JwtConfig(issuer=ISSUER, audience=AUDIENCE, jwks="unused")
NOW = time.time()


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def tokens(issuer: Issuer) -> Tokens:
    made = Tokens(CONFIG)
    made.use(verifiers_of(issuer.jwks(), CONFIG.algorithms))
    return made


def fault_of(tokens: Tokens, token: str | bytes, now: float | None = None) -> str:
    with pytest.raises(TokenError) as caught:
        tokens.bearer(token if isinstance(token, bytes) else token.encode(), now or time.time())
    assert "eyJ" not in str(caught.value)  # the token is not repeated
    return caught.value.fault


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("scope", ["infer explain", ["infer", "explain"]])
def test_a_token_names_its_bearer_and_what_he_may(issuer: Issuer, tokens: Tokens, scope: object) -> None:
    for token in (
        issuer.token(scope=scope),
        issuer.rsa_token(scope=scope),
        issuer.token(scope=scope, aud=["x", AUDIENCE]),
    ):
        bearer = tokens.bearer(token.encode(), NOW)

        assert bearer.name == "alice"
        assert bearer.scopes == {"infer", "explain"}


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"exp": int(NOW) - 31}, "expired"),
        ({"exp": None}, "invalid"),
        ({"exp": "soon"}, "invalid"),
        ({"exp": "9" * 5_000}, "invalid"),
        ({"nbf": int(NOW) + 3_600}, "invalid"),
        ({"aud": "another"}, "invalid"),
        ({"aud": None}, "invalid"),
        ({"iss": ISSUER.rstrip("/")}, "invalid"),
        ({"iss": None}, "invalid"),
        ({"sub": None}, "invalid"),
        ({"sub": 7}, "invalid"),
        ({"sub": "a" * 300}, "invalid"),
    ],
)
def test_a_token_that_says_something_wrong_is_not_believed(
    issuer: Issuer, tokens: Tokens, claims: dict[str, object], fault: str
) -> None:
    assert fault_of(tokens, issuer.token(**claims)) == fault


def test_the_leeway_forgives_clocks_that_differ(issuer: Issuer, tokens: Tokens) -> None:
    late, early = issuer.token(exp=int(time.time()) - 20), issuer.token(nbf=int(time.time()) + 20)

    assert tokens.bearer(late.encode(), NOW).name == tokens.bearer(early.encode(), NOW).name == "alice"


def test_a_token_may_be_valid_longer_than_anybody_can_count(issuer: Issuer, tokens: Tokens) -> None:
    assert tokens.bearer(issuer.token(exp=10**400).encode(), NOW).name == "alice"


def test_no_algorithm_is_taken_from_the_token(issuer: Issuer, tokens: Tokens) -> None:
    """Every way of RFC 8725, section 2.1: none, a public key as a shared secret, another algorithm of the same key."""
    claims = issuer.claims()
    unsigned = f"{segment({'alg': 'none', 'kid': issuer.kid})}.{segment(claims)}."
    head = f"{segment({'alg': 'HS256', 'kid': 'rsa'})}.{segment(claims)}"
    mac = hmac.new(issuer.public_pem(), head.encode(), hashlib.sha256).digest()
    confused = f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    swapped = issuer.token().split(".")
    swapped[0] = segment({"alg": "RS256", "kid": issuer.kid})

    faults = {fault_of(tokens, token) for token in (unsigned, confused, issuer.rsa_token("PS256"))}

    assert faults == {"invalid"}
    assert fault_of(tokens, ".".join(swapped)) == "key_unknown"


def test_a_token_that_was_changed_or_is_another_issuers_is_not_believed(issuer: Issuer, tokens: Tokens) -> None:
    token = issuer.token(scope="infer")
    head, body, signature = token.split(".")
    more = f"{head}.{segment(issuer.claims(scope='admin'))}.{signature}"
    stranger = Issuer()

    assert fault_of(tokens, more) == "invalid"
    assert fault_of(tokens, stranger.token()) == "key_unknown"
    assert fault_of(tokens, jwt.encode(issuer.claims(), stranger._rsa, "RS256", {"kid": "rsa"})) == "invalid"
    for junk in (
        "",
        ".",
        "..",
        "a.b.c",
        head,
        f"{head}.{body}",
        "\xff" * 100,
        "eyJ" * 10_000,
        f"{head}.{body}.{'=' * 9}",
    ):
        assert fault_of(tokens, junk.encode("latin-1")) in {"invalid", "key_unknown"}


def test_what_was_believed_once_is_believed_no_longer_than_it_says(issuer: Issuer, tokens: Tokens) -> None:
    now = time.time()  # of this test: the first look is at the clock itself
    token = issuer.token(exp=int(now) + 60).encode()

    assert tokens.bearer(token, now) is tokens.bearer(token, now + 80)
    assert fault_of(tokens, token, now=now + 91) == "expired"
    assert fault_of(tokens, token, now=now + 91) == "expired"


def test_keys_that_an_issuer_takes_back_count_no_more(tokens: Tokens) -> None:
    issuer = Issuer()
    tokens.use(verifiers_of(issuer.jwks(), CONFIG.algorithms))
    token = issuer.token()
    tokens.bearer(token.encode(), NOW)

    issuer.rotate()
    tokens.use(verifiers_of(issuer.jwks(), CONFIG.algorithms))

    assert fault_of(tokens, token) == "key_unknown"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"keys": []}',
        b'{"keys": [7]}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}',
        b'{"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]}',
        b'{"keys": [' + b",".join([b'{"kty": "EC"}'] * 300) + b"]}",
        Issuer().jwks()[:-1] + b', "more": "' + b"x" * (1 << 20) + b'"}',
        Issuer().jwks().replace(b'"use": "sig"', b'"use": "enc"').replace(b'"kid": "rsa"', b'"use": "enc"'),
    ],
    ids=["empty", "list", "none", "number", "secret", "broken", "many", "large", "encrypting"],
)
def test_what_is_no_key_set_is_refused(raw: bytes) -> None:
    with pytest.raises(JwksError):
        verifiers_of(raw, CONFIG.algorithms)


@pytest.mark.parametrize("jwks", ["http://keys.example.com/jwks", "ftp://x/y", "file:///etc/x"])
def test_keys_are_fetched_over_tls_only(jwks: str) -> None:
    with pytest.raises(ConfigError, match="https"):
        IssuerKeys(JwtConfig(issuer=ISSUER, audience="a", jwks=jwks), Tokens(CONFIG))


def test_an_issuer_that_changes_its_key_is_asked_once_however_many_tokens_come() -> None:
    issuer = Issuer()

    async def run() -> None:
        with published(issuer) as pages:
            config = JwtConfig(issuer=pages.url, audience=AUDIENCE)
            tokens = Tokens(config)
            keys = IssuerKeys(config, tokens)
            await keys.start()
            first = tokens.bearer(issuer.token().encode(), NOW).name
            issuer.rotate()
            fresh = issuer.token()
            keys._fetched_at -= AGAIN_S + 1  # the last time was a while ago
            asked = len(pages.asked)
            await asyncio.gather(*(keys.seek() for _ in range(50)))
            await keys.seek()

            assert (first, tokens.bearer(fresh.encode(), NOW).name) == ("alice", "alice")
            assert pages.asked[asked:] == ["/.well-known/openid-configuration", "/jwks"]
            await keys.stop()

    asyncio.run(run())


def test_an_issuer_that_is_away_leaves_the_keys_that_were_there() -> None:
    issuer = Issuer()

    async def run() -> None:
        with published(issuer) as pages:
            config = JwtConfig(issuer=pages.url, audience=AUDIENCE, jwks=f"{pages.url}/jwks")
            tokens = Tokens(config)
            keys = IssuerKeys(config, tokens)
            pages.status = 503
            await keys.start()
            was_ready = tokens.is_ready
            pages.status = 200
            keys._fetched_at -= AGAIN_S + 1
            await keys.seek()
            pages.status = 500
            keys._fetched_at -= AGAIN_S + 1
            await keys.seek()

            assert not was_ready
            assert keys.is_stale
            assert tokens.bearer(issuer.token().encode(), NOW).name == "alice"

    asyncio.run(run())


def test_a_discovery_document_of_somebody_else_is_not_believed() -> None:
    issuer = Issuer()

    async def run() -> None:
        with published(issuer) as pages:
            config = JwtConfig(issuer=f"{pages.url}/tenant", audience=AUDIENCE)
            tokens = Tokens(config)
            keys = IssuerKeys(config, tokens)
            await keys.start()

            assert pages.asked == ["/tenant/.well-known/openid-configuration"]
            assert not tokens.is_ready

    asyncio.run(run())


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path) -> None:
    issuer, path = Issuer(), tmp_path / "jwks.json"
    path.write_bytes(issuer.jwks())
    config = JwtConfig(issuer=ISSUER, audience=AUDIENCE, jwks=str(path))
    tokens = Tokens(config)
    keys = IssuerKeys(config, tokens)

    issuer.rotate()
    (tmp_path / "new").write_bytes(issuer.jwks())
    (tmp_path / "new").replace(path)
    keys.tick()

    assert tokens.bearer(issuer.token().encode(), NOW).name == "alice"
