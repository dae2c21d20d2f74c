"""Documents of a registry: what type one is, and everything that a root reaches, read with limits.

It moves no blob. The invariants: a document that two readers could take for two things is refused; what a hostile
registry can make us read is bounded in depth, number and bytes before any blob is asked for.
Sources: OCI image-spec v1.1.1; CVE-2021-41190 (ambiguous media types).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from msgspec import Struct, field

from slipway_bundle.assembly import BUNDLE_TYPE
from slipway_bundle.blobs import MAX_DEPTH
from slipway_bundle.canonical import decode_json
from slipway_bundle.digest import Digest
from slipway_bundle.oci import INDEX_TYPES, MANIFEST_TYPES, Descriptor, ImageIndex, ImageManifest
from slipway_bundle.registry.errors import TamperedError
from slipway_bundle.registry.protocol import Registry
from slipway_bundle.store_errors import JsonError

__all__ = ["ACCEPTED", "BUNDLE_TYPE", "Document", "Tree", "gather", "media_type_of", "read_document"]

ACCEPTED = INDEX_TYPES | MANIFEST_TYPES

MAX_DOCUMENTS = 1_000
"""A bundle has fewer than ten."""

MAX_LEAVES = 20_000
MAX_TREE_BYTES = 64 << 20
"""Of all documents together."""


class _Shape(Struct):
    """What a document says it is."""

    media_type: str | None = field(name="mediaType", default=None)
    manifests: list[object] | None = None
    layers: list[object] | None = None


class Document(Struct, frozen=True):
    """An index or manifest, verified, and what it refers to."""

    descriptor: Descriptor
    """As whoever refers to it describes it, annotations and platform included."""

    data: bytes
    children: tuple[Descriptor, ...]
    leaves: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = {}


class Tree(Struct, frozen=True):
    """A root and all documents below it; each after everything that it refers to."""

    root: Document
    documents: tuple[Document, ...]

    def leaves(self) -> dict[Digest, Descriptor]:
        """Every blob that is no document, once."""
        return {leaf.digest: leaf for document in self.documents for leaf in document.leaves}


def media_type_of(data: bytes, header: str, what: str) -> str:
    """The one type of a document.

    Args:
        data: Its bytes.
        header: The `Content-Type` it came with; empty when it came from a disk.
        what: Names it in messages.

    Raises:
        TamperedError: It is no index or manifest, or could be read as both.
    """
    try:
        shape = decode_json(data, _Shape, what=what)
    except JsonError as error:
        raise TamperedError(f"{error.message}; expected an image index or manifest") from error
    sent = header.partition(";")[0].strip()
    media_type = shape.media_type or sent
    if media_type not in ACCEPTED:
        raise TamperedError(f"{what} is of type {media_type!r}, expected one of {', '.join(sorted(ACCEPTED))}")
    lists: Mapping[bool, object] = {True: shape.manifests, False: shape.layers}
    is_index = media_type in INDEX_TYPES
    if sent not in {media_type, ""} or lists[is_index] is None or lists[not is_index] is not None:
        raise TamperedError(
            f"{what} could be read as two things: it says {shape.media_type!r}, the registry says {sent!r}, it has "
            f"{'' if shape.manifests is not None else 'no '}manifests and "
            f"{'' if shape.layers is not None else 'no '}layers",
            hint="expected one type, with `manifests` in an index or `layers` in a manifest (CVE-2021-41190)",
        )
    return media_type


def read_document(registry: Registry, descriptor: Descriptor) -> Document:
    """The document that a descriptor means.

    Raises:
        TamperedError: It has another digest, size or type than the descriptor says.
        RemoteNotFoundError, RegistryError: As `Registry.read_manifest`.
    """
    data, got = registry.read_manifest(descriptor.digest)
    if (got.digest, got.size, got.media_type) != (descriptor.digest, descriptor.size, descriptor.media_type):
        raise TamperedError(
            f"document {descriptor.digest} of {registry.place!r} is not as it is described: got {got.size} bytes of "
            f"{got.media_type!r}, expected {descriptor.size} bytes of {descriptor.media_type!r}",
            got=got.size,
            expected=descriptor.size,
        )
    return decode_document(data, descriptor)


def decode_document(data: bytes, descriptor: Descriptor) -> Document:
    """A document whose bytes were verified; raises `TamperedError` when it has not the shape of its type."""
    what = f"document {descriptor.digest}"
    try:
        if descriptor.media_type in INDEX_TYPES:
            index = decode_json(data, ImageIndex, what=what)
            return Document(
                descriptor, data, index.manifests, (), index.subject, index.artifact_type, index.annotations
            )
        manifest = decode_json(data, ImageManifest, what=what)
    except JsonError as error:
        raise TamperedError(error.message) from error
    leaves = (manifest.config, *manifest.layers)
    kind = manifest.artifact_type or manifest.config.media_type
    return Document(descriptor, data, (), leaves, manifest.subject, kind, manifest.annotations)


def gather(read: Callable[[Descriptor], Document], root: Document, threads: Executor) -> Tree:
    """Everything below `root`, a level at a time.

    Args:
        read: Reads one document, verified.
        root: Where to begin.
        threads: Reads those of one level beside each other.

    Raises:
        TamperedError: Deeper, more or longer than any image is.
        IntegrityError, UsageError, HostError: What `read` raises.
    """
    found: dict[Digest, Document] = {root.descriptor.digest: root}
    level = [root]
    total_bytes = len(root.data)
    for depth in range(MAX_DEPTH + 1):
        wanted = {child.digest: child for document in level for child in document.children}
        new = [child for digest, child in wanted.items() if digest not in found]
        if not new:
            ordered: dict[Digest, Document] = {}
            _add(root, found, ordered)
            return Tree(root, tuple(ordered.values()))
        total_bytes += sum(child.size for child in new)
        leaves = sum(len(document.leaves) for document in found.values())
        if depth == MAX_DEPTH or len(found) + len(new) > MAX_DOCUMENTS or total_bytes > MAX_TREE_BYTES:
            break
        if leaves > MAX_LEAVES:
            break
        for child in new:
            if child.media_type not in ACCEPTED:
                raise TamperedError(f"{root.descriptor.digest} lists a child of type {child.media_type!r}")
        level = list(threads.map(read, new))
        found.update((document.descriptor.digest, document) for document in level)
    raise TamperedError(
        f"{root.descriptor.digest} is larger than any image: expected at most {MAX_DOCUMENTS} documents of together "
        f"{MAX_TREE_BYTES} bytes, {MAX_LEAVES} blobs, and {MAX_DEPTH} levels"
    )


def _add(document: Document, found: Mapping[Digest, Document], ordered: dict[Digest, Document]) -> None:
    """Children first. A digest cannot reach itself, and `gather` has bounded the depth."""
    for child in document.children:
        if child.digest not in ordered:
            _add(found[child.digest], found, ordered)
    ordered[document.descriptor.digest] = document
