"""Signing a release: the bundle's signature and that of its models, in one step.

It judges nothing. The invariant: the key is asked for both or for one, never for something that the caller did not see.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from slipway_bundle.store import Store
from slipway_bundle.stored import read_descriptor
from slipway_bundle.trust.keys import Algorithm, Signer
from slipway_bundle.trust.models import sign_models
from slipway_bundle.trust.signatures import sign_bundle

__all__ = ["SignedRelease", "sign_release"]


class SignedRelease(Struct, frozen=True, kw_only=True):
    """What was signed, by which key."""

    ref: str
    digest: str
    key_id: str
    algorithm: Algorithm
    signature: str
    """Digest of the referrer."""

    model_signature: str | None
    """Digest of the referrer; None when the models were not signed."""

    @property
    def signs_models(self) -> bool:
        """Whether the weights have a signature of their own."""
        return self.model_signature is not None


def sign_release(
    store: Store,
    ref: str,
    signer: Signer,
    *,
    now: datetime | None = None,
    lasts: timedelta | None = None,
    with_models: bool | None = None,
) -> SignedRelease:
    """Signs the bundle that `ref` means, and its models.

    Args:
        store: Where it is.
        ref: Any form that means one bundle.
        signer: Whose key.
        now: When, aware; by default now.
        lasts: After how long the bundle's signature counts no more.
        with_models: Whether the models are signed too; None = when the key can.

    Raises:
        UsageError: The reference is wrong, or the key cannot sign models and must.
        IntegrityError, SignerError, HostError: As `signatures.sign`.
    """
    found = store.find(ref)
    bundle = read_descriptor(store, found.descriptor)
    can = signer.key.algorithm == "ecdsa-p256"
    models = sign_models(store, bundle, signer) if (can if with_models is None else with_models) else None
    signature = sign_bundle(store, bundle, signer, now=now, lasts=lasts)
    return SignedRelease(
        ref=found.text,
        digest=found.digest,
        key_id=signer.key.id,
        algorithm=signer.key.algorithm,
        signature=signature.digest,
        model_signature=None if models is None else models.digest,
    )
