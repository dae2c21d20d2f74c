"""The signed statements about a bundle: storing one, and finding those that a set of keys stands behind.

It decides nothing. The invariants: whatever is handed out as signed was opened with a key of the caller's; a referrer
that cannot be opened is reported beside the others and spoils none of them, so nobody can take a signature away by
adding rubbish.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.oci import INDEX_TYPE, Descriptor, ImageManifest
from slipway_bundle.referrers import attach, referrers
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobMissingError
from slipway_bundle.trust.dsse import BUNDLE_TYPE, SignatureError, open_statement, read_unverified
from slipway_bundle.trust.keys import TrustedKey
from slipway_bundle.trust.statements import Subject, decode_statement, predicate_type_of

__all__ = ["Attached", "Rejected", "Signed", "attach_signed", "attached", "descriptor_of", "read_signed"]

T = TypeVar("T")

PREDICATE_TYPE = "dev.sigstore.bundle.predicateType"
"""Annotation of a referrer's manifest, as cosign writes it: finding a kind without reading every one."""

CONTENT = "dev.sigstore.bundle.content"

MAX_STATEMENT_BYTES = 16 << 20
"""A provenance of a thousand packages has half a megabyte."""


class Attached(Struct, frozen=True, kw_only=True):
    """A sigstore bundle beside a bundle, not verified."""

    descriptor: Descriptor
    """Of the referrer."""

    predicate_type: str
    """What it says that it says; empty when it cannot be read."""

    data: bytes
    """The sigstore bundle's JSON; empty when it is not in the store or damaged."""


class Signed(Struct, Generic[T], frozen=True, kw_only=True):
    """A verified statement about a bundle."""

    descriptor: Descriptor
    key: TrustedKey
    subject: Subject
    predicate: T
    statement: bytes


class Rejected(Struct, frozen=True, kw_only=True):
    """A statement of the kind that was asked for, which no given key stands behind."""

    descriptor: Descriptor
    reason: str


def descriptor_of(store: Store, digest: Digest) -> Descriptor:
    """The descriptor of an index in the store, published or not.

    Raises:
        BlobMissingError: It is not there.
    """
    return Descriptor(media_type=INDEX_TYPE, digest=digest, size=store.blob(digest).stat().st_size)


def attach_signed(store: Store, subject: Descriptor, data: bytes) -> Descriptor:
    """Stores a sigstore bundle as a referrer, in the form of cosign's bundle specification.

    Raises:
        SignatureError: `data` is no sigstore bundle of a statement.
        BlobMissingError: `subject` is not in the store.
        HostError: Disk full, not allowed, busy.
    """
    annotations = {CONTENT: "dsse-envelope", PREDICATE_TYPE: predicate_type_of(read_unverified(data))}
    return attach(store, subject, artifact_type=BUNDLE_TYPE, blobs=[(data, BUNDLE_TYPE)], annotations=annotations)


def attached(store: Store, subject: Digest) -> tuple[Attached, ...]:
    """Every sigstore bundle that refers to `subject`, verified by nobody.

    Raises:
        IntegrityError: A referrer's manifest is missing or damaged.
    """
    found = []
    for descriptor in referrers(store, subject, artifact_type=BUNDLE_TYPE):
        layers = store.read_json(descriptor.digest, ImageManifest).layers
        data, kind = b"", ""
        try:
            data = store.read(layers[0].digest, max_bytes=MAX_STATEMENT_BYTES) if layers else b""
            kind = predicate_type_of(read_unverified(data))
        except BlobMissingError:
            pass  # told by whoever looks for a statement of that kind
        except IntegrityError:
            kind = descriptor.annotations.get(PREDICATE_TYPE, "")
        found.append(Attached(descriptor=descriptor, predicate_type=kind, data=data))
    return tuple(found)


def read_signed(
    store: Store, subject: Digest, type_: type[T], *, predicate_type: str, keys: Sequence[TrustedKey]
) -> tuple[list[Signed[T]], list[Rejected]]:
    """The statements of one kind about `subject`: those that `keys` signed, and those that they did not.

    A statement that cannot be read is among the rejected, because it may be of this kind.

    Raises:
        IntegrityError: A referrer's manifest is missing or damaged.
    """
    signed: list[Signed[T]] = []
    rejected: list[Rejected] = []
    for item in attached(store, subject):
        if item.predicate_type not in {"", predicate_type}:
            continue
        try:
            opened = open_statement(item.data, keys)
            about, predicate = decode_statement(opened.statement, type_, predicate_type=predicate_type, subject=subject)
        except SignatureError as error:
            rejected.append(Rejected(descriptor=item.descriptor, reason=error.message))
            continue
        signed.append(
            Signed(
                descriptor=item.descriptor,
                key=opened.key,
                subject=about,
                predicate=predicate,
                statement=opened.statement,
            )
        )
    return signed, rejected
