"""Layout of a slot file: the bytes in which one process leaves its metrics for others to read.

It does not decide what is measured (`metrics`), write values (`slots`) or merge processes (`collector`). The invariant:
a record is complete before it is counted in `published`, so a reader never sees half a series; every record carries a
version and a checksum, so damage is found and named, never added up.

    header     16 × u64, native byte order: magic, version, where the regions are, checksum, counters of the writer
    keys       append-only records, 8-aligned: [length u32][crc32 u32][version u16][pad 6][msgpack body][pad]
    cells      float64: 1 a counter or gauge; len(bounds) + 2 a histogram (one a bucket, +Inf last, then the sum)
    exemplars  8 × u64 each, one for a bucket that ever had one: which bucket, the trace, the value, when, a checksum

An exemplar is rewritten in place, so a reader may meet it half written: the CRC-32 in its last word then does not fit
the others, and the reader leaves it out. That holds whatever order a processor stores in.

A body is either a `Metric` (the definition; its index is the count of definitions before it) or a `Series` of one.
A slot never leaves its machine, so native byte order is right and an aligned 8-byte store is atomic.

Source: the pid-file trouble of client_python#367, which this avoids.
"""

import mmap
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from slipway_bundle.errors import HostError

__all__ = [
    "CELLS",
    "EXEMPLARS",
    "EXEMPLAR_WORDS",
    "HEADER_BYTES",
    "KEY_BYTES",
    "RECORD_VERSION",
    "Cells",
    "DamagedError",
    "Header",
    "Kind",
    "Merge",
    "Metric",
    "Series",
    "SlotError",
    "Words",
    "decode_frame",
    "encode_frame",
    "exemplar_check",
    "file_size",
    "lay_out",
    "make_slot_fd",
    "read_header",
]

MAGIC = int.from_bytes(b"SLIPSLOT", sys.byteorder)
LAYOUT_VERSION = 2
RECORD_VERSION = 1
HEADER_BYTES = 128
CELLS = 16_384
"""Default room: 16,384 float64 = 128 KiB of address space; untouched pages cost nothing."""
KEY_BYTES = 512 * 1024
"""Default room for definitions and label values; about 60 bytes a series."""

EXEMPLARS = 512
"""Default room for exemplars: 512 buckets; further ones have none."""
EXEMPLAR_WORDS = 8

# Words of the header (index of a u64).
WORD_MAGIC, WORD_VERSION, WORD_KEYS_AT, WORD_KEYS_BYTES, WORD_CELLS_AT, WORD_CELLS, WORD_CHECKSUM = range(7)
WORD_PUBLISHED, WORD_WRITER, WORD_DROPPED, WORD_IGNORED = range(7, 11)
WORD_EXEMPLARS, WORD_EXEMPLARS_USED = range(11, 13)

# Words of an exemplar: cell of its bucket, trace id in halves, span id, the value's bits, Unix milliseconds.
EXEMPLAR_CELL, EXEMPLAR_HIGH, EXEMPLAR_LOW, EXEMPLAR_SPAN, EXEMPLAR_VALUE, EXEMPLAR_AT_MS = range(6)
EXEMPLAR_CHECK = 7

_FRAME = struct.Struct("=IIHxxxxxx")

Cells: TypeAlias = "memoryview[float]"
Words: TypeAlias = "memoryview[int]"
Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]


class SlotError(HostError):
    """A slot file cannot be created, or is not one this process may write to."""

    code = "slot_unusable"


class DamagedError(ValueError):
    """A slot file does not hold what its header or a record promises; the message says where."""


class Metric(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The definition of one metric. Stored by position: fields are only ever added at the end."""

    name: str
    """Full name as exposed: counters end in `_total`, units are spelled out (`_seconds`, `_bytes`)."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Upper bounds of the buckets (inclusive), ascending, without +Inf; histograms only."""
    merge: Merge = "sum"
    """How the gauges of several processes become one; counters and histograms are always summed."""

    @property
    def width(self) -> int:
        """How many cells one series takes."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


class Series(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One series of a metric: its label values and where its cells begin."""

    metric: int
    values: tuple[str, ...]
    cell: int


class Header(msgspec.Struct, frozen=True):
    """Where the regions of a slot file are."""

    keys_at: int
    keys_bytes: int
    cells_at: int
    cells: int
    exemplars: int

    @property
    def exemplars_at(self) -> int:
        """Where the exemplars begin, behind the cells."""
        return self.cells_at + 8 * self.cells

    @property
    def total_bytes(self) -> int:
        """Size of the whole file."""
        return self.exemplars_at + 8 * EXEMPLAR_WORDS * self.exemplars

    def checksum(self) -> int:
        """CRC-32 of the layout words, so that a torn or foreign header is refused."""
        layout = (LAYOUT_VERSION, self.keys_at, self.keys_bytes, self.cells_at, self.cells, self.exemplars)
        return zlib.crc32(struct.pack("=6Q", *layout))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Metric | Series)


def encode_frame(record: Metric | Series) -> bytes:
    """One record as it lies in the key region, padded to 8 bytes."""
    body = _encoder.encode(record)
    frame = _FRAME.pack(len(body), zlib.crc32(body), RECORD_VERSION) + body
    return frame + b"\0" * (-len(frame) % 8)


def decode_frame(keys: memoryview, at: int) -> tuple[Metric | Series, int]:
    """The record that begins at byte `at` of the key region, and where the next one begins.

    Raises:
        DamagedError: when it runs out of the region, fails its checksum, has another version or does not decode.
    """
    if at + _FRAME.size > len(keys):
        raise DamagedError(f"record at byte {at} begins outside the key region of {len(keys)} bytes")
    length, checksum, version = _FRAME.unpack_from(keys, at)
    begin = at + _FRAME.size
    if begin + length > len(keys):
        raise DamagedError(f"record at byte {at} claims {length} bytes, the key region ends at {len(keys)}")
    body = bytes(keys[begin : begin + length])
    if zlib.crc32(body) != checksum:
        raise DamagedError(f"record at byte {at} fails its checksum")
    if version != RECORD_VERSION:
        raise DamagedError(f"record at byte {at} has version {version}, this reader knows {RECORD_VERSION}")
    try:
        record = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"record at byte {at} does not decode: {error}") from error
    return record, begin + length + (-(_FRAME.size + length) % 8)


def exemplar_check(words: "bytes | Words") -> int:
    """What the last word of an exemplar must be, given those before it: a mix of two writes, or zeros, has another."""
    return zlib.crc32(words)


def file_size(fd: int) -> int:
    """Size of an open slot file, at least a header's.

    Raises:
        DamagedError: when not even a header fits.
    """
    size = os.fstat(fd).st_size
    if size < HEADER_BYTES:
        raise DamagedError(f"the slot file is cut off: {size} bytes, its header alone takes {HEADER_BYTES}")
    return size


def read_header(words: Words, size: int) -> Header:
    """The layout of a slot file of `size` bytes, from its first 16 words (a memoryview of format "Q").

    Raises:
        DamagedError: when it is no slot file, another layout version, torn, or shorter than it claims.
    """
    if words[WORD_MAGIC] != MAGIC:
        raise DamagedError("the file does not begin like a slot file")
    if words[WORD_VERSION] != LAYOUT_VERSION:
        raise DamagedError(
            f"the slot file has layout version {words[WORD_VERSION]}, this reader knows {LAYOUT_VERSION}"
        )
    header = Header(
        words[WORD_KEYS_AT], words[WORD_KEYS_BYTES], words[WORD_CELLS_AT], words[WORD_CELLS], words[WORD_EXEMPLARS]
    )
    if words[WORD_CHECKSUM] != header.checksum():
        raise DamagedError("the header of the slot file fails its checksum")
    if header.total_bytes > size:
        raise DamagedError(f"the slot file is cut off: {size} bytes, its header promises {header.total_bytes}")
    return header


def lay_out(fd: int, *, cells: int = CELLS, key_bytes: int = KEY_BYTES) -> Header:
    """Make the open, empty file `fd` a slot file; the magic is written last.

    Raises:
        SlotError: when the file system refuses the size.
    """
    key_bytes += -key_bytes % 8
    header = Header(HEADER_BYTES, key_bytes, HEADER_BYTES + key_bytes, cells, EXEMPLARS)
    try:
        os.ftruncate(fd, header.total_bytes)
        mapping = mmap.mmap(fd, header.total_bytes)
    except OSError as error:
        raise SlotError(
            f"a slot file of {header.total_bytes} bytes could not be made: {error.strerror or error}",
            hint="metrics of each worker live in such a file; free memory or disk, or lower the number of workers",
        ) from error
    with mapping, memoryview(mapping) as view, view[:HEADER_BYTES].cast("Q") as words:
        words[WORD_VERSION] = LAYOUT_VERSION
        words[WORD_KEYS_AT], words[WORD_KEYS_BYTES] = header.keys_at, header.keys_bytes
        words[WORD_CELLS_AT], words[WORD_CELLS] = header.cells_at, header.cells
        words[WORD_EXEMPLARS] = header.exemplars
        words[WORD_CHECKSUM] = header.checksum()
        words[WORD_MAGIC] = MAGIC
    return header


def make_slot_fd(path: Path | None = None, *, cells: int = CELLS, key_bytes: int = KEY_BYTES) -> int:
    """A new slot file as an open descriptor that the caller owns and closes.

    Without a `path` the file has no name: a sealed memfd on Linux (it cannot be cut off, and the kernel frees it with
    its last holder), elsewhere an unlinked temporary file. That is the form a supervisor hands to its workers: no
    files pile up, whatever dies.

    Raises:
        SlotError: when the file exists already or cannot be made.
    """
    try:
        if path is not None:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        elif sys.platform == "linux":
            fd = os.memfd_create("slipway-slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            fd, name = tempfile.mkstemp(prefix="slipway-slot-")
            os.unlink(name)  # noqa: PTH108 - nameless by intent
    except OSError as error:
        where = f"`{path}`" if path is not None else "in memory"
        raise SlotError(f"a slot file could not be made {where}: {error.strerror or error}") from error
    try:
        lay_out(fd, cells=cells, key_bytes=key_bytes)
        if path is None and sys.platform == "linux":
            import fcntl

            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(fd)
        raise
    return fd
