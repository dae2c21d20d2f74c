"""The tar format of a layer: where every byte goes, decided before any file is read.

It opens no file and hashes nothing: names, sizes and modes go in, headers and offsets come out. The invariant: equal
input gives equal bytes, on every machine, and the data of each file of 1 MiB or more starts at a multiple of 4096 (so
that a layer can be mapped or reflinked). Uncompressed USTAR; PAX records only for what USTAR cannot say (a name of
more than 100 bytes or beyond ASCII, 8 GiB and more) and for the alignment.
Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; `docs/bundle-v1.md`.
"""

from collections.abc import Sequence

from msgspec import Struct

from slipway_bundle.paths import NameSet
from slipway_bundle.store_errors import MemberNameError

TAR_REVISION = 1
"""Part of every cache key: a change of one byte of the format must raise it."""

BLOCK_BYTES = 512
ALIGN_BYTES = 4096
"""Page size, and the block size that FICLONERANGE and O_DIRECT ask for."""

ALIGN_FROM_BYTES = 1 << 20
"""Smaller files are not worth a PAX record of up to 4 KiB."""

OWNER = 65532
"""`nonroot` of the distroless images: the user that the runnable image runs as."""

FILE_MODE = 0o644
PROGRAM_MODE = 0o755

TRAILER = bytes(2 * BLOCK_BYTES)

_USTAR_NAME_BYTES = 100
_USTAR_MAX_SIZE = 8**11 - 1
_PAX_NAME = "././@PaxHeader"
_OWNERS = b"%07o\0%07o\0" % (OWNER, OWNER)
_TIME_AND_CHECKSUM = b"%011o\0" % 0 + b" " * 8
"""The checksum of a header counts its own field as blanks."""

_REST = b"".join(
    (
        bytes(100),  # link name
        b"ustar\x0000",
        bytes(32 + 32),  # names of user and group
        b"0000000\x000000000\0",  # numbers of a device
        bytes(155 + 12),  # prefix, padding
    )
)


class Member(Struct, frozen=True, kw_only=True):
    """A file to be laid out."""

    path: str
    """Relative, POSIX, without `.` and `..`."""

    size: int
    """Bytes."""

    mode: int = FILE_MODE
    """0o644 or 0o755."""


class Segment(Struct, frozen=True, kw_only=True):
    """One member in the layer: `header`, then `size` bytes of data at `offset`, then zeros to the next block."""

    path: str
    header: bytes
    offset: int
    size: int
    mode: int
    is_directory: bool = False

    @property
    def padding(self) -> bytes:
        """The zeros after the data."""
        return bytes(-self.size % BLOCK_BYTES)


class TarLayout(Struct, frozen=True, kw_only=True):
    """A whole layer, in order, parents before children."""

    segments: tuple[Segment, ...]
    size: int
    """Bytes of the layer, the two closing blocks included."""


def normal_mode(mode: int) -> int:
    """0o755 when the owner may execute, else 0o644: what umask and group bits say is not content."""
    return PROGRAM_MODE if mode & 0o100 else FILE_MODE


def lay_out(members: Sequence[Member]) -> TarLayout:
    """Place `members`; the order they come in does not matter. O(n log n).

    Raises:
        MemberNameError: A name that would not unpack the same everywhere, or two that collide.
        ValueError: A mode other than 0o644 and 0o755 (a bug of the caller).
    """
    names = NameSet()
    for member in members:
        if member.mode not in {FILE_MODE, PROGRAM_MODE}:
            raise ValueError(f"mode of {member.path!r} is {member.mode:o}; this is a bug in slipway")
        if defect := names.add_file(member.path):
            raise MemberNameError(
                f"{member.path!r} cannot be packed: {defect}",
                hint="rename the file, or exclude it in `[bundle]` of slipway.toml",
                path=ascii(member.path),
            )
    folders = (Member(path=path, size=0, mode=PROGRAM_MODE) for path in names.directories)
    entries = sorted([*members, *folders], key=lambda member: member.path.encode("utf-8"))
    segments: list[Segment] = []
    position = 0
    for entry in entries:
        segment = _place(entry, position, is_directory=entry.path in names.directories)
        segments.append(segment)
        position = segment.offset + segment.size + len(segment.padding)
    return TarLayout(segments=tuple(segments), size=position + len(TRAILER))


def _place(member: Member, position: int, *, is_directory: bool) -> Segment:
    name = member.path + "/" if is_directory else member.path
    records = _needed_records(name, member.size)
    if member.size >= ALIGN_FROM_BYTES:
        records = _aligned(records, position)
    header = _header(
        name if _fits_ustar(name) else _PAX_NAME,
        size=member.size if member.size <= _USTAR_MAX_SIZE else 0,
        mode=member.mode,
        kind=b"5" if is_directory else b"0",
    )
    if records:
        extended = _header(_PAX_NAME, size=len(records), mode=FILE_MODE, kind=b"x")
        header = extended + records + bytes(-len(records) % BLOCK_BYTES) + header
    return Segment(
        path=member.path,
        header=header,
        offset=position + len(header),
        size=member.size,
        mode=member.mode,
        is_directory=is_directory,
    )


def _fits_ustar(name: str) -> bool:
    return name.isascii() and len(name) <= _USTAR_NAME_BYTES


def _needed_records(name: str, size: int) -> bytes:
    records = b""
    if not _fits_ustar(name):
        records += _record(b"path", name.encode("utf-8"))
    if size > _USTAR_MAX_SIZE:
        records += _record(b"size", str(size).encode("ascii"))
    return records


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where LENGTH counts its own digits."""
    body = len(key) + len(value) + 3
    length = body + len(str(body))
    length = body + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _aligned(records: bytes, position: int) -> bytes:
    """`records` and a comment that fills their blocks so that the data after the two headers is aligned."""
    needed = len(records) + len(_record(b"comment", b""))
    blocks = -(-needed // BLOCK_BYTES)
    while (position + (blocks + 2) * BLOCK_BYTES) % ALIGN_BYTES:
        blocks += 1
    missing = blocks * BLOCK_BYTES - len(records)
    # The length is given, so the value has what is left beside "LENGTH comment=\n".
    value = b" " * (missing - len(str(missing)) - len(" comment=\n"))
    return records + b"%d comment=%s\n" % (missing, value)


def _header(name: str, *, size: int, mode: int, kind: bytes) -> bytes:
    """One USTAR block; everything that could tell machines apart is constant."""
    fields = b"%b%07o\0%b%011o\0%b%b%b" % (
        name.encode("ascii").ljust(100, b"\0"),
        mode,
        _OWNERS,
        size,
        _TIME_AND_CHECKSUM,
        kind,
        _REST,
    )
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]
