"""Keyless signatures: an identity provider vouches for the signer, for minutes, and a public log remembers it.

It speaks no protocol itself: sigstore's library does (extra `keyless`), and it needs the network of sigstore. The
invariant: an identity counts together with its issuer, never alone, because anybody may run an issuer.
Not executed in CI: signing and verifying; what is refused without the network is tested.
Source: https://docs.sigstore.dev; sigstore-python 4.
"""

import hashlib
from datetime import date

from slipway_bundle.errors import IntegrityError
from slipway_bundle.trust.keys import SignerError, TrustedKey

__all__ = ["KeylessError", "KeylessSigner", "open_keyless", "trusted_identity"]

TOKEN_VARIABLE = "SLIPWAY_ID_TOKEN"  # noqa: S105 - the name of a variable

_TOKEN_HINT = f"a CI job has one: ask its provider for an identity token for `sigstore`, and set {TOKEN_VARIABLE}"
_HINT = "install `slipway-bundle[keyless]`"


class KeylessError(IntegrityError):
    """A keyless signature is not by the identity that is believed, or not in the log."""

    code = "keyless_invalid"


def trusted_identity(identity: str, issuer: str, *, name: str, until: date | None = None) -> TrustedKey:
    """An identity in the place of a key; its id is the digest of both."""
    digest = hashlib.sha256(f"{issuer} {identity}".encode()).hexdigest()
    return TrustedKey(name=name, id=digest, pem=b"", algorithm="keyless", until=until, identity=identity, issuer=issuer)


def open_keyless(data: bytes, signer: TrustedKey) -> bytes:
    """The statement in a sigstore bundle, when `signer`'s identity signed it; asks the network for the trust root.

    Raises:
        KeylessError: It did not.
        SignerError: The library is not installed, or the trust root cannot be had.
    """
    try:
        from sigstore.errors import Error, NetworkError, TUFError, VerificationError
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity
    except ImportError as error:
        raise SignerError(f"keyless signatures need a library that is not installed: {error}", hint=_HINT) from error
    try:
        bundle = Bundle.from_json(data)
        verifier = Verifier.production()
        expected = Identity(identity=signer.identity or "", issuer=signer.issuer)
        return verifier.verify_dsse(bundle, expected)[1]
    except (InvalidBundle, VerificationError, ValueError) as error:  # ValueError: what cannot be parsed
        raise KeylessError(
            f"the statement is not signed by {signer.identity!r} of {signer.issuer!r}: {error}", got=signer.name
        ) from error
    except (NetworkError, TUFError, Error) as error:
        raise SignerError(f"the trust root of sigstore cannot be had: {error}", hint="look at the network") from error


class KeylessSigner:
    """Signs statements, each with a certificate of its own.

    Args:
        token: An OIDC identity token, whose `aud` is `sigstore`.

    Raises:
        SignerError: The library is not installed, or the token is none.
    """

    def __init__(self, token: str) -> None:
        try:
            from sigstore.oidc import IdentityError, IdentityToken
        except ImportError as error:
            raise SignerError(f"keyless signing needs a library that is not installed: {error}", hint=_HINT) from error
        try:
            self._token = IdentityToken(token)
        except IdentityError as error:
            raise SignerError(f"{TOKEN_VARIABLE} is no identity token: {error}", hint=_TOKEN_HINT) from error

    @property
    def key(self) -> TrustedKey:
        """The identity, in the place of a public key."""
        return trusted_identity(self._token.identity, self._token.federated_issuer, name="keyless")

    def sign(self, message: bytes) -> bytes:
        """Never: the log remembers whole statements."""
        raise SignerError(f"keyless signers sign statements: got {len(message)} bytes of something else")

    def sign_statement(self, statement: bytes) -> bytes:
        """The sigstore bundle of `statement`; asks the network.

        Raises:
            SignerError: sigstore does not answer, or refuses the token.
        """
        from sigstore.dsse import Statement
        from sigstore.errors import Error
        from sigstore.models import ClientTrustConfig
        from sigstore.sign import SigningContext

        try:
            context = SigningContext.from_trust_config(ClientTrustConfig.production())
            with context.signer(self._token) as signer:
                return signer.sign_dsse(Statement(statement)).to_json().encode()
        except Error as error:
            raise SignerError(
                f"sigstore did not sign: {error}", hint="look at the token, and at the network"
            ) from error
