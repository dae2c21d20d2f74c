"""The store: blobs by digest and bundles by name, in one folder that is a valid OCI image layout.

    ROOT/oci-layout  index.json  blobs/sha256/HEX         what skopeo, umoci and registries read
    ROOT/slipway/lock  index.lock  cache.json             locks, stat cache
    ROOT/slipway/ingest/  trees/HEX/  pins/HEX            unfinished files, unpacked layers, what is being served

It knows no bundle: `build.py` says what is stored, `gc.py` what goes, `extract.py` unpacks. The invariants: a blob
has its name only when it is complete and synced; `index.json` only changes by one rename, after everything it
refers to; whoever writes holds a lease, and nothing is collected while anyone does. Readers need no lock and write
nothing, so a store on a read-only disk can be used. Several processes may use one store; an object of this class
belongs to one thread.
Source: OCI image-spec v1.1.1, image-layout.md; `docs/bundle-v1.md`.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from slipway_bundle.blobs import Blobs
from slipway_bundle.canonical import canonical_json
from slipway_bundle.digest import Digest, digest_bytes, hex_of
from slipway_bundle.disk import Temporary, disk_errors, require_space, sync_folder, write_file
from slipway_bundle.layers import Layer, LayerEntry, LayerFile, StatKey, layout_members, status_of
from slipway_bundle.layout import ABSENT, CONTENT_DIGEST, Layout
from slipway_bundle.locks import locked, try_lock
from slipway_bundle.oci import BYTES_TYPE, LAYER_TYPE, REF_NAME, Descriptor
from slipway_bundle.packing import Packed, Packer
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.references import Ref, find, refs_of, split_ref
from slipway_bundle.referrers import entry_of
from slipway_bundle.statcache import CACHE_FILE, Known, KnownLayer, StatCache, blob_key, recipe_of
from slipway_bundle.store_errors import ImageSignedError, NoSpaceError, RefConflictError, StorePermissionError
from slipway_bundle.tar import TarLayout, lay_out

if TYPE_CHECKING:
    from slipway_bundle.gc import GcReport

BLOB_MODE = 0o444
"""A blob never changes, so nobody needs to write it."""

LOCK_TIMEOUT_S = 30.0

Clock = Callable[[], int]


class Store(Blobs):
    """One store on disk; see the module's text for who may do what at the same time."""

    def __init__(self, root: Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S, clock_ns: Clock = time.time_ns) -> None:
        super().__init__(Layout(root))
        self._lock_timeout_s = lock_timeout_s
        self._clock_ns = clock_ns
        self._cache = StatCache(self.layout.extras / CACHE_FILE, through=self.layout.ingest)

    @classmethod
    def open(cls, root: Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S, clock_ns: Clock = time.time_ns) -> "Store":
        """The store at `root`. Nothing is written before the first `lease()`; a missing folder is an empty store.

        Args:
            root: The folder, usually `$SLIPWAY_HOME/store`.
            lock_timeout_s: How long to wait for other processes before `StoreBusyError`.
            clock_ns: Wall clock in nanoseconds; only the stat cache asks it.

        Raises:
            StoreInvalidError: The folder is an OCI layout of an unknown version.
        """
        store = cls(root.absolute(), lock_timeout_s=lock_timeout_s, clock_ns=clock_ns)
        with disk_errors(store.root, "opening the store"):
            store.layout.is_made()
        return store

    # -- locks ---------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep the garbage collector away. Hold it from the first `put_…` to `publish`; leases may nest.

        Raises:
            StoreBusyError: A collection is running and did not end in time.
            HostError: The store cannot be made or written.
        """
        with ExitStack() as stack:
            with disk_errors(self.root, "opening the store for writing"):
                self.layout.make()
                stack.enter_context(locked(self.layout.lease_lock, shared=True, timeout_s=self._lock_timeout_s))
            yield

    @contextmanager
    def pin(self, bundle: Descriptor) -> Iterator[None]:
        """Keep a bundle's blobs and trees from collection while it is in use, even when its reference is deleted.

        Where the store cannot be written, or the disk is full, this does nothing: to serve is more than to keep.
        """
        with ExitStack() as stack:
            with suppress(StorePermissionError, NoSpaceError), self.lease(), disk_errors(self.root, "pinning a bundle"):
                stack.enter_context(self._pinned(bundle))
            yield

    @contextmanager
    def _pinned(self, bundle: Descriptor) -> Iterator[None]:
        descriptor = os.open(self.layout.pins / hex_of(bundle.digest), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # Written before it is locked: the collector takes a pin that nobody locks for a left-over.
            os.pwrite(descriptor, canonical_json(bundle), 0)
            # Never in the way: the collector asks for this lock only while no lease is held.
            try_lock(descriptor, shared=True)
            yield
        finally:
            os.close(descriptor)

    # -- writing -------------------------------------------------------------------------------------------------

    def put_bytes(self, data: bytes, media_type: str = BYTES_TYPE) -> Descriptor:
        """Store `data` as a blob; the same bytes again cost one read.

        Raises:
            HostError: Disk full, not allowed, busy.
        """
        digest = digest_bytes(data)
        with self.lease(), disk_errors(self.root, "storing a blob"):
            target = self.layout.blob(digest)
            if not _holds(target, data):
                require_space(self.layout.ingest, len(data))
                write_file(target, data, through=self.layout.ingest, mode=BLOB_MODE)
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    def put_json(self, document: object, media_type: str) -> Descriptor:
        """Store `document` as canonical JSON; raises like `put_bytes`."""
        return self.put_bytes(canonical_json(document), media_type)

    def put_layer(
        self, files: Sequence[LayerFile], *, media_type: str = LAYER_TYPE, progress: Progress = QUIET
    ) -> Layer:
        """Store `files` as one uncompressed tar layer; their order does not matter.

        Each source is read once, or not at all when the stat cache knows it and the layer is still there.

        Raises:
            MemberNameError: A name that would not unpack the same everywhere.
            FileError: A source cannot be read.
            SourceChangedError: A source changed meanwhile.
            HostError: Disk full, not allowed, busy.
        """
        statuses = {file.path: StatKey.of(status_of(file.source)) for file in files if isinstance(file.source, Path)}
        sizes = [len(file.source) if isinstance(file.source, bytes) else statuses[file.path].size for file in files]
        layout = lay_out(layout_members(files, sizes))
        by_name = {file.path: file for file in files}
        with self.lease(), disk_errors(self.root, "storing a layer"):
            known = self._cache.load()
            layer = self._known_layer(layout, by_name, statuses, known, media_type)
            if layer is not None:
                progress.advance(sum(sizes))
                return layer
            read_ns = self._clock_ns()
            packed = self._pack(layout, by_name, statuses, progress)
            layer = _layer(layout, packed, media_type)
            for name, status in statuses.items():
                known.remember_file(status, packed.files[name], read_ns=read_ns)
            blob = self.layout.blob(packed.digest)
            known.remember_layer(
                recipe_of(layer.entries), KnownLayer(digest=packed.digest, size=layout.size, blob=blob_key(blob))
            )
            self._cache.save(known)
        return layer

    def _known_layer(
        self,
        layout: TarLayout,
        files: dict[str, LayerFile],
        statuses: dict[str, StatKey],
        known: Known,
        media_type: str,
    ) -> Layer | None:
        """The layer, when all of its files are known and its blob is untouched since it was written."""
        digests: dict[str, Digest] = {}
        for name, file in files.items():
            digest = digest_bytes(file.source) if isinstance(file.source, bytes) else known.digest(statuses[name])
            if digest is None:
                return None
            digests[name] = digest
        entries = _entries(layout, digests)
        found = known.layer(recipe_of(entries))
        if found is None:
            return None
        try:
            if blob_key(self.layout.blob(found.digest)) != found.blob:
                return None
        except FileNotFoundError:
            return None
        descriptor = Descriptor(media_type=media_type, digest=found.digest, size=found.size)
        return Layer(descriptor=descriptor, entries=entries)

    def _pack(
        self, layout: TarLayout, files: dict[str, LayerFile], statuses: dict[str, StatKey], progress: Progress
    ) -> Packed:
        require_space(self.layout.ingest, layout.size)
        with Temporary(self.layout.ingest) as temporary:
            with Packer(progress) as packer:
                packed = packer.write(layout, files, statuses, temporary.descriptor)
            # A blob of that name is replaced: it has the same bytes, unless it is damaged, and then this repairs it.
            temporary.move_to(self.layout.blob(packed.digest), mode=BLOB_MODE)
        return packed

    def publish(
        self,
        ref: str,
        bundle: Descriptor,
        *,
        replaces_same_content: bool = False,
        replaces: bool = False,
        absent: Collection[Digest] = frozenset(),
    ) -> bool:
        """Make `bundle` visible as `ref` (`NAME:VERSION`), all at once and durably. True when it was not there yet.

        Args:
            ref: The name.
            bundle: The index.
            replaces_same_content: Let the name move from an index with the same content digest, to which nothing
                refers: a bundle gets its images so.
            replaces: Let the name move from anything: only a layout that is used as a registry may ask for that.
            absent: Blobs that may be missing, of a bundle that was pulled in part (`partial.py`).

        Raises:
            RefInvalidError: `ref` breaks the grammar.
            RefConflictError: `ref` is other content; versions are immutable.
            ImageSignedError: The index that would be replaced has referrers.
            BlobMissingError, BlobCorruptError: Something that `bundle` refers to is not in the store.
            HostError: Disk full, not allowed, busy.
        """
        split_ref(ref)
        with self.lease(), self._index_lock():
            for _ in self.walk(bundle, absent=absent):
                pass  # everything is there, with its size
            entries = self._entries()
            current = next((entry for entry in entries if entry.annotations.get(REF_NAME) == ref), None)
            if current is not None and replaces_same_content and _same_content(current, bundle):
                self._refuse_referred(ref, current, bundle)
                entries = tuple(entry for entry in entries if entry is not current)
                current = None
            elif current is not None and current.digest != bundle.digest and not replaces:
                raise RefConflictError(
                    f"{ref!r} is already {current.digest}, and versions are immutable: got {bundle.digest}",
                    hint="choose another version, or delete that one first",
                    ref=ref,
                    got=bundle.digest,
                    expected=current.digest,
                )
            with disk_errors(self.root, f"publishing {ref!r}"):
                sync_folder(self.layout.blobs)
                if current is None or _differs(current, bundle):
                    named = replace(bundle, annotations={**bundle.annotations, REF_NAME: ref})
                    self.layout.write_index([*(entry for entry in entries if entry is not current), named])
        return current is None

    def _refuse_referred(self, ref: str, current: Descriptor, bundle: Descriptor) -> None:
        from slipway_bundle.referrers import referrers  # it reads this module's stores

        if found := referrers(self, Digest(current.digest)):
            raise ImageSignedError(
                f"{ref!r} cannot become {bundle.digest}: {len(found)} signatures or statements name {current.digest}",
                hint="add images first, then sign; or build another version",
                ref=ref,
                got=bundle.digest,
                expected=current.digest,
            )

    def attach_descriptor(self, descriptor: Descriptor) -> bool:
        """List a stored referrer (`referrers.attach` makes one), durably. True when it was not listed yet.

        Raises:
            ReferrerError: It is no image manifest with a `subject`.
            BlobMissingError, BlobCorruptError: Something that it refers to, or its subject, is not in the store.
            HostError: Disk full, not allowed, busy.
        """
        with self.lease(), self._index_lock():
            entry = entry_of(self, descriptor)
            entries = self._entries()
            if any(known.digest == entry.digest for known in entries):
                return False
            with disk_errors(self.root, "listing a referrer"):
                sync_folder(self.layout.blobs)
                self.layout.write_index([*entries, entry])
        return True

    def delete(self, ref: str) -> Ref:
        """Take the name `ref` (any form that means one bundle) away; `gc` frees the space. Gives back what it was.

        Raises:
            RefNotFoundError, RefAmbiguousError, RefInvalidError: As `find`.
            HostError: Not allowed, busy.
        """
        with self.lease(), self._index_lock():
            entries = self._entries()
            gone = find(ref, refs_of(entries))
            with disk_errors(self.root, f"deleting {ref!r}"):
                self.layout.write_index([entry for entry in entries if entry.annotations.get(REF_NAME) != gone.text])
        return gone

    def gc(self, *, dry_run: bool = False) -> "GcReport":
        """Delete what no reference and no pin reaches; see `gc.collect`."""
        from slipway_bundle.gc import collect  # gc.py imports this module's types

        return collect(self, dry_run=dry_run, lock_timeout_s=self._lock_timeout_s)

    # -- reading -------------------------------------------------------------------------------------------------

    def entries(self) -> tuple[Descriptor, ...]:
        """All of `index.json`, other tools' entries included: the roots of everything that is kept.

        Raises:
            JsonError: `index.json` is damaged.
            HostError: It cannot be read.
        """
        return self._entries()

    def refs(self) -> tuple[Ref, ...]:
        """The bundles, sorted by name and version; raises like `entries`."""
        return refs_of(self._entries())

    def find(self, ref: str) -> Ref:
        """The one bundle that `ref` means, see `references.find`; raises like it and like `entries`."""
        return find(ref, self.refs())

    def resolve(self, ref: str) -> Digest:
        """The digest of the bundle that `ref` means; raises like `find`."""
        return self.find(ref).digest

    def _entries(self) -> tuple[Descriptor, ...]:
        with disk_errors(self.root, "reading the index"):
            return self.layout.load_index()

    @contextmanager
    def _index_lock(self) -> Iterator[None]:
        with ExitStack() as stack:
            with disk_errors(self.root, "locking the index"):
                stack.enter_context(locked(self.layout.index_lock, shared=False, timeout_s=self._lock_timeout_s))
            yield


def _same_content(current: Descriptor, bundle: Descriptor) -> bool:
    """Whether two indexes are one content, each in its own form."""
    content = bundle.annotations.get(CONTENT_DIGEST)
    is_same = content is not None and current.annotations.get(CONTENT_DIGEST) == content
    return is_same and current.digest != bundle.digest


def _differs(current: Descriptor, bundle: Descriptor) -> bool:
    """Whether an entry must be written again: another index, or the same one with more or fewer of its blobs."""
    return current.digest != bundle.digest or current.annotations.get(ABSENT) != bundle.annotations.get(ABSENT)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


def _entries(layout: TarLayout, digests: dict[str, Digest]) -> tuple[LayerEntry, ...]:
    return tuple(
        LayerEntry(
            path=segment.path,
            offset=segment.offset,
            size=segment.size,
            sha256=digests[segment.path],
            mode=segment.mode,
        )
        for segment in layout.segments
        if not segment.is_directory
    )


def _layer(layout: TarLayout, packed: Packed, media_type: str) -> Layer:
    descriptor = Descriptor(media_type=media_type, digest=packed.digest, size=layout.size)
    return Layer(descriptor=descriptor, entries=_entries(layout, packed.files))
