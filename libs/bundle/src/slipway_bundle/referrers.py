"""Referrers: signed statements, inventories and reports that point at a bundle, in the same store.

It judges nothing: what a referrer says, and who signed it, is read in `trust`. The invariants: a referrer is an OCI
image manifest whose `subject` is the bundle's index, so the bundle's digest never changes by what is said about it; it
is listed in `index.json` by one rename, after all of its blobs; its own manifest, never the listing, says what it
refers to.
Source: OCI image-spec v1.1.1, manifest.md ("subject", "Guidelines for artifact usage"); distribution-spec v1.1,
"Listing referrers".
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec.structs import replace

from slipway_bundle.digest import Digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.layout import ROLE
from slipway_bundle.oci import EMPTY_TYPE, MANIFEST_TYPE, Descriptor, ImageManifest, make_manifest

if TYPE_CHECKING:
    from slipway_bundle.store import Store

__all__ = ["REFERRER", "SUBJECT", "ReferrerError", "attach", "entry_of", "referrers", "referrers_among", "subject_of"]

REFERRER = "referrer"
"""The role of an entry of `index.json` that is listed because of its subject."""

SUBJECT = "io.slipway.subject"
"""The subject's digest, in `index.json` only: finding the referrers of one bundle must not read those of all."""

NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})


class ReferrerError(IntegrityError):
    """A manifest that is listed as a referrer has no subject, or is no image manifest."""

    code = "referrer_invalid"


def attach(
    store: "Store",
    subject: Descriptor,
    *,
    artifact_type: str,
    blobs: Sequence[tuple[bytes, str]],
    annotations: Mapping[str, str] = NO_ANNOTATIONS,
) -> Descriptor:
    """Stores `blobs` as a referrer of `subject` and lists it; the same again changes nothing.

    Args:
        store: Where `subject` is, too.
        subject: Of the bundle's index, or of another referrer.
        artifact_type: What kind of statement it is, a media type.
        blobs: (bytes, media type) of each layer.
        annotations: Of the manifest; the referrers API of a registry shows them.

    Returns:
        The descriptor as a registry lists it: with the artifact type and the annotations of the manifest.

    Raises:
        BlobMissingError: The store does not have `subject`.
        HostError: Disk full, not allowed, busy.
    """
    with store.lease():
        config = store.put_bytes(b"{}", EMPTY_TYPE)
        layers = tuple(store.put_bytes(data, media_type) for data, media_type in blobs) or (config,)
        document = make_manifest(
            config,
            layers,
            artifact_type=artifact_type,
            annotations=dict(annotations),
            subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        )
        descriptor = store.put_json(document, MANIFEST_TYPE)
        store.attach_descriptor(descriptor)
    return _as_listed(descriptor, document)


def referrers(store: "Store", subject: Digest, *, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
    """What refers to `subject`, sorted by artifact type, then digest.

    Args:
        store: Where to look.
        subject: A digest of an index or manifest, in the store or not.
        artifact_type: Only those of this type.

    Returns:
        Descriptors as a registry's referrers API lists them (artifact type and annotations of the manifest).

    Raises:
        BlobMissingError, BlobCorruptError, JsonError: A listed referrer is missing or damaged: not the same as none.
    """
    found = []
    for entry in store.entries():
        if entry.annotations.get(SUBJECT) != subject:
            continue
        document = store.read_json(entry.digest, ImageManifest)
        if document.subject is None or document.subject.digest != subject:
            continue  # the listing says what the manifest does not; the manifest has a digest
        listed = _as_listed(entry, document)
        if artifact_type is None or listed.artifact_type == artifact_type:
            found.append(listed)
    return tuple(sorted(found, key=lambda item: (item.artifact_type or "", item.digest)))


def entry_of(store: "Store", descriptor: Descriptor) -> Descriptor:
    """The entry of `index.json` for a stored referrer.

    Raises:
        ReferrerError: Its manifest has no subject.
        BlobMissingError, BlobCorruptError, JsonError: It, its subject or a blob of it is not there or damaged.
    """
    for _ in store.walk(descriptor):
        pass  # everything is there, with its size
    subject = subject_of(store, descriptor)
    store.blob(subject)
    plain = Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)
    return replace(plain, annotations={ROLE: REFERRER, SUBJECT: subject})


def subject_of(store: "Store", descriptor: Descriptor) -> Digest:
    """What a stored referrer refers to, by its own manifest; raises as `entry_of`."""
    if descriptor.media_type != MANIFEST_TYPE:
        raise ReferrerError(
            f"referrer {descriptor.digest} is a {descriptor.media_type!r}, expected {MANIFEST_TYPE!r}",
            got=descriptor.media_type,
            expected=MANIFEST_TYPE,
        )
    document = store.read_json(descriptor.digest, ImageManifest)
    if document.subject is None:
        raise ReferrerError(
            f"manifest {descriptor.digest} is no referrer: got no `subject`, expected the descriptor of a bundle",
            got=None,
        )
    return document.subject.digest


def referrers_among(store: "Store", entries: Sequence[Descriptor]) -> Iterator[tuple[Descriptor, Digest]]:
    """(entry, its subject) for those of `entries` that are listed as referrers; raises as `subject_of`."""
    for entry in entries:
        if entry.annotations.get(ROLE) == REFERRER:
            yield entry, subject_of(store, entry)


def _as_listed(descriptor: Descriptor, document: ImageManifest) -> Descriptor:
    return Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        # As a registry answers for manifests without one (distribution-spec, "Listing referrers").
        artifact_type=document.artifact_type or document.config.media_type,
        annotations=document.annotations,
    )
