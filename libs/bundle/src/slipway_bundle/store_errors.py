"""The errors of the store, of references and of layers; the rest of the tree is in `errors.py`.

It decides nothing: each class is a name, a code and a family. The invariant is that of `errors.py`: the code is
stable, the exit status follows from the family, and the message says what happened, got, expected, where.

    UsageError
    ├── RefInvalidError         ref_invalid         a reference that breaks the grammar
    ├── RefNotFoundError        ref_not_found       no bundle under that reference
    ├── RefAmbiguousError       ref_ambiguous       more than one bundle fits
    ├── RefConflictError        ref_conflict        other content under an immutable reference
    ├── ImageSignedError        image_signed        images would change an index that something refers to
    └── MemberNameError         member_name         a file name that a layer cannot hold
    IntegrityError
    ├── BlobCorruptError        blob_corrupt        bytes that do not have their digest
    ├── BlobMissingError        blob_missing        a blob that something refers to is not there
    ├── BlobTooLongError        blob_too_long       a blob that is too long for a document
    ├── JsonError               json_invalid        JSON that the strict reader refuses
    ├── LayerUnsafeError        layer_unsafe        a tar that must not be unpacked
    └── LayerUnsupportedError   layer_unsupported   a layer of a kind that this version does not read
    SourceError
    └── SourceChangedError      source_changed      a file changed while it was packed
    HostError
    ├── NoSpaceError            no_space            disk or quota full
    ├── StoreBusyError          store_busy          a lock was not free in time
    ├── StorePermissionError    store_permission    not allowed to, or a read-only file system
    ├── StoreDiskError          store_disk          any other error of the disk
    └── StoreInvalidError       store_invalid       the folder is not a store
"""

from slipway_bundle.errors import HostError, IntegrityError, SourceError, UsageError


class RefInvalidError(UsageError):
    """A reference breaks the grammar."""

    code = "ref_invalid"


class RefNotFoundError(UsageError):
    """No bundle in the store has that reference."""

    code = "ref_not_found"


class RefAmbiguousError(UsageError):
    """More than one bundle fits the reference; slipway never guesses."""

    code = "ref_ambiguous"


class RefConflictError(UsageError):
    """The reference is taken by other content; versions are immutable."""

    code = "ref_conflict"


class ImageSignedError(UsageError):
    """Images cannot be added to an index that is signed, or that something else refers to by its digest."""

    code = "image_signed"


class MemberNameError(UsageError):
    """A file's name cannot be put into a layer that unpacks the same everywhere."""

    code = "member_name"


class BlobCorruptError(IntegrityError):
    """The bytes of a blob do not have its digest or size."""

    code = "blob_corrupt"


class BlobMissingError(IntegrityError):
    """A blob that is referred to is not in the store."""

    code = "blob_missing"


class BlobTooLongError(IntegrityError):
    """A blob that should be a document is too long to be one."""

    code = "blob_too_long"


class JsonError(IntegrityError):
    """A JSON document that the strict reader refuses: duplicate key, NaN, huge integer, too long, wrong shape."""

    code = "json_invalid"


class LayerUnsafeError(IntegrityError):
    """A layer holds a member that must not be unpacked: traversal, link, device, collision, lie about its size."""

    code = "layer_unsafe"


class LayerUnsupportedError(IntegrityError):
    """A layer of a kind that this version does not read, for example a compressed one."""

    code = "layer_unsupported"


class SourceChangedError(SourceError):
    """A source file changed while it was being packed."""

    code = "source_changed"


class NoSpaceError(HostError):
    """The disk or the quota is full, or would be."""

    code = "no_space"


class StoreBusyError(HostError):
    """Another process held a lock of the store for longer than the caller wanted to wait."""

    code = "store_busy"


class StorePermissionError(HostError):
    """The store cannot be read or written: permission, or a read-only file system."""

    code = "store_permission"


class StoreDiskError(HostError):
    """The operating system reported an error that has no better name."""

    code = "store_disk"


class StoreInvalidError(HostError):
    """The folder is not a store that this version can use."""

    code = "store_invalid"
