"""Blobs: reading by digest, and following documents to what they refer to.

It takes no lock and writes nothing. The invariant: bytes that `read` gives back have their digest, and `walk` has
read and verified every document on its way, so whatever it yields was really referred to.
Source: OCI image-spec v1.1.1, descriptor.md ("Verification").
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

from slipway_bundle.canonical import MAX_JSON_BYTES, decode_json
from slipway_bundle.digest import Digest, digest_bytes, digest_file, parse_digest
from slipway_bundle.disk import disk_errors
from slipway_bundle.layout import Layout
from slipway_bundle.oci import INDEX_TYPES, MANIFEST_TYPES, Descriptor, ImageIndex, ImageManifest
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.store_errors import BlobCorruptError, BlobMissingError, BlobTooLongError, JsonError

T = TypeVar("T")

MAX_READ_BYTES = 64 << 20
"""`read` is for documents; weights are mapped from `blob()`."""

MAX_DEPTH = 8
"""Index in index in index: more is an attack or an error."""


class Blobs:
    """The blobs of one store, for readers."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def root(self) -> Path:
        """The folder."""
        return self.layout.root

    def blob(self, digest: Digest) -> Path:
        """The file of a blob, which nobody may change. Its content is not verified.

        Raises:
            UsageError: `digest` is not one.
            BlobMissingError: It is not in the store.
        """
        path = self.layout.blob(parse_digest(digest))
        if not path.is_file():
            raise _missing(digest, self.root)
        return path

    def read(self, digest: Digest, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """The bytes of a blob, verified.

        Raises:
            BlobMissingError: It is not in the store.
            BlobCorruptError: Its bytes do not have that digest.
            BlobTooLongError: It has more than `max_bytes`.
            HostError: It cannot be read.
        """
        path = self.blob(digest)
        with disk_errors(self.root, f"reading blob {digest}"), path.open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise BlobTooLongError(f"blob {digest} is too long to be a document: expected at most {max_bytes} bytes")
        if (got := digest_bytes(data)) != digest:
            raise _corrupt(digest, got, path)
        return data

    def read_json(self, digest: Digest, type_: type[T]) -> T:
        """The document in a blob, verified and decoded strictly; raises like `read`, and `JsonError`."""
        data = self.read(digest, max_bytes=MAX_JSON_BYTES)
        return decode_json(data, type_, what=f"blob {digest}")

    def verify_blob(self, digest: Digest, *, size: int | None = None, progress: Progress = QUIET) -> None:
        """Read a blob to its end and compare; `size` is what its descriptor says.

        Raises:
            BlobMissingError: It is not in the store.
            BlobCorruptError: Its size or its bytes are not right.
            HostError: It cannot be read.
        """
        path = self.blob(digest)
        with disk_errors(self.root, f"reading blob {digest}"):
            got, got_size = digest_file(path, progress=progress)
        if size is not None and got_size != size:
            raise _wrong_size(digest, got_size, size, path)
        if got != digest:
            raise _corrupt(digest, got, path)

    def walk(
        self, root: Descriptor, *, check_leaves: bool = True, absent: Collection[Digest] = frozenset()
    ) -> Iterator[Descriptor]:
        """Every descriptor that `root` reaches, itself first, each digest once; documents are verified on the way.

        Args:
            root: Where to begin.
            check_leaves: Also require blobs that are not documents to be there with their size (their bytes are for
                `verify_blob`).
            absent: Such blobs that may be missing; they are passed on all the same.

        Raises:
            BlobMissingError, BlobCorruptError, BlobTooLongError, JsonError: Naming the blob.
        """
        seen: set[Digest] = set()
        waiting = [(root, 0)]
        while waiting:
            descriptor, depth = waiting.pop()
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            if depth > MAX_DEPTH:
                raise JsonError(f"{root.digest} nests deeper than {MAX_DEPTH} documents at {descriptor.digest}")
            children = self._children(descriptor)
            if children or (check_leaves and descriptor.digest not in absent):
                self._require_size(descriptor)
            yield descriptor
            waiting.extend((child, depth + 1) for child in reversed(children))

    def _children(self, descriptor: Descriptor) -> tuple[Descriptor, ...]:
        if descriptor.media_type in INDEX_TYPES:
            return self.read_json(descriptor.digest, ImageIndex).manifests
        if descriptor.media_type in MANIFEST_TYPES:
            manifest = self.read_json(descriptor.digest, ImageManifest)
            return (manifest.config, *manifest.layers)
        return ()

    def _require_size(self, descriptor: Descriptor) -> None:
        path = self.blob(descriptor.digest)
        size = path.stat().st_size
        if size != descriptor.size:
            raise _wrong_size(descriptor.digest, size, descriptor.size, path)


def _missing(digest: Digest, root: Path) -> BlobMissingError:
    return BlobMissingError(
        f"blob {digest} is not in the store {str(root)!r}",
        hint="build the bundle again, or pull it again",
        expected=digest,
    )


def _wrong_size(digest: Digest, got: int, expected: int, path: Path) -> BlobCorruptError:
    what = "truncated" if got < expected else "too long"
    return BlobCorruptError(
        f"blob {digest} is {what}: got {got} bytes, expected {expected} bytes, in {str(path)!r}",
        hint="remove that file and build the bundle again, or pull it again",
        path=str(path),
        got=got,
        expected=expected,
    )


def _corrupt(digest: Digest, got: Digest, path: Path) -> BlobCorruptError:
    return BlobCorruptError(
        f"blob {digest} is corrupt: got {got}, expected {digest}, in {str(path)!r}",
        hint="remove that file and build the bundle again, or pull it again",
        path=str(path),
        got=got,
        expected=digest,
    )
