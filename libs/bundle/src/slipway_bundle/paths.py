"""Which names a layer may hold: one rule for packing and for unpacking.

It touches no file system. The invariant: a set of names that `NameSet` accepted unpacks to the same tree on a
case-sensitive, a case-folding and a normalising file system, inside the folder it is unpacked into.
Source: `docs/bundle-v1.md` (limits); Unicode 15, section 3.13, D145 (canonical caseless match).
"""

import re
import unicodedata

MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux."""

MAX_COMPONENT_BYTES = 255
"""NAME_MAX of every file system in use."""

WHITEOUT = b".wh."
"""OCI layers delete by such names; a bundle's layers never delete."""

_NO_NAMES = frozenset({b"", b".", b".."})
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


def name_defect(path: str) -> str | None:
    """Why `path` cannot be the name of a member, or None when it can."""
    try:
        raw = path.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    if not path:
        return "the name is empty"
    if path.startswith("/"):
        return "the name is absolute"
    if found := _FORBIDDEN.search(path):
        if found[0] == "\\":
            return "the name holds a backslash, which is a separator on Windows"
        return "the name holds a NUL or another control character"
    if len(raw) > MAX_PATH_BYTES:
        return f"the name has {len(raw)} bytes, expected at most {MAX_PATH_BYTES}"
    for part in raw.split(b"/"):
        if part in _NO_NAMES:
            return f"the name has a component {part.decode()!r}"
        if len(part) > MAX_COMPONENT_BYTES:
            return f"a component of the name has more than {MAX_COMPONENT_BYTES} bytes"
        if part.startswith(WHITEOUT):
            return f"a component of the name starts with {WHITEOUT.decode()!r}, which means deletion in an OCI layer"
    return None


def parents_of(path: str) -> tuple[str, ...]:
    """The folders above `path`, outermost first: `a/b/c` gives `a`, `a/b`."""
    parts = path.split("/")[:-1]
    return tuple("/".join(parts[: count + 1]) for count in range(len(parts)))


class NameSet:
    """The names of one tree, each accepted once; O(depth) a name."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._directories: set[str] = set()
        self._declared: set[str] = set()
        self._folded: dict[str, str] = {}

    @property
    def directories(self) -> frozenset[str]:
        """Every folder, declared or implied by a name below it."""
        return frozenset(self._directories)

    def add_file(self, path: str) -> str | None:
        """Add a file; the reason when it cannot be added, else None."""
        if defect := name_defect(path):
            return defect
        if path in self._files:
            return "the name occurs twice"
        if path in self._directories:
            return "the name is already a folder"
        if defect := self._add_parents(path) or self._fold(path):
            return defect
        self._files.add(path)
        return None

    def add_directory(self, path: str, *, may_repeat: bool = False) -> str | None:
        """Add a folder; the reason when it cannot be added, else None. Two layers may have the same folder."""
        if defect := name_defect(path):
            return defect
        if path in self._declared:
            return None if may_repeat else "the name occurs twice"
        if path in self._files:
            return "the name is already a file"
        if defect := self._add_parents(path) or self._fold(path):
            return defect
        self._declared.add(path)
        self._directories.add(path)
        return None

    def _add_parents(self, path: str) -> str | None:
        for parent in parents_of(path):
            if parent in self._directories:
                continue
            if parent in self._files:
                return f"its parent {parent!r} is a file"
            if defect := self._fold(parent):
                return defect
            self._directories.add(parent)
        return None

    def _fold(self, path: str) -> str | None:
        if path.isascii():
            key = path.lower()
        else:
            key = unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
        other = self._folded.setdefault(key, path)
        if other != path:
            return f"the name differs from {other!r} only in case or Unicode form, so some file systems merge the two"
        return None
