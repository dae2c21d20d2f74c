"""A token issuer in a test: real key pairs, their public halves as a key set, over HTTP if asked for."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.com/"
AUDIENCE = "slipway-tests"


class Issuer:
    """Makes tokens; `rotate` makes it sign with a new key."""

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self._keys: dict[str, Any] = {}
        self._rsa = rsa.generate_private_key(65_537, 2_048)
        self.kid = ""
        self.rotate()

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish only that."""
        self.kid = f"k{time.monotonic_ns()}"
        self._keys = {self.kid: ec.generate_private_key(ec.SECP256R1())}

    def jwks(self) -> bytes:
        """What the issuer publishes."""
        (kid, private), *_ = self._keys.items()
        mine = ECAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": kid, "use": "sig", "alg": "ES256"}
        old = RSAAlgorithm.to_jwk(self._rsa.public_key(), as_dict=True) | {"kid": "rsa"}  # says no algorithm
        edwards = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)
        return json.dumps({"keys": [edwards | {"kid": "ed", "use": "enc"}, mine, old]}).encode()

    def token(self, **claims: Any) -> str:
        """A token that is good for five minutes; a claim that is None is left out."""
        return jwt.encode(self.claims(**claims), self._keys[self.kid], "ES256", {"kid": self.kid})

    def rsa_token(self, algorithm: str = "RS256", **claims: Any) -> str:
        """The same, signed with the RSA key."""
        return jwt.encode(self.claims(**claims), self._rsa, algorithm, {"kid": "rsa"})

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What a token says."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "alice", "exp": now + 300, "iat": now, **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def public_pem(self) -> bytes:
        """The public RSA key as a file has it."""
        from cryptography.hazmat.primitives import serialization

        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._rsa.public_key().public_bytes(encoding, form)


class Published:
    """An issuer's pages; `asked` counts, `status` breaks them."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.asked: list[str] = []
        self.status = 200
        self.url = ""

    def page(self, path: str) -> bytes:
        """What is answered."""
        if path.endswith("/openid-configuration"):
            return json.dumps({"issuer": self.issuer.issuer, "jwks_uri": f"{self.url}/jwks"}).encode()
        return self.issuer.jwks()


@contextmanager
def published(issuer: Issuer) -> Iterator[Published]:
    """The issuer behind a real HTTP server on a free port; its `issuer` is that address."""
    pages = Published(issuer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.asked.append(self.path)
            content = pages.page(self.path) if pages.status == 200 else b"no"
            self.send_response(pages.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pages.url = f"http://127.0.0.1:{server.server_port}"
    issuer.issuer = pages.url
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
