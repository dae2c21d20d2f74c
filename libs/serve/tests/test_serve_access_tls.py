"""TLS and client certificates, over HTTP and gRPC, and certificates that are replaced while the server runs."""

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from access_certificates import Authority
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpc_service import wait_until
from serve_folders import write_minimal
from serve_process import Served, serving

from slipway_serve.access.errors import TlsError
from slipway_serve.access.tls import client_name, server_tls
from slipway_serve.config import ServerConfig

ROW = {"tenure_days": 900.0, "mean_charge": 12.5}
SPIFFE = "spiffe://example.com/billing"
LIVE = "/inference.GRPCInferenceService/ServerMetadata"


class Secured(NamedTuple):
    """A server that asks for certificates, and who issues them."""

    served: Served
    authority: Authority
    root: Path
    billing: tuple[Path, Path, int]

    @property
    def url(self) -> str:
        return self.served.url

    def context(self, certificate: tuple[Path, Path, int] | None) -> ssl.SSLContext:
        """What a client with this certificate trusts and shows."""
        context = ssl.create_default_context(cafile=str(self.authority.path))
        if certificate is not None:
            context.load_cert_chain(certificate[0], certificate[1])
        return context

    def ask(self, certificate: tuple[Path, Path, int] | None) -> httpx.Response:
        """One request."""
        with httpx.Client(verify=self.context(certificate), base_url=self.url, timeout=30) as client:
            return client.post("/predict", json=ROW)

    def serial(self) -> int:
        """Of the certificate that the server shows now."""
        address = urlsplit(self.url)
        with (
            socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as plain,
            self.context(self.billing).wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    def over_grpc(self, certificate: tuple[Path, Path, int] | None) -> grpc.StatusCode:
        """What a call ends with."""
        found = re.search(r"grpc +(\S+)", self.served.said())
        assert found is not None
        root = self.authority.path.read_bytes()
        pair = (None, None) if certificate is None else (certificate[1].read_bytes(), certificate[0].read_bytes())
        with grpc.secure_channel(found[1], grpc.ssl_channel_credentials(root, *pair)) as channel:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LIVE)
            try:
                ask(b"", timeout=5)
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """HTTPS and gRPC with client certificates; one client may ask three times."""
    root = tmp_path_factory.mktemp("secured")
    authority = Authority(root)
    certificate, key, _ = authority.issue("server")
    billing = authority.issue("billing", uri=SPIFFE, dns="billing.example.com")
    access = '\n[runtime.access]\nclients."certificate:greedy" = { rate_per_s = 0.001, burst = 3 }\n'
    folder = write_minimal(root / "svc", "secured", access)
    flags: dict[str, object] = {"grpc": True, "grpc_port": 0, "tls_cert": str(certificate), "tls_key": str(key)}
    flags["tls_client_ca"] = str(authority.path)
    with serving(folder, store=root / "store", flags=flags) as served:
        yield Secured(served, authority, root, billing)


def test_a_client_with_a_certificate_is_answered_and_nobody_else(secured: Secured) -> None:
    stranger = Authority(secured.root, "stranger").issue("other")

    assert secured.url.startswith("https://")
    assert secured.ask(secured.billing).status_code == 200
    for certificate in (None, stranger):
        with pytest.raises(httpx.TransportError):
            secured.ask(certificate)
    with pytest.raises(httpx.TransportError):
        httpx.post(secured.url.replace("https://", "http://") + "/predict", json=ROW)


def test_grpc_has_the_same_door(secured: Secured) -> None:
    assert secured.over_grpc(secured.billing) == grpc.StatusCode.OK
    assert secured.over_grpc(None) == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_names_its_client_for_limits_over_http_and_grpc_together(secured: Secured) -> None:
    greedy = secured.authority.issue("greedy")

    first = [secured.ask(greedy).status_code for _ in range(2)]
    third = secured.over_grpc(greedy)
    fourth = secured.ask(greedy)

    assert (first, third) == ([200, 200], grpc.StatusCode.OK)
    assert (fourth.status_code, fourth.headers["ratelimit"]) == (429, '"rate";r=0;t=3000')
    assert secured.over_grpc(greedy) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert secured.ask(secured.billing).status_code == 200


def test_a_name_is_the_uri_then_the_dns_name_then_the_common_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    names = [
        client_name(path.read_bytes())
        for path, _, _ in (
            authority.issue("a", uri=SPIFFE, dns="a.example.com"),
            authority.issue("b", dns="b.example.com"),
            authority.issue("c"),
        )
    ]

    assert names == [SPIFFE, "b.example.com", "c"]


def test_a_certificate_is_replaced_while_a_connection_goes_on(secured: Secured) -> None:
    """First a certificate without its key, which is served by nobody; then the pair."""
    (secured.root / "next").mkdir(exist_ok=True)
    certificate, key, serial = secured.authority.issue("next/server")
    before = secured.serial()
    with httpx.Client(verify=secured.context(secured.billing), base_url=secured.url, timeout=30) as client:
        client.post("/predict", json=ROW)
        certificate.replace(secured.root / "server.pem")
        wait_until(lambda: "slipway_access_stale_files 1.0" in secured.served.metrics())
        half = secured.serial()
        key.replace(secured.root / "server.key")
        wait_until(lambda: secured.serial() == serial)

        assert client.post("/predict", json=ROW).status_code == 200
    assert half == before
    assert "slipway_access_stale_files 0.0" in secured.served.metrics()
    assert secured.over_grpc(secured.billing) == grpc.StatusCode.OK
    assert shown_over_grpc(secured) == serial


def shown_over_grpc(secured: Secured) -> int:
    """Serial number of the certificate that the gRPC port shows."""
    found = re.search(r"grpc +(\S+):(\d+)", secured.served.said())
    assert found is not None
    context = secured.context(secured.billing)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((found[1], int(found[2])), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        shown = wrapped.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


@pytest.mark.parametrize("wrong", ["no key", "no certificate", "only a ca", "missing", "not fitting", "encrypted"])
def test_tls_that_cannot_work_is_refused_before_anything_is_opened(tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path)
    certificate, key, _ = authority.issue("server")
    _, other, _ = authority.issue("other")
    locked = tmp_path / "locked.key"
    read = serialization.load_pem_private_key(key.read_bytes(), None)
    form, secret = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"passphrase")
    locked.write_bytes(read.private_bytes(serialization.Encoding.PEM, form, secret))
    given = {
        "no key": ServerConfig(tls_cert=str(certificate)),
        "no certificate": ServerConfig(tls_key=str(key)),
        "only a ca": ServerConfig(tls_client_ca=str(authority.path)),
        "missing": ServerConfig(tls_cert=str(tmp_path / "none.pem"), tls_key=str(key)),
        "not fitting": ServerConfig(tls_cert=str(certificate), tls_key=str(other)),
        "encrypted": ServerConfig(tls_cert=str(certificate), tls_key=str(locked)),
    }[wrong]

    with pytest.raises(TlsError):
        server_tls(given)
