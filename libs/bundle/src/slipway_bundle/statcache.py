"""What is known about files without reading them again: status -> sha256, and files -> layer.

It is a cache: losing it costs time, never correctness, and it is written without fsync. The invariant: an entry is
only made for a file whose last change is older than the file system's clock can blur ("racy git"), so a later write
always changes the key. A layer is found by the digests of its files, and counts as present only while its blob is
the very file that was written then.
Source: git, Documentation/technical/racy-git.txt.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from slipway_bundle.digest import Digest, digest_bytes
from slipway_bundle.disk import write_file
from slipway_bundle.layers import LayerEntry, StatKey
from slipway_bundle.tar import TAR_REVISION

logger = logging.getLogger(__name__)

V = TypeVar("V")

CACHE_FILE = "cache.json"
CACHE_VERSION = 1

MAX_ENTRIES = 10_000
"""Of each kind; the oldest go first. Ten thousand are about 2 MB."""

_TICK_NS = 20_000_000
"""Two ticks of a kernel at 100 Hz: Linux stamps files with the time of the last tick."""

_COARSE_NS = 2_000_000_000
"""FAT stamps every two seconds, HFS+ every second."""


class KnownLayer(Struct, frozen=True, kw_only=True):
    """A layer that was written, and the status of its blob right after."""

    digest: Digest
    size: int
    blob: str


class _Content(Struct, kw_only=True):
    version: int = CACHE_VERSION
    files: dict[str, Digest] = field(default_factory=dict)
    layers: dict[str, KnownLayer] = field(default_factory=dict)


_DECODER = msgspec.json.Decoder(_Content)


class StatCache:
    """The cache of one store. Writers may overwrite each other's entries; that costs one more reading."""

    def __init__(self, path: Path, *, through: Path) -> None:
        self._path = path
        self._through = through

    def load(self) -> "Known":
        """What is known now; nothing when the file is missing, torn or from another version."""
        try:
            content = _DECODER.decode(self._path.read_bytes())
        except FileNotFoundError:
            return Known(_Content())
        except (OSError, msgspec.MsgspecError) as error:
            logger.info("the cache is unreadable and starts anew", extra={"path": str(self._path), "why": str(error)})
            return Known(_Content())
        return Known(content if content.version == CACHE_VERSION else _Content())

    def save(self, known: "Known") -> None:
        """Write what is known.

        Raises:
            OSError: The store cannot be written.
        """
        write_file(self._path, known.encoded(), through=self._through, mode=0o644, sync=False)


class Known:
    """The entries in memory."""

    def __init__(self, content: _Content) -> None:
        self._content = content

    def digest(self, key: StatKey) -> Digest | None:
        """The sha256 of the file with that status, when it was seen."""
        return self._content.files.get(_text(key))

    def layer(self, recipe: Digest) -> KnownLayer | None:
        """The layer that was made from that recipe (`recipe_of`)."""
        return self._content.layers.get(recipe)

    def remember_file(self, key: StatKey, digest: Digest, *, read_ns: int) -> None:
        """Remember a file, unless it changed too shortly before it was read.

        Args:
            key: Its status before it was read.
            digest: What was read.
            read_ns: The wall clock when reading began, nanoseconds. A clock that runs ahead of the file system's
                weakens the guard to the width of one tick.
        """
        # ctime is the judge: every write sets it, and no program can set it back.
        blur_ns = _TICK_NS if key.ctime_ns % 1_000_000 else _COARSE_NS
        if key.ctime_ns + blur_ns < read_ns:
            _put(self._content.files, _text(key), digest)

    def remember_layer(self, recipe: Digest, layer: KnownLayer) -> None:
        """Remember a layer."""
        _put(self._content.layers, recipe, layer)

    def encoded(self) -> bytes:
        """As JSON, the newest entries only."""
        return msgspec.json.encode(_Content(files=_newest(self._content.files), layers=_newest(self._content.layers)))


def recipe_of(entries: Sequence[LayerEntry]) -> Digest:
    """The digest of all that determines a layer's bytes: the format's revision, names, modes, sizes, contents."""
    listing = [[entry.path, entry.mode, entry.size, entry.sha256] for entry in entries]
    return digest_bytes(msgspec.json.encode([TAR_REVISION, listing]))


def _text(key: StatKey) -> str:
    return f"{key.device}:{key.inode}:{key.size}:{key.mtime_ns}:{key.ctime_ns}"


def blob_key(path: Path) -> str:
    """The status of a blob, as it is kept in `KnownLayer`.

    Raises:
        OSError: There is no such blob.
    """
    return _text(StatKey.of(path.stat()))


def _put(entries: dict[str, V], key: str, value: V) -> None:
    entries.pop(key, None)  # a dict keeps the place of its first insertion; the newest belong last
    entries[key] = value


def _newest(entries: dict[str, V]) -> dict[str, V]:
    return dict(list(entries.items())[-MAX_ENTRIES:])
