"""Reading a layer: a strict parser that refuses what it does not fully understand.

It writes nothing; `extract.py` does. The invariants: every byte of the layer is hashed and accounted for (header,
record, data, zero padding, trailer), the digest is compared at the end, and a member is given out only when its name,
kind, mode and size are ones that unpack safely. It never warns and goes on.
Source: POSIX.1-2017, pax; `docs/bundle-v1.md` (limits); CVE-2026-27905 for what leniency costs.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.oci import Descriptor
from slipway_bundle.paths import NameSet
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.store_errors import BlobCorruptError, LayerUnsafeError, LayerUnsupportedError
from slipway_bundle.tar import BLOCK_BYTES, normal_mode

MAX_ENTRIES = 100_000
"""A site-packages folder with torch has 30,000 files."""

MAX_RECORDS_BYTES = 64 << 10
"""A name of 4096 bytes and an alignment comment of 4 KiB fit many times."""

CHUNK_BYTES = 1 << 20

_ZEROS = bytes(BLOCK_BYTES)
_OCTAL = re.compile(rb"^ *([0-7]+)[ \0]*\Z")
_RECORD_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")
_MAGIC = b"ustar\x0000"

_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"g": "a global PAX header",
    b"K": "a GNU long link",
    b"L": "a GNU long name",
    b"S": "a sparse file",
}

_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}

_USED_KEYS = frozenset({"path", "size"})
_IGNORED_KEYS = frozenset({"comment", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname"})
"""Times and owners are not content, and unpacking does not restore them."""


class TarMember(Struct, frozen=True, kw_only=True):
    """A file or folder that is safe to unpack."""

    path: str
    is_directory: bool
    size: int
    mode: int
    """0o644 or 0o755."""

    offset: int
    """Where the data starts in the layer, in bytes."""


class LayerReader:
    """One pass over one layer. Nothing that was read may be trusted before `members()` has ended."""

    def __init__(
        self, file: BinaryIO, layer: Descriptor, *, progress: Progress = QUIET, max_entries: int = MAX_ENTRIES
    ) -> None:
        require_plain_tar(layer)
        self._file = file
        self._layer = layer
        self._progress = progress
        self._max_entries = max_entries
        self._hash = hashlib.sha256()
        self._position = 0
        self._unread = 0
        self._names = NameSet()

    def members(self) -> Iterator[TarMember]:
        """The members in order; the data of each is read by `data()` before the next one, or skipped.

        Raises:
            LayerUnsafeError: A member that must not be unpacked, named; or bytes that are not a tar.
            LayerUnsupportedError: A compressed layer.
            BlobCorruptError: The bytes do not have the layer's digest.
        """
        count = 0
        while (block := self._take(BLOCK_BYTES)) != _ZEROS:
            if self._position == BLOCK_BYTES:
                self._require_uncompressed(block)
            count += 1
            if count > self._max_entries:
                raise self._refusal("the layer", f"it has more than {self._max_entries} members")
            member = self._member(block)
            self._unread = member.size
            yield member
            for _ in self.data():
                pass
            if any(self._take(-member.size % BLOCK_BYTES)):
                raise self._refusal(member.path, "the padding after its data is not zero")
        self._close()

    def data(self) -> Iterator[bytes]:
        """The data of the current member that was not read yet, in chunks."""
        while self._unread:
            chunk = self._take(min(self._unread, CHUNK_BYTES))
            self._unread -= len(chunk)
            yield chunk

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        self._hash.update(data)
        self._position += len(data)
        self._progress.advance(len(data))
        if len(data) < count:
            raise self._refusal("the layer", f"it ends {count - len(data)} bytes too early")
        return data

    def _member(self, block: bytes) -> TarMember:
        records: dict[str, str] = {}
        if _kind(block) == b"x":
            records = self._records(block)
            block = self._take(BLOCK_BYTES)
        raw, kind = _raw_name(block), _kind(block)
        label = _label(raw)
        if block[257:265] != _MAGIC:
            raise self._refusal(label, "its header is not USTAR")
        if _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise self._refusal(label, "the checksum of its header is wrong")
        if kind not in {b"0", b"\0", b"5"}:
            raise self._refusal(label, f"it is {_KINDS.get(kind, f'of the unknown kind {kind!r}')}")
        is_directory = kind == b"5"
        path = self._path(records, raw, label, is_directory=is_directory)
        size, mode = self._numbers(block, records, path)
        if any(block[157:257]):
            raise self._refusal(path, "it has the target of a link")
        if is_directory and size:
            raise self._refusal(path, f"it is a folder with {size} bytes of data")
        if size > self._layer.size - self._position:
            raise self._refusal(path, f"it claims {size} bytes, and the layer has {self._layer.size} in all")
        defect = self._names.add_directory(path) if is_directory else self._names.add_file(path)
        if defect:
            raise self._refusal(path, defect)
        return TarMember(path=path, is_directory=is_directory, size=size, mode=normal_mode(mode), offset=self._position)

    def _path(self, records: dict[str, str], raw: bytes, label: str, *, is_directory: bool) -> str:
        path = records.get("path")
        if path is None:
            try:
                path = raw.decode("utf-8")
            except UnicodeDecodeError:
                raise self._refusal(label, "the name is not UTF-8") from None
        return path.removesuffix("/") if is_directory else path

    def _numbers(self, block: bytes, records: dict[str, str], path: str) -> tuple[int, int]:
        size, mode = _octal(block[124:136]), _octal(block[100:108])
        if size is None or mode is None:
            raise self._refusal(path, "its size or mode is not an octal number")
        if mode & 0o7000:
            raise self._refusal(path, f"it is setuid, setgid or sticky: mode {mode:o}")
        if (stated := records.get("size")) is not None:
            if not (stated.isascii() and stated.isdigit() and len(stated) < 20):
                raise self._refusal(path, f"its size is {stated[:32]!r}")
            size = int(stated)
        return size, mode

    def _records(self, block: bytes) -> dict[str, str]:
        size = _octal(block[124:136])
        if size is None or size > MAX_RECORDS_BYTES:
            raise self._refusal(_label(_raw_name(block)), f"its PAX records have more than {MAX_RECORDS_BYTES} bytes")
        data = self._take(size)
        self._take(-size % BLOCK_BYTES)
        records: dict[str, str] = {}
        while data:
            length = _RECORD_LENGTH.match(data)
            if length is None:
                raise self._refusal("a PAX header", "a record has no length")
            end = int(length[1])
            if end > len(data):
                raise self._refusal("a PAX header", f"a record claims {end} bytes, and {len(data)} are left")
            record, data = data[length.end() : end], data[end:]
            raw_key, equals, raw_value = record.partition(b"=")
            if not equals or not raw_value.endswith(b"\n"):
                raise self._refusal("a PAX header", "a record is not KEY=VALUE and a line feed")
            key = raw_key.decode("utf-8", "backslashreplace")
            if key in records:
                raise self._refusal("a PAX header", f"the record {key!r} occurs twice")
            if key not in _USED_KEYS and key not in _IGNORED_KEYS:
                raise self._refusal("a PAX header", f"the record {key!r} is not known")
            try:
                records[key] = raw_value[:-1].decode("utf-8")
            except UnicodeDecodeError:
                raise self._refusal(_label(raw_value), f"the record {key!r} is not UTF-8") from None
        return records

    def _require_uncompressed(self, block: bytes) -> None:
        for magic, name in _COMPRESSED.items():
            if block.startswith(magic):
                raise _compressed(self._layer, name)

    def _close(self) -> None:
        """After the first zero block: at least one more, and nothing else up to the end."""
        if self._take(BLOCK_BYTES) != _ZEROS:
            raise self._refusal("the layer", "one zero block is followed by data")
        while (left := min(self._layer.size - self._position, CHUNK_BYTES)) > 0:
            if any(self._take(left)):
                raise self._refusal("the layer", "its end is followed by data")
        self._require_digest()

    def _require_digest(self) -> None:
        while rest := self._file.read(CHUNK_BYTES):
            self._hash.update(rest)
            self._position += len(rest)
        got = Digest("sha256:" + self._hash.hexdigest())
        if got != self._layer.digest or self._position != self._layer.size:
            raise BlobCorruptError(
                f"layer {self._layer.digest} is corrupt: got {got} and {self._position} bytes, "
                f"expected {self._layer.size} bytes",
                hint="remove that blob and build the bundle again, or pull it again",
                got=got,
                expected=self._layer.digest,
            )

    def _refusal(self, member: str, why: str) -> IntegrityError:
        """The error for a member; a damaged layer is reported as damaged, not as malicious."""
        try:
            self._require_digest()
        except BlobCorruptError as damaged:
            return damaged
        return LayerUnsafeError(
            f"layer {self._layer.digest} cannot be unpacked: {member!r}: {why}",
            hint="the layer is what its author made; do not use this bundle",
            layer=self._layer.digest,
            member=member,
        )


def require_plain_tar(layer: Descriptor) -> None:
    """Refuse layers that are not uncompressed tar, by their media type.

    Raises:
        LayerUnsupportedError: The type says so.
    """
    if not layer.media_type.endswith(".tar"):
        raise _compressed(layer, layer.media_type)


def _compressed(layer: Descriptor, found: str) -> LayerUnsupportedError:
    return LayerUnsupportedError(
        f"layer {layer.digest} is not supported: got {found}, expected an uncompressed tar",
        hint="bundle v1 stores layers uncompressed; copy the bundle with a tool that keeps digests "
        "(`skopeo copy --preserve-digests`)",
        layer=layer.digest,
        got=found,
    )


def _kind(block: bytes) -> bytes:
    return block[156:157]


def _raw_name(block: bytes) -> bytes:
    name, prefix = block[:100].rstrip(b"\0"), block[345:500].rstrip(b"\0")
    return prefix + b"/" + name if prefix else name


def _label(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _octal(field: bytes) -> int | None:
    match = _OCTAL.match(field)
    return int(match[1], 8) if match else None
