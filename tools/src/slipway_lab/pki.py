"""Who is who in a lab: one authority, a certificate for every program, and the kubeconfig that carries it.

Made anew for every lab and thrown away with it. It signs nothing that leaves the lab. The invariants: private keys are
readable by their owner only; every certificate is valid from a day before now (clocks differ) for `VALID_DAYS`.
Which names the API server expects: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

import base64
import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

VALID_DAYS: Final = 365

Address = ipaddress.IPv4Address


class Identity(Struct, frozen=True):
    """A certificate and its key, as files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates into a folder; it has written its own there as `ca.crt` and `ca.key`.

    Args:
        folder: Made when it is not there.
        now: The moment of issue, with a time zone.
    """

    def __init__(self, folder: Path, now: dt.datetime) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("slipway-lab", "")
        built = self._builder(self._name, self._key)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = built.sign(self._key, hashes.SHA256())
        self.identity = self._write("ca", self._key, self._certificate)

    def issue(
        self, file: str, name: str, group: str = "", *, dns: Sequence[str] = (), addresses: Sequence[Address] = ()
    ) -> Identity:
        """A certificate for a client, and for a server where `dns` or `addresses` are given.

        Args:
            file: The stem of `FILE.crt` and `FILE.key`.
            name: Who it is: Kubernetes takes the common name as the user.
            group: Kubernetes takes the organisation as the user's group.
            dns: Names that the server answers to.
            addresses: Addresses that it answers at.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        built = self._builder(_name(name, group), key)
        built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if dns or addresses:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = [*map(x509.DNSName, dns), *map(x509.IPAddress, addresses)]
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        built = built.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return self._write(file, key, built.sign(self._key, hashes.SHA256()))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - dt.timedelta(days=1))
            .not_valid_after(self._now + dt.timedelta(days=VALID_DAYS))
        )

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Identity:
        found = Identity(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        found.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_secret(found.key, key_bytes(key))
        return found


def write_signing_key(file: Path) -> None:
    """A key pair of its own for service account tokens: `FILE` and, for who verifies, `FILE.pub`."""
    key = ec.generate_private_key(ec.SECP256R1())
    _write_secret(file, key_bytes(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    file.with_suffix(file.suffix + ".pub").write_bytes(public)


def write_kubeconfig(file: Path, server: str, authority: Identity, who: Identity) -> None:
    """What a client of the API server reads; it holds everything, so it can be copied."""
    cluster = {"server": server, "certificate-authority-data": _data(authority.certificate)}
    user = {"client-certificate-data": _data(who.certificate), "client-key-data": _data(who.key)}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        "current-context": "lab",
    }
    _write_secret(file, yaml.safe_dump(document).encode())


def key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, not encrypted: the form that Kubernetes reads."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _name(name: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if group:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _write_secret(file: Path, data: bytes) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(data)


def _data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
