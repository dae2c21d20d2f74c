"""Files as image layers: a deterministic tar, compressed, in the store, with the digest of both forms.

It decides nothing about what is in a layer. The invariants: the bytes depend on the order, names, content and execute
bit of the files and on the compression only, so two builders make the same blob; nothing is compressed twice that the
store still has; a layer is never on disk in another form than the one that is stored.
Layers of the bundle itself are never compressed and are not made here (`Store.put_layer`).
Sources: OCI image-spec v1.1.1, config.md ("DiffID"); POSIX pax; RFC 8878, RFC 1952.
"""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from msgspec import Struct

from slipway_bundle.canonical import canonical_json
from slipway_bundle.digest import Digest, digest_bytes, hex_of
from slipway_bundle.disk import Temporary, disk_errors, write_all, write_file
from slipway_bundle.image.settings import Compression
from slipway_bundle.oci import LAYER_TYPE, Descriptor
from slipway_bundle.paths import parents_of
from slipway_bundle.store import BLOB_MODE, Store

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ENVELOPE", "USER", "Archive", "LayerWriter", "put_archive", "remembered"]

ZSTD_LEVEL: Final = 3
"""libzstd's own default: faster than the wheels are inflated."""

GZIP_LEVEL: Final = 6

USER: Final = 65532
"""Owner of every file and user of the container: `nonroot` of the distroless images."""

ENVELOPE: Final = "image-layer/1"
"""Names the rules of this file; a change of them is a change of every digest."""

_CHUNK_BYTES: Final = 1 << 20


class Archive(Struct, frozen=True, kw_only=True):
    """A stored layer."""

    descriptor: Descriptor
    diff_id: Digest
    """Of the uncompressed tar."""

    content_bytes: int
    """Of its files."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class LayerWriter:
    """A layer that is being written: files and links, in the order in which they are added; folders come by themselves.

    No more than one file is in memory.
    """

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self._names: set[str] = set()
        self.content_bytes = 0

    def add(self, name: str, data: bytes, *, is_program: bool = False) -> None:
        """A regular file; `name` is relative to the root of the image.

        Raises:
            ValueError: It is there already: two packages bring the same file.
        """
        member = self._member(name, mode=0o755 if is_program else 0o644)
        member.size = len(data)
        self.content_bytes += len(data)
        self._head(member)
        self._file.write(data)
        self._file.write(bytes(-len(data) % tarfile.BLOCKSIZE))

    def link(self, name: str, target: str) -> None:
        """A symbolic link. Raises as `add`."""
        member = self._member(name, mode=0o777)
        member.type, member.linkname = tarfile.SYMTYPE, target
        self._head(member)

    def finish(self) -> None:
        """Ends the tar; nothing can be added afterwards."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.flush()

    def _head(self, member: tarfile.TarInfo) -> None:
        # Not through `TarFile`: in its stream mode it copies its whole buffer for each piece of each file.
        self._file.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _member(self, name: str, *, mode: int) -> tarfile.TarInfo:
        if name in self._names:
            raise ValueError(f"{name!r} is in the layer already")
        for parent in parents_of(name):
            if parent not in self._names:
                self._names.add(parent)
                folder = _member(parent, 0o755)
                folder.type = tarfile.DIRTYPE
                self._head(folder)
        self._names.add(name)
        return _member(name, mode)


def put_archive(store: Store, fill: Callable[[LayerWriter], None], compression: Compression) -> Archive:
    """Stores what `fill` writes as one layer. The caller holds a lease; several threads may do this at once.

    Raises:
        HostError: Disk full, not allowed.
    """
    with disk_errors(store.root, "storing an image layer"), Temporary(store.layout.ingest) as temporary:
        sink = _Sink(temporary.descriptor, _compressor(compression))
        writer = LayerWriter(io.BufferedWriter(sink, _CHUNK_BYTES))
        fill(writer)
        writer.finish()
        descriptor, diff_id = sink.finish(compression)
        temporary.move_to(store.layout.blob(Digest(descriptor.digest)), mode=BLOB_MODE)
    return Archive(descriptor=descriptor, diff_id=diff_id, content_bytes=writer.content_bytes)


def remembered(store: Store, recipe: object, make: Callable[[], Archive]) -> Archive:
    """The layer that `recipe` (anything that is JSON) makes: from the store when it is there, else from `make`.

    What is remembered is a file of the store's own folder, `slipway/layers/HEX.json`; it may be lost at any time.
    """
    memory = store.layout.extras / "layers" / f"{hex_of(digest_bytes(canonical_json(recipe)))}.json"
    try:
        known = msgspec.json.decode(memory.read_bytes(), type=Archive)
        if store.layout.blob(Digest(known.descriptor.digest)).stat().st_size == known.descriptor.size:
            return known
    except (OSError, msgspec.DecodeError):
        pass  # not there, half written by another tool, or the blob was collected: made again
    made = make()
    with disk_errors(store.root, "remembering a layer"):
        memory.parent.mkdir(exist_ok=True)
        write_file(memory, msgspec.json.encode(made), through=store.layout.ingest, mode=0o644, sync=False)
    return made


def _member(name: str, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.uid = member.gid = USER
    member.mtime = 0
    member.mode = mode
    return member


class _Sink(io.RawIOBase):
    """Where the tar is written to: hashed, compressed, hashed again."""

    def __init__(self, file: int, compressor: _Compressor | None) -> None:
        super().__init__()
        self._file = file
        self._compressor = compressor
        self._plain = hashlib.sha256()
        self._stored = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        """It is nothing else."""
        return True

    def write(self, data: "ReadableBuffer") -> int:
        """One more piece of the tar."""
        piece = bytes(data)
        self._plain.update(piece)
        self._store(piece if self._compressor is None else self._compressor.compress(piece))
        return len(piece)

    def finish(self, compression: Compression) -> tuple[Descriptor, Digest]:
        """The blob and its `diff_id`, after the last piece."""
        if self._compressor is not None:
            self._store(self._compressor.flush())
        suffix = "" if compression == "none" else f"+{compression}"
        digest = Digest(f"sha256:{self._stored.hexdigest()}")
        descriptor = Descriptor(media_type=LAYER_TYPE + suffix, digest=digest, size=self._size)
        return descriptor, Digest(f"sha256:{self._plain.hexdigest()}")

    def _store(self, data: bytes) -> None:
        self._stored.update(data)
        self._size += len(data)
        write_all(self._file, data)


def _compressor(compression: Compression) -> _Compressor | None:
    match compression:
        case "none":
            return None
        case "gzip":
            # A header without name and time. The bytes still follow from the zlib of this interpreter.
            return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        case "zstd":
            import zstandard

            # Without threads: libzstd cuts its input otherwise with them. The library is pinned by the lock.
            made: _Compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()
            return made
