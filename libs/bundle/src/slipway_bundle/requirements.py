"""Environment locks as text: reading one, cutting out what one service needs, comparing it with what is installed.

It resolves and downloads nothing. The form is that of `uv pip compile --universal --generate-hashes`: one requirement a
block, `==`, an environment marker, hashes, and `# via` comments that say who asked for it. The invariant: a lock that
was cut out is a lock of the same form, sorted, and the same for the same needs, whatever else the source lock holds.
"""

import importlib.metadata
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from slipway_bundle.errors import LockError

__all__ = ["Difference", "Locked", "check_environment", "closure", "format_lock", "parse_lock"]

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_VIA = re.compile(r"#\s*(?:via)?\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)")


class Locked(Struct, frozen=True, kw_only=True):
    """One block of a lock."""

    name: str
    """Normalised (PEP 503)."""

    version: str
    marker: str | None
    hashes: tuple[str, ...]
    """`sha256:…`, sorted."""

    via: tuple[str, ...]
    """Who asked for it, normalised and sorted: packages of the lock, or projects."""

    @property
    def applies(self) -> bool:
        """Whether the marker holds for this interpreter and platform."""
        return self.marker is None or Marker(self.marker).evaluate()


class Difference(Struct, frozen=True, kw_only=True):
    """A package whose installed version is not the locked one."""

    name: str
    expected: str
    got: str | None
    """None = not installed."""

    def __str__(self) -> str:
        return f"{self.name}: got {self.got or 'nothing'}, expected {self.expected}"


def parse_lock(text: str, *, where: str) -> tuple[Locked, ...]:
    """The blocks of a lock, in its order.

    Raises:
        LockError: A line is neither a pinned requirement, a hash nor a comment, or a package has no hash.
    """
    blocks: list[tuple[str, list[str], list[str]]] = []
    for number, line in enumerate(text.replace("\\\n", "\n").splitlines(), start=1):
        if not line.strip():
            continue
        if not line.startswith((" ", "\t", "#")):
            blocks.append((line.strip(), [], []))
            continue
        if line.startswith("#"):
            continue
        if not blocks:
            raise LockError(f"line {number} of {where!r} belongs to no requirement: got {line.strip()!r}")
        if line.strip().startswith("#"):
            blocks[-1][2].extend(
                match["name"] for match in [_VIA.match(line.strip())] if match and match["name"] != "via"
            )
        else:
            blocks[-1][1].extend(_HASH.findall(line))
    return tuple(_block(head, hashes, via, where) for head, hashes, via in blocks)


def closure(locked: Iterable[Locked], roots: Mapping[str, frozenset[str]], *, where: str) -> tuple[Locked, ...]:
    """The blocks that `roots` need, and what those need in turn, by the `# via` comments; O(blocks).

    Args:
        locked: The blocks of the whole lock.
        roots: Normalised name of each direct dependency -> the projects that ask for it.
        where: The lock's path, for messages.

    Raises:
        LockError: A root is not in the lock.
    """
    blocks = tuple(locked)
    names = {block.name for block in blocks}
    for root in sorted(roots):
        if root not in names:
            raise LockError(
                f"dependency {root!r} of {', '.join(sorted(roots[root]))} is not in the lock {where!r}",
                hint="run `make lock`, then build again",
                dependency=root,
                path=where,
            )
    asked_by: dict[str, set[str]] = {}
    for block in blocks:
        for parent in block.via:
            asked_by.setdefault(parent, set()).add(block.name)
    needed: set[str] = set()
    waiting = set(roots)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting |= asked_by.get(name, set()) - needed
    kept = (block for block in blocks if block.name in needed)
    return tuple(
        Locked(
            name=block.name,
            version=block.version,
            marker=block.marker,
            hashes=block.hashes,
            via=tuple(sorted(needed.intersection(block.via) | roots.get(block.name, frozenset()))),
        )
        for block in sorted(kept, key=lambda block: (block.name, block.marker or "", block.version))
    )


def format_lock(blocks: Iterable[Locked]) -> str:
    """Blocks as the text of a lock; installers read it with `--require-hashes`."""
    lines: list[str] = []
    for block in blocks:
        head = f"{block.name}=={block.version}" + (f" ; {block.marker}" if block.marker else "")
        lines.append(" \\\n    ".join([head, *(f"--hash={digest}" for digest in block.hashes)]))
        lines.extend(["    # via"] + [f"    #   {name}" for name in block.via] if block.via else [])
    return "".join(f"{line}\n" for line in lines)


def check_environment(lock_text: str) -> list[Difference]:
    """Where the installed packages differ from the lock, on this platform; empty when they are the same.

    Raises:
        LockError: The text is not a lock.
    """
    differences = []
    for block in parse_lock(lock_text, where="environment-lock"):
        if not block.applies:
            continue
        try:
            installed = importlib.metadata.version(block.name)
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if installed != block.version:
            differences.append(Difference(name=block.name, expected=block.version, got=installed))
    return differences


def _block(head: str, hashes: list[str], via: list[str], where: str) -> Locked:
    requirement, pin = _pinned(head, where)
    digests = tuple(sorted({*hashes, *_HASH.findall(head)}))
    if not digests:
        raise LockError(
            f"{requirement.name!r} has no hash in {where!r}",
            hint="run `make lock`; without hashes nobody can tell what will be installed",
        )
    return Locked(
        name=canonicalize_name(requirement.name),
        version=pin,
        marker=str(requirement.marker) if requirement.marker else None,
        hashes=digests,
        via=tuple(sorted({canonicalize_name(name) for name in via})),
    )


def _pinned(head: str, where: str) -> tuple[Requirement, str]:
    reason: object = "not pinned with `==`"
    try:
        requirement = Requirement(_HASH.sub("", head).strip())
        pins = [pin.version for pin in requirement.specifier]
        exact = str(requirement.specifier) == f"=={pins[0]}" and not pins[0].endswith(".*") if pins else False
        if exact and requirement.url is None:
            return requirement, pins[0]
    except InvalidRequirement as error:
        reason = error
    raise LockError(
        f"{head!r} is not a pinned requirement in {where!r}: {reason}",
        hint="the lock has the form of `uv pip compile --universal --generate-hashes`; `make lock` writes it",
    )
