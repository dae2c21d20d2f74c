"""Digests: the one spelling of a sha256 in slipway, and how one is made from bytes and files.

It knows no other algorithm: OCI allows more, bundle v1 does not. The invariant: a value of type `Digest` is
`sha256:` followed by 64 lower-case hex digits, because it came out of this module.
Source: OCI image-spec v1.1.1, descriptor.md, "Digests".
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NewType

from slipway_bundle.errors import UsageError
from slipway_bundle.progress import QUIET, Progress

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}\Z"
"""For `msgspec.Meta(pattern=…)` in stored formats."""

SHORT_HEX = 12
"""A shortened digest is accepted from this many hex digits on (48 bits), and printed with this many."""

CHUNK_BYTES = 1 << 20
"""Reads of this size hash at full speed and stay in the second-level cache."""

_DIGEST = re.compile(DIGEST_PATTERN)


def parse_digest(text: str) -> Digest:
    """`text` as a digest.

    Raises:
        UsageError: It is not `sha256:` and 64 lower-case hex digits.
    """
    if _DIGEST.match(text) is None:
        raise UsageError(
            f"not a digest: got {text!r}, expected 'sha256:' and 64 lower-case hex digits",
            hint="`slipway bundle list` prints the digests of the store",
        )
    return Digest(text)


def is_digest(text: str) -> bool:
    """Whether `text` is spelled like a digest."""
    return _DIGEST.match(text) is not None


def digest_bytes(data: bytes | bytearray | memoryview) -> Digest:
    """The digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_chunks(chunks: Iterable[bytes]) -> Digest:
    """The digest of the concatenation of `chunks`; one pass, no copy."""
    running = hashlib.sha256()
    for chunk in chunks:
        running.update(chunk)
    return Digest("sha256:" + running.hexdigest())


def digest_file(path: Path, *, progress: Progress = QUIET) -> tuple[Digest, int]:
    """The digest and the size in bytes of the file at `path`, read once from start to end.

    Raises:
        OSError: The file cannot be read; the caller knows what the file was.
    """
    running = hashlib.sha256()
    size_bytes = 0
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            running.update(buffer[:count])
            size_bytes += count
            progress.advance(count)
    return Digest("sha256:" + running.hexdigest()), size_bytes


def hex_of(digest: Digest) -> str:
    """The 64 hex digits: the name of the blob's file."""
    return digest[7:]


def short(digest: Digest) -> str:
    """The first 12 hex digits, for people."""
    return digest[7 : 7 + SHORT_HEX]
