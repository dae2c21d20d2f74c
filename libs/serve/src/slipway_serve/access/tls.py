"""TLS of the public ports: one certificate for HTTP and gRPC, client certificates if a CA for them is given.

The invariant: what serves is a pair that fits; certificate and key are read again when they change, and connections
that are open keep theirs. The client CA is read at the start only, because OpenSSL can add a CA to a context that is in
use and not take one away: a reload or restart of the server changes it. TLS 1.2 is the least.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from slipway_serve.access.errors import TlsError
from slipway_serve.access.followed_files import FollowedFiles

if TYPE_CHECKING:
    import grpc

    from slipway_serve.config import ServerConfig

NAMES: Final = 4_096
"""Client certificates whose names are remembered."""


class ServerTls:
    """The certificate of one process, kept fresh.

    Args:
        certificate: PEM file, the server's own first, then its issuers.
        key: PEM file of its private key, without a passphrase.
        client_ca: PEM file: who has no certificate of these is not let in; None: nobody is asked for one.

    Raises:
        TlsError: they cannot be used.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._pair = (b"", b"")
        self._client_ca = None if client_ca is None else _read(client_ca)
        self.context: Final = _context(certificate, key, client_ca)
        self.files: Final = FollowedFiles([certificate, key], self._load)

    @property
    def asks_clients(self) -> bool:
        """Whether every client has shown a certificate."""
        return self._client_ca is not None

    def grpc_credentials(self) -> "grpc.ServerCredentials":
        """The same for gRPC, which asks for the pair at each handshake."""
        import grpc

        def configuration() -> grpc.ServerCertificateConfiguration:
            key, certificate = self._pair
            return grpc.ssl_server_certificate_configuration([(key, certificate)], self._client_ca)

        given = configuration()
        used = self._pair

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal used
            if self._pair is used:
                return None
            used = self._pair
            return configuration()

        asked = cast(
            "Callable[[], grpc.ServerCertificateConfiguration]", fetch
        )  # None: no change; its stubs do not know
        return grpc.dynamic_ssl_server_credentials(given, asked, self.asks_clients)

    def _load(self) -> None:
        """Try the pair on a context of its own, then use it."""
        pair = (_read(self._key), _read(self._certificate))
        _context(self._certificate, self._key, None)
        self.context.load_cert_chain(self._certificate, self._key, _no_passphrase)
        self._pair = pair


def server_tls(server: "ServerConfig") -> ServerTls | None:
    """The TLS that a configuration asks for; None: it asks for none.

    Raises:
        TlsError: half of it is missing, or it cannot be used.
    """
    given = {"tls_cert": server.tls_cert, "tls_key": server.tls_key}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 2 and server.tls_client_ca is None:
        return None
    if server.tls_cert is None or server.tls_key is None:
        raise TlsError(
            f"`runtime.server.{missing[0]}` is not set, expected certificate and private key together",
            hint="`--tls-cert server.pem --tls-key server.key`; a client CA is of no use without them",
        )
    client_ca = None if server.tls_client_ca is None else Path(server.tls_client_ca)
    return ServerTls(Path(server.tls_cert), Path(server.tls_key), client_ca)


@lru_cache(maxsize=NAMES)
def client_name(certificate: bytes) -> str:
    """Whom a client certificate names: its first URI (SPIFFE), else its first DNS name, else its common name; or "".

    Args:
        certificate: DER or PEM, as the handshake has found it right.
    """
    from cryptography import x509

    is_pem = certificate.startswith(b"-----")
    read = x509.load_pem_x509_certificate(certificate) if is_pem else x509.load_der_x509_certificate(certificate)
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found: Sequence[str] = ()
    else:
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        found = uris or names.get_values_for_type(x509.DNSName)
    common = [str(name.value) for name in read.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return next(iter((*found, *common)), "")


def certificate_of_grpc(properties: Mapping[str, Iterable[bytes]]) -> bytes | None:
    """The client certificate of a gRPC call's `auth_context()`, as PEM."""
    return next(iter(properties.get("x509_pem_cert", ())), None)


def _context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, _no_passphrase)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        files = ", ".join(f"`{path}`" for path in (certificate, key, client_ca) if path is not None)
        raise TlsError(
            f"the TLS files {files} cannot be used: {reason}",
            hint="PEM files; the key is that of the first certificate, has no passphrase, and the server may read it",
        ) from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the private key has a passphrase, expected one without")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"the TLS file `{path}` cannot be read: {error.strerror or error}") from error
