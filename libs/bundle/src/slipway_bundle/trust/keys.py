"""Keys: the public ones that are believed, and the private ones that sign.

It signs nothing and believes nobody: `dsse.py` signs, `policy.toml` says whose key counts. The invariants: a key is
ECDSA on P-256 or Ed25519, nothing weaker and nothing that another tool could read in another way; a private key never
leaves this module's objects, and no message holds one.
Source: RFC 5958 and 7468 (PEM), FIPS 186-5; the identity of a key is that of OpenSSF model-signing 1.0: the SHA-256 of
its public PEM.
"""

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from msgspec import Struct

from slipway_bundle.errors import FileError, HostError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    PublicKey = EllipticCurvePublicKey | Ed25519PublicKey
    PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

__all__ = [
    "Algorithm",
    "KeyFileError",
    "Signer",
    "SignerError",
    "TrustedKey",
    "is_genuine",
    "load_key",
    "load_signer",
    "make_key",
    "trusted_key",
]

Algorithm = Literal["ecdsa-p256", "ed25519", "keyless"]
"""Of keys that are made here, one of the first two."""

MAX_PEM_BYTES: Final = 16 * 1024
"""A key of these kinds has a few hundred bytes."""

PASSWORD_VARIABLE: Final = "SLIPWAY_KEY_PASSWORD"  # noqa: S105 - the name of a variable


class KeyFileError(UsageError):
    """A file is not a key, or one of a kind that slipway does not use, or its password is wrong."""

    code = "key_invalid"


class SignerError(HostError):
    """A key service cannot be reached, refuses, or its library is not installed."""

    code = "signer_unavailable"


class TrustedKey(Struct, frozen=True, kw_only=True):
    """A public key under the name that `policy.toml` gives it."""

    name: str
    id: str
    """64 hex digits: the SHA-256 of `pem`."""

    pem: bytes
    """SubjectPublicKeyInfo, as `load_key` writes it."""

    algorithm: Algorithm
    until: date | None = None
    """The last day, UTC, on which what it signed counts."""

    identity: str | None = None
    """Keyless: who the certificate names; `pem` is empty then."""

    issuer: str | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether `now` (aware) is after the key's last day."""
        return self.until is not None and now.astimezone(UTC).date() > self.until


class Signer(Protocol):
    """What signs: a key in a file, or one in a key service."""

    @property
    def key(self) -> TrustedKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """The signature: DER for ECDSA over SHA-256, 64 bytes for Ed25519.

        Raises:
            SignerError: The key service does not answer or refuses.
        """


class FileSigner:
    """A private key in memory."""

    def __init__(self, private: "PrivateKey", key: TrustedKey) -> None:
        self._private = private
        self._key = key

    @property
    def key(self) -> TrustedKey:
        """The public half."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256

        if isinstance(self._private, EllipticCurvePrivateKey):
            return self._private.sign(message, ECDSA(SHA256()))
        return self._private.sign(message)


def load_key(path: Path, *, name: str | None = None, until: date | None = None) -> TrustedKey:
    """The public key in a PEM file.

    Args:
        path: The file.
        name: What the key is called; by default the file's name without its ending.
        until: The last day on which it counts.

    Raises:
        KeyFileError: It is not a public key, or one of another kind than ECDSA P-256 or Ed25519.
        FileError: It cannot be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise KeyFileError(
            f"{str(path)!r} is a private key, expected a public one",
            hint="name the file that ends in `.pub`; the private key belongs to whoever signs, and to nobody else",
            path=str(path),
        )
    try:
        public = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{str(path)!r} is not a public key in PEM: {error}",
            hint="`slipway keys new NAME` makes a pair; `openssl pkey -in KEY -pubout` writes the public half",
            path=str(path),
        ) from error
    return trusted_key(public, name=name or path.stem, until=until, shown=str(path))


def trusted_key(public: object, *, name: str, until: date | None = None, shown: str = "the key") -> TrustedKey:
    """A `cryptography` public key under a name.

    Raises:
        KeyFileError: It is of another kind than ECDSA P-256 or Ed25519.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    algorithm: Algorithm
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        algorithm = "ecdsa-p256"
    elif isinstance(public, Ed25519PublicKey):
        algorithm = "ed25519"
    else:
        kind = public.curve.name if isinstance(public, EllipticCurvePublicKey) else type(public).__name__
        raise KeyFileError(
            f"{shown} has a key of the kind {kind!r}, expected ECDSA on P-256 or Ed25519",
            hint="`slipway keys new NAME` makes one",
        )
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return TrustedKey(name=name, id=hashlib.sha256(pem).hexdigest(), pem=pem, algorithm=algorithm, until=until)


def is_genuine(key: TrustedKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is one of `key` over `message`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import SHA256

    public = _public(key.pem)
    try:
        if isinstance(public, EllipticCurvePublicKey):
            public.verify(signature, message, ECDSA(SHA256()))
        else:
            public.verify(signature, message)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=64)
def _public(pem: bytes) -> "PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public = load_pem_public_key(pem)
    if not isinstance(public, EllipticCurvePublicKey | Ed25519PublicKey):
        raise KeyFileError(f"this is a bug in slipway: a trusted key is a {type(public).__name__}")
    return public


def make_key(algorithm: Algorithm, *, password: str | None = None) -> tuple[bytes, bytes]:
    """A new pair: the private key (PKCS #8 PEM, encrypted when there is a password) and the public key (PEM)."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    private: PrivateKey
    private = Ed25519PrivateKey.generate() if algorithm == "ed25519" else generate_private_key(SECP256R1())
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def load_signer(uri: str, *, environ: Mapping[str, str], public: Path | None = None) -> Signer:
    """The signer that `uri` names.

    Args:
        uri: A path or `file:PATH` of a private key in PEM, or the URI of a key service in the spelling of
            securesystemslib: `awskms:…`, `gcpkms:…`, `azurekms:…`, `hv:KEY/VERSION` (Vault), `hsm:…`; or `keyless:`.
        environ: `SLIPWAY_KEY_PASSWORD` is the password of an encrypted file, `SLIPWAY_ID_TOKEN` the token of a keyless
            signer. Key services read their own variables.
        public: The public key's PEM file; needed for a key service, which is not asked for it.

    Raises:
        KeyFileError: The file is no private key of a known kind, or the password is wrong or missing.
        FileError: A file cannot be read.
        SignerError: The library of the key service is not installed.
        UsageError: The URI is of an unknown kind, or a key service is named without `public`.
    """
    scheme, colon, rest = uri.partition(":")
    if scheme == "keyless":
        from slipway_bundle.trust.keyless import TOKEN_VARIABLE, KeylessSigner

        return KeylessSigner(environ.get(TOKEN_VARIABLE, ""))
    if not colon or scheme == "file":
        return _load_file(Path(rest if colon else uri), environ.get(PASSWORD_VARIABLE))
    from slipway_bundle.trust.key_services import load_service_signer  # the extra `trust`

    if public is None:
        raise UsageError(
            f"the key service {scheme!r} is named without its public key: got {uri!r}",
            hint="give the key's public half as a PEM file, with `--public`",
        )
    return load_service_signer(uri, load_key(public))


def _load_file(path: Path, password: str | None) -> FileSigner:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    try:
        private = load_pem_private_key(data, None if password is None else password.encode())
    except TypeError as error:  # cryptography's word for "encrypted, and no password" and the reverse
        is_encrypted = password is None
        raise KeyFileError(
            f"the private key {str(path)!r} is {'' if is_encrypted else 'not '}encrypted, and "
            f"{'no' if is_encrypted else 'a'} password was given",
            hint=f"{'set' if is_encrypted else 'unset'} {PASSWORD_VARIABLE}",
            path=str(path),
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{str(path)!r} is not a private key in PEM, or {PASSWORD_VARIABLE} is not its password",
            hint="`slipway keys new NAME` makes a pair",
            path=str(path),
        ) from error
    key = trusted_key(private.public_key(), name=path.stem, shown=repr(str(path)))
    return FileSigner(private, key)  # type: ignore[arg-type]  # trusted_key refused all other kinds


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    if len(data) > MAX_PEM_BYTES:
        raise KeyFileError(f"{os.fspath(path)!r} is too long for a key: expected at most {MAX_PEM_BYTES} bytes")
    return data
