"""Signatures of bundles: this key says that this index is that version.

It judges no policy: `evaluation.py` does. The invariants: a signature is over the index digest, from which everything
in the bundle follows, its own name and version too; signing again with the same key, while a signature of it counts,
adds nothing.
Source: cosign's sign predicate (`https://sigstore.dev/cosign/sign/v1`): `cosign verify --key` accepts our signatures,
and we accept cosign's. cosign leaves the predicate empty; ours holds what is needed to expire.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle, read_descriptor
from slipway_bundle.trust.dsse import sign_statement
from slipway_bundle.trust.keys import Signer, TrustedKey
from slipway_bundle.trust.signed import Signed, attach_signed, descriptor_of, read_signed
from slipway_bundle.trust.statements import make_statement

__all__ = [
    "SIGNATURE",
    "Signature",
    "examine",
    "reason_of_key",
    "reason_of_time",
    "sign",
    "sign_bundle",
    "verify_signatures",
]

SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the signer's clock may be ahead of the reader's."""


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a signature says beside its subject; all of it is absent in one that cosign made."""

    content_digest: str | None = None
    signed_at: datetime | None = None
    """The signer's clock."""

    expires: datetime | None = None


class Signature(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A signature that counts."""

    key: str
    """The name of the key, as the caller calls it."""

    key_id: str
    subject: str
    """NAME:VERSION as it was signed; empty when another tool signed."""

    signed_at: datetime | None
    expires: datetime | None
    descriptor: Descriptor
    """Of the referrer."""


def sign(
    store: Store, ref: str, signer: Signer, *, now: datetime | None = None, lasts: timedelta | None = None
) -> Descriptor:
    """Signs the bundle that `ref` means, and attaches the signature.

    Args:
        store: Where it is.
        ref: Any form that means one bundle.
        signer: Whose key.
        now: When, aware; by default now.
        lasts: After how long the signature counts no more; by default it does not expire by itself.

    Returns:
        The referrer; that of an earlier signature, when this key's counts already and `lasts` is not given.

    Raises:
        UsageError: The reference is wrong, or means no bundle or several.
        IntegrityError: The bundle's documents are missing or damaged.
        SignerError: The key service does not answer or refuses.
        HostError: Disk full, not allowed, busy.
    """
    return sign_bundle(store, read_bundle(store, ref), signer, now=now, lasts=lasts)


def sign_bundle(
    store: Store,
    bundle: StoredBundle,
    signer: Signer,
    *,
    now: datetime | None = None,
    lasts: timedelta | None = None,
) -> Descriptor:
    """As `sign`, for a bundle that was read."""
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    if lasts is None:
        for earlier in examine(store, bundle, [signer.key], now=moment)[0]:
            return earlier.descriptor
    manifest = bundle.manifest
    statement = make_statement(
        f"{manifest.name}:{manifest.version}",
        bundle.descriptor.digest,
        predicate_type=SIGNATURE,
        predicate=Claim(
            content_digest=manifest.content_digest, signed_at=moment, expires=moment + lasts if lasts else None
        ),
    )
    return attach_signed(store, bundle.descriptor, sign_statement(statement, signer))


def verify_signatures(
    store: Store, digest: Digest, keys: Sequence[TrustedKey], *, now: datetime | None = None
) -> tuple[Signature, ...]:
    """The signatures of `keys` over the bundle whose index is `digest`, that count at `now`; by key, then time.

    Raises:
        IntegrityError: The bundle's documents, or a referrer's manifest, are missing or damaged.
    """
    bundle = read_descriptor(store, descriptor_of(store, digest))
    return examine(store, bundle, keys, now=now or datetime.now(UTC))[0]


def examine(
    store: Store, bundle: StoredBundle, keys: Sequence[TrustedKey], *, now: datetime
) -> tuple[tuple[Signature, ...], tuple[str, ...]]:
    """The signatures that count at `now`, and why each of the others does not; raises as `verify_signatures`."""
    signed, rejected = read_signed(store, bundle.descriptor.digest, Claim, predicate_type=SIGNATURE, keys=keys)
    reasons = [item.reason for item in rejected]
    counting = []
    for item in signed:
        reason = _reason(item, bundle, now)
        if reason is None:
            counting.append(item)
        else:
            reasons.append(reason)
    found = [
        Signature(
            key=item.key.name,
            key_id=item.key.id,
            subject=item.subject.name,
            signed_at=item.predicate.signed_at,
            expires=item.predicate.expires,
            descriptor=item.descriptor,
        )
        for item in counting
    ]
    earliest = datetime.min.replace(tzinfo=UTC)
    return tuple(sorted(found, key=lambda item: (item.key, item.signed_at or earliest))), tuple(reasons)


def _reason(item: Signed[Claim], bundle: StoredBundle, now: datetime) -> str | None:
    """Why a genuine signature does not count."""
    claim, name = item.predicate, item.key.name
    if claim.content_digest not in {None, bundle.manifest.content_digest}:
        return f"the signature of {name!r} is over the content {claim.content_digest}"
    return reason_of_time(name, claim.signed_at, claim.expires, now) or reason_of_key(item.key, now)


def reason_of_key(key: TrustedKey, now: datetime) -> str | None:
    """Why nothing that `key` signed counts at `now`."""
    return f"the key {key.name!r} counted until {key.until}" if key.is_expired(now) else None


def reason_of_time(name: str, signed_at: datetime | None, expires: datetime | None, now: datetime) -> str | None:
    """Why a statement with these times does not count at `now`."""
    if expires is not None and now > expires:
        return f"the signature of {name!r} expired at {expires:%Y-%m-%d %H:%M}"
    if signed_at is not None and signed_at > now + CLOCK_SKEW:
        return f"the signature of {name!r} is dated in the future, {signed_at:%Y-%m-%d %H:%M}"
    return None
