"""Keys that stay in a key service: cloud KMS, Vault, a hardware module, through securesystemslib's signers.

It speaks no service's protocol itself. The invariant: what a service signed is checked with the public key before it is
given back, so a service that signs with another key, or in another format, is an error here and not at the verifier.
Not executed in CI: the cloud services themselves. The path through securesystemslib is, with its signer for files.
Source: https://python-securesystemslib.readthedocs.io (signer URIs); the extra `trust` installs it.
"""

from typing import Any

from slipway_bundle.errors import UsageError
from slipway_bundle.trust.keys import Signer, SignerError, TrustedKey, is_genuine

__all__ = ["ServiceSigner", "load_service_signer"]


class ServiceSigner:
    """A signer of securesystemslib."""

    def __init__(self, uri: str, key: TrustedKey, signer: Any) -> None:
        self._uri = uri
        self._key = key
        self._signer = signer

    @property
    def key(self) -> TrustedKey:
        """The public half."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, checked; blocks on the network.

        Raises:
            SignerError: The service does not answer, refuses, or signed with another key.
        """
        try:
            signature = bytes.fromhex(self._signer.sign(message).signature)
        except Exception as error:  # each service's library raises its own classes, unknown here
            raise SignerError(
                f"the key service did not sign: {type(error).__name__}: {error}, key {self._uri!r}",
                hint="look at the service's credentials in the environment, and at the key's permissions",
            ) from error
        if not is_genuine(self._key, signature, message):
            raise SignerError(
                f"the key service signed with another key than {self._key.name!r} ({self._key.id[:12]}), "
                f"or for another algorithm than {self._key.algorithm}, key {self._uri!r}",
                hint="give the public key of the same key and version",
            )
        return signature


def load_service_signer(uri: str, key: TrustedKey) -> Signer:
    """The signer behind `uri`; asks nobody before the first signature, where the service allows it.

    Raises:
        UsageError: The kind of URI is not known, or its form is not right.
        SignerError: A library is missing, or the service refuses.
    """
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib import signer
        from securesystemslib.exceptions import UnsupportedLibraryError
    except ImportError as error:
        raise SignerError(
            f"key services need a library that is not installed: {error}", hint="install `slipway-bundle[trust]`"
        ) from error
    services: Any = signer  # its names are re-exported without saying so
    scheme = uri.partition(":")[0]
    if scheme not in services.SIGNER_FOR_URI_SCHEME:
        known = ", ".join(sorted(services.SIGNER_FOR_URI_SCHEME))
        raise UsageError(
            f"the kind of signer {scheme!r} is not known: got {uri!r}, expected a file or one of {known}",
            hint="a private key in a file is `file:PATH`",
        )
    public = services.SSlibKey.from_crypto(load_pem_public_key(key.pem))
    try:
        return ServiceSigner(uri, key, services.Signer.from_priv_key_uri(uri, public))
    except UnsupportedLibraryError as error:
        raise SignerError(f"the library of {scheme!r} is not installed: {error}", hint=str(error)) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{uri!r} is not right for the signer {scheme!r}: {error}") from error
    except Exception as error:  # each service's library raises its own classes, unknown here
        raise SignerError(f"the key {uri!r} cannot be used: {type(error).__name__}: {error}") from error
