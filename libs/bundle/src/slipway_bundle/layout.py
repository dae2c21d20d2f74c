"""The folder of a store: where everything is, how it begins, and its `index.json`.

It takes no lock and judges no reference: `store.py` does. The invariant: a folder is a store from the moment the
file `oci-layout` is in it, and that is written last; making one twice, or two at once, is the same as making it once.
Source: OCI image-spec v1.1.1, image-layout.md.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from slipway_bundle.canonical import canonical_json, decode_json
from slipway_bundle.digest import Digest, hex_of
from slipway_bundle.disk import Temporary, sync_folder, write_all, write_file
from slipway_bundle.oci import (
    BLOBS,
    INDEX_FILE,
    INDEX_TYPE,
    LAYOUT_FILE,
    LAYOUT_VERSION,
    REF_NAME,
    Descriptor,
    ImageIndex,
    LayoutMarker,
)
from slipway_bundle.store_errors import StoreInvalidError

EXTRAS = "slipway"
"""The OCI layout allows other files; all of ours are in this folder."""

ROLE = "io.slipway.role"
"""Annotation of an entry of `index.json`, of a child and of a layer: what it is for."""

CONTENT_DIGEST = "io.slipway.content-digest"
"""Annotation of an entry of `index.json`, of a bundle's index and of its images."""

ABSENT = "io.slipway.absent"
"""Annotation of an entry of `index.json`: the roles, joined by `,`, whose own blobs were not pulled (`partial.py`)."""

MAX_INDEX_BYTES = 64 << 20
"""An index of ten thousand bundles has 3 MB; no registry ever sees this file."""

_MODE = 0o644


class Layout:
    """The paths and the index of one store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / BLOBS
        self.index = root / INDEX_FILE
        self.extras = root / EXTRAS
        self.ingest = self.extras / "ingest"
        self.trees = self.extras / "trees"
        self.pins = self.extras / "pins"
        self.lease_lock = self.extras / "lock"
        self.index_lock = self.extras / "index.lock"

    def blob(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self.blobs / hex_of(digest)

    def is_made(self) -> bool:
        """Whether the folder is a store.

        Raises:
            StoreInvalidError: It is one of a version that this slipway does not know.
        """
        try:
            data = (self.root / LAYOUT_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False
        version = decode_json(data, LayoutMarker, what=f"{LAYOUT_FILE} of {str(self.root)!r}").image_layout_version
        if version != LAYOUT_VERSION:
            raise StoreInvalidError(
                f"{str(self.root)!r} is an OCI layout of version {version!r}, expected {LAYOUT_VERSION!r}",
                hint="choose another folder with SLIPWAY_HOME",
            )
        return True

    def make(self) -> None:
        """Make the folder a store, if it is not one.

        Raises:
            StoreInvalidError: Something else is in the folder.
            OSError: It cannot be written.
        """
        if self.is_made():
            if self.pins.is_dir():  # the last one below: another tool's layout has none of them
                return
        else:
            self._require_free()
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        for folder in (self.root, self.blobs, self.extras, self.ingest, self.trees, self.pins):
            folder.mkdir(parents=True, exist_ok=True)
        for changed in (self.blobs.parent, self.extras, self.root, *(folder.parent for folder in missing)):
            sync_folder(changed)
        self._write_once(self.index, canonical_json(_index(())))
        self._write_once(self.root / LAYOUT_FILE, canonical_json(LayoutMarker(image_layout_version=LAYOUT_VERSION)))
        sync_folder(self.root)

    def load_index(self) -> tuple[Descriptor, ...]:
        """The entries of `index.json`; none when there is no store yet.

        Raises:
            JsonError: The file is not an image index.
            StoreInvalidError: The folder holds something else.
            OSError: It cannot be read.
        """
        if not self.is_made():
            return ()
        data = self.index.read_bytes()
        document = decode_json(data, ImageIndex, what=f"{INDEX_FILE} of {str(self.root)!r}", max_bytes=MAX_INDEX_BYTES)
        return document.manifests

    def write_index(self, entries: Sequence[Descriptor]) -> None:
        """Replace `index.json` in one durable step; the caller holds the index lock.

        The entries are sorted, so the order of publishing leaves no trace.
        """
        ordered = sorted(entries, key=lambda entry: (entry.annotations.get(REF_NAME, ""), entry.digest))
        write_file(self.index, canonical_json(_index(ordered)), through=self.ingest, mode=_MODE)
        sync_folder(self.root)

    def _require_free(self) -> None:
        try:
            found = {entry.name for entry in self.root.iterdir()}
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise StoreInvalidError(
                f"{str(self.root)!r} is a file, expected a folder", hint="choose another folder with SLIPWAY_HOME"
            ) from error
        if strangers := found - {LAYOUT_FILE, INDEX_FILE, "blobs", EXTRAS, "lost+found"}:
            raise StoreInvalidError(
                f"{str(self.root)!r} is not a store and holds {min(strangers)!r}, expected an empty folder",
                hint="choose another folder with SLIPWAY_HOME",
            )

    def _write_once(self, target: Path, data: bytes) -> None:
        """Write `target` unless it is there; a link, unlike a rename, never replaces what another process made."""
        if target.exists():
            return
        with Temporary(self.ingest) as temporary:
            write_all(temporary.descriptor, data)
            os.fchmod(temporary.descriptor, _MODE)
            os.fsync(temporary.descriptor)
            try:
                target.hardlink_to(temporary.path)
            except FileExistsError:
                return


def _index(entries: Sequence[Descriptor]) -> ImageIndex:
    return ImageIndex(schema_version=2, media_type=INDEX_TYPE, manifests=tuple(entries))
