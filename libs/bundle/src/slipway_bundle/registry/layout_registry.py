"""An OCI image layout on disk, used as if it were a repository: for a laptop, a USB disk, an air gap.

It starts no process. The invariants are those of a registry: bytes are verified while they are copied, a tag is set
last and at once. A layout that is written to is a slipway store, so its tags are `NAME:VERSION`; any is read.
Source: OCI image-spec v1.1.1, image-layout.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from slipway_bundle.canonical import MAX_JSON_BYTES, decode_json
from slipway_bundle.digest import CHUNK_BYTES, Digest, is_digest
from slipway_bundle.disk import disk_errors
from slipway_bundle.ingest import Incoming
from slipway_bundle.layout import CONTENT_DIGEST, ROLE
from slipway_bundle.oci import INDEX_TYPE, REF_NAME, Descriptor, ImageIndex
from slipway_bundle.progress import Progress
from slipway_bundle.referrers import referrers
from slipway_bundle.registry.documents import BUNDLE_TYPE, media_type_of
from slipway_bundle.registry.errors import RemoteNotFoundError, TamperedError
from slipway_bundle.registry.protocol import Moved
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobCorruptError, BlobMissingError

__all__ = ["LayoutRegistry"]


class LayoutRegistry:
    """One layout; see `protocol.Registry` for its methods."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def place(self) -> str:
        """As one would write it."""
        return f"oci:{self.store.root}"

    def close(self) -> None:
        """Nothing is open."""

    def resolve(self, reference: str) -> Descriptor | None:
        """See the protocol."""
        try:
            return self.read_manifest(reference)[1]
        except RemoteNotFoundError:
            return None

    def read_manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """See the protocol."""
        digest = Digest(reference) if is_digest(reference) else self._named(reference)
        try:
            data = self.store.read(digest, max_bytes=MAX_JSON_BYTES)
        except BlobMissingError:
            raise self._not_found(reference) from None
        media_type = media_type_of(data, "", f"manifest {digest} in {self.place!r}")
        return data, Descriptor(media_type=media_type, digest=digest, size=len(data))

    def has(self, digest: Digest) -> bool:
        """See the protocol."""
        return self.store.layout.blob(digest).is_file()

    def fetch_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """See the protocol."""
        try:
            _copy(self.store, store, descriptor, progress)
        except BlobMissingError:
            raise self._not_found(descriptor.digest) from None

    def link_blob(self, descriptor: Descriptor, repositories: Sequence[str] = ()) -> Moved | None:
        """See the protocol; a layout has no other repositories."""
        del repositories
        return "present" if holds(self.store, descriptor) else None

    def push_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """See the protocol."""
        _copy(store, self.store, descriptor, progress)

    def put_manifest(self, data: bytes, descriptor: Descriptor, reference: str, subject: Digest | None = None) -> None:
        """See the protocol.

        Raises:
            RefInvalidError: The tag is not `NAME:VERSION`.
        """
        self.store.put_bytes(data, descriptor.media_type)
        plain = Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)
        if subject is not None:
            self.store.attach_descriptor(plain)
        if not is_digest(reference):
            self.store.publish(reference, as_entry(data, plain), replaces=True)

    def tags(self) -> tuple[str, ...]:
        """See the protocol."""
        names = (entry.annotations.get(REF_NAME, "") for entry in self.store.entries())
        return tuple(sorted(name for name in names if name))

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """See the protocol."""
        return referrers(self.store, subject, artifact_type=artifact_type)

    def _named(self, tag: str) -> Digest:
        for entry in self.store.entries():
            if entry.annotations.get(REF_NAME) == tag:
                return entry.digest
        raise self._not_found(tag)

    def _not_found(self, reference: str) -> RemoteNotFoundError:
        return RemoteNotFoundError(
            f"{reference!r} is not in {self.place!r}",
            hint=f"`slipway registry list {self.place}` prints the tags that are there",
            ref=reference,
        )


def holds(store: Store, descriptor: Descriptor) -> bool:
    """Whether the store has the blob, with its size."""
    path: Path = store.layout.blob(descriptor.digest)
    try:
        return path.stat().st_size == descriptor.size
    except OSError:
        return False


def as_entry(data: bytes, descriptor: Descriptor) -> Descriptor:
    """How `index.json` lists a document: a bundle is marked as one, as `bundle build` marks it."""
    if descriptor.media_type != INDEX_TYPE:
        return descriptor
    index = decode_json(data, ImageIndex, what=f"index {descriptor.digest}")
    if index.artifact_type != BUNDLE_TYPE:
        return descriptor
    content = {CONTENT_DIGEST: index.annotations[CONTENT_DIGEST]} if CONTENT_DIGEST in index.annotations else {}
    return Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations={ROLE: "bundle", **content},
    )


def _copy(source: Store, target: Store, descriptor: Descriptor, progress: Progress) -> None:
    if source.root == target.root:
        progress.advance(descriptor.size)
        return
    path = source.blob(descriptor.digest)
    with (
        target.lease(),
        disk_errors(target.root, f"storing blob {descriptor.digest}"),
        Incoming(target, descriptor, progress=progress) as incoming,
    ):
        for _ in range(2):
            is_continued = incoming.size > 0
            try:
                incoming.fill(_read(path, incoming.size))
            except BlobCorruptError as error:
                incoming.restart()
                if not is_continued:
                    raise TamperedError(
                        f"{error.message}, from {str(path)!r}",
                        hint="the layout that it was copied from is damaged",
                        expected=descriptor.digest,
                    ) from error
            else:
                return


def _read(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
