"""Getting in: passwords, helpers, tokens that end, private CAs, mirrors, proxies; and secrets go nowhere else."""

import base64
import datetime as dt
import ipaddress
import json
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from bundle_fakes import Shelf
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from registry_fakes import SOON, fetch, leaf_sizes, send
from registry_process import Fault, FaultProxy, RegistryProcess, Seen, environ, proxied, running
from store_fakes import names, require_whole

from slipway_bundle.registry import RegistryError, RegistryRefusedError, RemoteInvalidError, parse_remote
from slipway_bundle.registry.credentials import load_credentials
from slipway_bundle.store import Store

HTPASSWD = "jane:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
"""bcrypt of `secret`, as the registry wants it."""

pytestmark = pytest.mark.needs("docker-registry")


def docker_config(home: Path, **content: object) -> dict[str, str]:
    folder = home / ".docker"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    return environ(home)


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry that wants a password."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: here, path: {folder}/htpasswd}}}}"
    with running(folder, auth=auth) as process:
        yield process


def test_the_password_of_docker_login_opens_the_registry(
    guarded: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    env = docker_config(tmp_path, auths={guarded.host: {"auth": basic("jane", "secret")}})

    pushed = send(shelf.store, "tiny", f"{guarded.host}/team/tiny:1", tmp_path, environ=env)
    fetch(pushed.ref, store, tmp_path, environ=env)

    assert store.resolve("tiny") == pushed.digest
    require_whole(store)


@pytest.mark.parametrize("auths", [{}, {"auth": basic("jane", "wrong")}], ids=["none", "wrong"])
def test_without_the_password_the_answer_says_how_to_get_one(
    guarded: RegistryProcess, shelf: Shelf, tmp_path: Path, auths: dict[str, str]
) -> None:
    env = docker_config(tmp_path, auths={guarded.host: auths})

    with pytest.raises(RegistryRefusedError, match="401") as refused:
        send(shelf.store, "tiny", f"{guarded.host}/team/other:1", tmp_path, environ=env)

    assert refused.value.hint is not None
    assert f"docker login {guarded.host}" in refused.value.hint
    assert "wrong" not in str(refused.value)


def test_a_credential_helper_is_asked_for_its_host(
    guarded: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    helper = tmp_path / "bin" / "docker-credential-fake"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\n[ "$1" = get ] || exit 1\nread -r host\n'
        f'[ "$host" = "{guarded.host}" ] || {{ echo "credentials not found in native keychain"; exit 1; }}\n'
        'printf \'{"ServerURL": "x", "Username": "jane", "Secret": "secret"}\'\n'
    )
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    env = docker_config(tmp_path, credHelpers={guarded.host: "fake"}, credsStore="fake")
    env["PATH"] = f"{helper.parent}:{env['PATH']}"

    send(shelf.store, "tiny", f"{guarded.host}/helped/tiny:1", tmp_path, environ=env)

    assert guarded.tags("helped/tiny") == {"1"}
    assert load_credentials(env, "elsewhere.example.com", "a") is None


def test_the_most_particular_credentials_win_and_never_show(tmp_path: Path) -> None:
    """As containers-auth.json(5) says; docker.io has a key of its own."""
    env = docker_config(
        tmp_path,
        auths={
            "r.example.com": {"auth": basic("all", "1")},
            "r.example.com/team": {"auth": basic("team", "2")},
            "https://index.docker.io/v1/": {"identitytoken": "refresh"},
        },
    )

    team, everyone = (load_credentials(env, "r.example.com", name) for name in ("team/churn", "other/churn"))
    hub = load_credentials(env, "docker.io", "library/python")

    assert team is not None
    assert everyone is not None
    assert hub is not None
    assert (team.username, everyone.username, hub.identity_token) == ("team", "all", "refresh")
    assert "refresh" not in repr(hub)
    assert "2" not in repr(team)


class TokenServer:
    """Gives out tokens that the registry believes, signed with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self_signed(self._key, "tokens")
        self.bundle = folder / "tokens.pem"
        self.bundle.write_bytes(certificate.public_bytes(Encoding.PEM))
        self._chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.late = 0
        """How many of the next tokens have ended long ago."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                server.answer(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.realm = f"http://127.0.0.1:{self._http.server_address[1]}/token"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, handler: Any) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        self.asked.append((handler.headers.get("authorization", ""), query))
        self.late -= 1
        body = json.dumps({"token": self.token(query.get("scope", []), is_late=self.late >= 0), "expires_in": 300})
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body.encode())

    def token(self, scopes: list[str], *, is_late: bool) -> str:
        now = int(time.time()) - (3600 if is_late else 0)
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            "iss": "tokens", "sub": "jane", "aud": "registry", "jti": str(now), "access": access,
            "nbf": now - 10, "iat": now - 10, "exp": now + 300,
        }  # fmt: skip
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"x5c": self._chain})


def self_signed(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=2))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )


@contextmanager
def token_guarded(folder: Path) -> Iterator[tuple[RegistryProcess, TokenServer]]:
    folder.mkdir()
    server = TokenServer(folder)
    auth = (
        f"auth: {{token: {{realm: '{server.realm}', service: registry, issuer: tokens, "
        f"rootcertbundle: {server.bundle}}}}}"
    )
    try:
        with running(folder, auth=auth) as process:
            yield process, server
    finally:
        server.close()


def test_a_token_is_asked_for_used_and_replaced_when_it_has_ended(shelf: Shelf, store: Store, tmp_path: Path) -> None:
    """The token server gives out one that has ended; later, in the middle of an upload, ours has."""
    with token_guarded(tmp_path / "registry") as (registry, server), proxied(registry) as proxy:
        env = docker_config(tmp_path, auths={proxy.host: {"auth": basic("jane", "secret")}})
        patches = count(1)
        server.late = 1

        def rule(seen: Seen) -> Fault | None:
            if seen.kind == "PATCH upload" and next(patches) == 3:
                late = server.token(["repository:team/tiny:pull,push"], is_late=True)
                seen.headers["authorization"] = f"Bearer {late}"
            return None

        proxy.rule = rule

        pushed = send(shelf.store, "tiny", f"{proxy.host}/team/tiny:1", tmp_path, environ=env)
        fetch(pushed.ref, store, tmp_path, environ=env)

        require_whole(store)
        assert {header for header, _ in server.asked} == {f"Basic {basic('jane', 'secret')}"}
        assert {scope for _, query in server.asked for scope in query["scope"]} == {
            "repository:team/tiny:pull,push",
            "repository:team/tiny:pull",
        }
        assert len(server.asked) < 8
        assert proxy.sent_bytes() <= sum(leaf_sizes(shelf.store, "tiny").values()) + 1024
        assert not any("secret" in json.dumps(seen.headers) for seen in proxy.seen)


def test_a_redirected_blob_is_fetched_without_our_credentials(
    guarded: RegistryProcess, registry: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    """Clouds send blobs from elsewhere; elsewhere must not get the password."""
    send(shelf.store, "tiny", f"{registry.host}/elsewhere/tiny:1", tmp_path)
    with proxied(guarded) as front, proxied(registry) as storage:
        env = docker_config(tmp_path, auths={front.host: {"auth": basic("jane", "secret")}})
        send(shelf.store, "tiny", f"{front.host}/elsewhere/tiny:1", tmp_path, environ=env)
        front.rule = lambda seen: (
            Fault(status=307, headers={"Location": f"http://{storage.host}{seen.path}"})
            if seen.kind == "GET blob"
            else None
        )

        fetch(f"{front.host}/elsewhere/tiny:1", store, tmp_path, environ=env)

        assert "GET blob" in storage.kinds()
        assert not any("authorization" in seen.headers for seen in storage.seen)
        assert any("authorization" in seen.headers for seen in front.seen)
        require_whole(store)


def test_a_registry_with_a_private_ca_is_trusted_when_it_is_named(shelf: Shelf, store: Store, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, private = tmp_path / "ca.pem", tmp_path / "key.pem"
    certificate.write_bytes(self_signed(key, "127.0.0.1").public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with running(tmp_path / "tls", tls=(certificate, private)) as registry:
        place = f"https://{registry.host}/team/tiny:1"
        named = environ(tmp_path, SLIPWAY_REGISTRY_CA=str(certificate))

        send(shelf.store, "tiny", place, tmp_path, environ=named)
        fetch(place, store, tmp_path, environ=environ(tmp_path, SSL_CERT_FILE=str(certificate)))
        with pytest.raises(RegistryError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(place, store, tmp_path)

        require_whole(store)


def test_a_mirror_gives_the_blobs_and_a_lying_one_is_found_out(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    pushed = send(shelf.store, "tiny", f"{registry.host}/mirrored/tiny:1", tmp_path)
    with proxied(registry) as mirror:
        env = environ(tmp_path, SLIPWAY_REGISTRY_MIRRORS=f"other.example.com=x.example.com, {proxy.host}={mirror.host}")

        fetch(f"{proxy.host}/mirrored/tiny:1", Store.open(tmp_path / "first"), tmp_path, environ=env)
        from_mirror = set(mirror.kinds()), set(proxy.kinds())
        mirror.rule = lambda _seen: Fault(answer=lambda data: data[::-1])
        lied_to = Store.open(tmp_path / "second")
        fetch(f"{proxy.host}/mirrored/tiny:1", lied_to, tmp_path, environ=env)

    assert "GET blob" in from_mirror[0]
    assert from_mirror[1] == {"GET manifest", "GET referrer"}
    assert [seen.path for seen in mirror.seen if seen.path.endswith("/manifests/1")] == []
    assert "GET blob" in proxy.kinds()
    assert lied_to.resolve("tiny") == pushed.digest
    require_whole(lied_to)


def test_a_mirror_that_is_misspelled_is_said(tmp_path: Path, store: Store) -> None:
    with pytest.raises(RemoteInvalidError, match="SLIPWAY_REGISTRY_MIRRORS"):
        fetch("r.example.com/a:1", store, tmp_path, environ=environ(tmp_path, SLIPWAY_REGISTRY_MIRRORS="r.example.com"))


def test_a_proxy_of_the_environment_is_used_for_other_machines_only(
    registry: RegistryProcess,
    proxy: FaultProxy,
    shelf: Shelf,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`registry.example` has no address: only the proxy can know where that is."""
    send(shelf.store, "tiny", f"{registry.host}/proxied/tiny:1", tmp_path)
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
    monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    fetch("http://registry.example/proxied/tiny:1", store, tmp_path, is_insecure=True)
    seen = len(proxy.seen)
    fetch(f"{registry.host}/proxied/tiny:1", Store.open(tmp_path / "other"), tmp_path)

    assert seen > 0
    assert len(proxy.seen) == seen
    assert names(store) == names(shelf.store)


def test_plain_http_to_another_machine_wants_to_be_asked_for(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RegistryRefusedError, match="without encryption") as refused:
        fetch("http://registry.example.com/a:1", store, tmp_path)

    assert refused.value.hint is not None
    assert "--insecure" in refused.value.hint
    assert parse_remote("localhost:5000/a:1").is_loopback
    assert parse_remote("[::1]:5000/a:1").is_loopback
    assert not parse_remote("localhost.example.com/a:1").is_loopback
    assert SOON.tries > 1
