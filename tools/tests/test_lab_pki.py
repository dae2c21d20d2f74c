"""Certificates of a lab: who trusts whom, by OpenSSL's own judgement."""

import datetime as dt
import os
import socket
import ssl
import threading
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from slipway_lab import pki

NOW = dt.datetime.now(dt.UTC)
HERE = IPv4Address("127.0.0.1")


@pytest.fixture
def authority(tmp_path: Path) -> pki.Authority:
    return pki.Authority(tmp_path / "pki", NOW)


def test_a_client_of_the_authority_is_let_in_by_a_server_of_the_authority(authority: pki.Authority) -> None:
    server = authority.issue("server", "server", dns=("lab.test",), addresses=(HERE,))
    client = authority.issue("client", "somebody", "system:masters")

    assert _shake(authority.identity, server, client, "lab.test") == {
        "commonName": "somebody",
        "organizationName": "system:masters",
    }
    assert _shake(authority.identity, server, client, str(HERE))["commonName"] == "somebody"


def test_a_server_is_refused_under_another_name(authority: pki.Authority) -> None:
    server = authority.issue("server", "server", dns=("lab.test",))
    client = authority.issue("client", "somebody")

    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'other\.test'"):
        _shake(authority.identity, server, client, "other.test")


def test_a_client_of_another_authority_is_refused(authority: pki.Authority, tmp_path: Path) -> None:
    server = authority.issue("server", "server", dns=("lab.test",))
    stranger = pki.Authority(tmp_path / "other", NOW).issue("client", "somebody", "system:masters")

    with pytest.raises((ssl.SSLError, ConnectionError)):
        _shake(authority.identity, server, stranger, "lab.test")


def test_a_clients_certificate_cannot_serve(authority: pki.Authority) -> None:
    client = authority.issue("client", "somebody")

    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        _shake(authority.identity, client, client, "somebody")


def test_keys_are_readable_by_their_owner_only(authority: pki.Authority, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        client = authority.issue("client", "somebody")
        pki.write_signing_key(tmp_path / "signing.key")
        pki.write_kubeconfig(tmp_path / "kubeconfig", "https://lab", authority.identity, client)
    finally:
        os.umask(before)

    secrets = (client.key, authority.identity.key, tmp_path / "signing.key", tmp_path / "kubeconfig")
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}


def test_a_kubeconfig_holds_all_that_a_client_needs(authority: pki.Authority, tmp_path: Path) -> None:
    client = authority.issue("client", "somebody")

    pki.write_kubeconfig(tmp_path / "kubeconfig", "https://10.0.0.1:6443", authority.identity, client)

    found = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert found["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443"
    assert found["current-context"] == found["contexts"][0]["name"]
    assert set(found["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_certificates_hold_where_a_clock_is_behind(authority: pki.Authority) -> None:
    client = authority.issue("client", "somebody")

    certificate = x509.load_pem_x509_certificate(client.certificate.read_bytes())

    assert certificate.not_valid_before_utc < NOW - dt.timedelta(hours=23)
    assert certificate.not_valid_after_utc > NOW + dt.timedelta(days=pki.VALID_DAYS - 1)


def _shake(authority: pki.Identity, server: pki.Identity, client: pki.Identity, name: str) -> dict[str, str]:
    """Hands shaken over a socket; the subject that the server saw."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    serving.load_cert_chain(server.certificate, server.key)
    serving.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(authority.certificate))
    asking.load_cert_chain(client.certificate, client.key)
    seen: list[dict[str, str]] = []
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as wrapped:
                subject = (wrapped.getpeercert() or {}).get("subject", ())
                seen.append({str(part[0][0]): str(part[0][1]) for part in subject})
                wrapped.sendall(b"ok")
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(ours, server_hostname=name) as wrapped:
            if wrapped.recv(2) != b"ok":
                raise ConnectionError("the server hung up")
    finally:
        ours.close()
        thread.join(5)
    return seen[0]
