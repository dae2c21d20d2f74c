"""Reads how much processor time and memory the cgroup of this process allows, version 1 and 2.

It changes no limit. The invariant: a limit that cannot be read is no limit. A cgroup is bound by its ancestors' limits
too, so the least one on the way up counts; in a container the ancestors beyond its own mount cannot be seen, and the
limit stands at the mount itself.
Sources: Linux, admin-guide/cgroup-v2 (`cpu.max`, `memory.max`); scheduler/sched-bwc; cgroup-v1/memory.
"""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

__all__ = ["Limits", "read_limits"]


class Limits(msgspec.Struct, frozen=True):
    """What a cgroup allows; `inf` where it sets no limit."""

    cpus: float
    """Processors' worth of time."""
    memory_bytes: float


class _Mount(msgspec.Struct, frozen=True):
    """One mounted hierarchy: which cgroup its mount point shows, and where."""

    root: str
    point: Path
    controllers: frozenset[str]
    """Of version 1; empty for the one hierarchy of version 2."""


def read_limits(root: Path = Path("/")) -> Limits:
    """The limits of this process; blocks for a few reads of small files.

    Args:
        root: where `proc` and `sys` are.
    """
    mounts = list(_mounts(root))
    cpus = memory = math.inf
    for controllers, path in _memberships(root):
        for mount in mounts:
            if mount.controllers != controllers and not (mount.controllers & controllers):
                continue
            for folder in _upwards(mount, path):
                cpus = min(cpus, _cpus(folder))
                memory = min(memory, _memory(folder))
    return Limits(cpus, memory)


def _memberships(root: Path) -> Iterator[tuple[frozenset[str], str]]:
    """(controllers, path) of each line of `/proc/self/cgroup`: `4:memory:/a/b`, or `0::/a/b` for version 2."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        yield frozenset(filter(None, controllers.split(","))), path


def _mounts(root: Path) -> Iterator[_Mount]:
    """The cgroup hierarchies in `/proc/self/mountinfo` (proc_pid_mountinfo(5))."""
    for line in _text(root / "proc" / "self" / "mountinfo").splitlines():
        mounted, _, filesystem = line.partition(" - ")
        kind, _, rest = filesystem.partition(" ")
        if kind not in {"cgroup", "cgroup2"}:
            continue
        options = rest.rpartition(" ")[2]
        shown, point = mounted.split(" ")[3:5]
        controllers = frozenset(options.split(",")) - {"rw", "ro"} if kind == "cgroup" else frozenset[str]()
        yield _Mount(shown, root / point.lstrip("/"), controllers)


def _upwards(mount: _Mount, path: str) -> Iterator[Path]:
    """Folders of the cgroup and its ancestors, down to the mount point; only that when the cgroup is not below it."""
    try:
        below = PurePosixPath(path).relative_to(mount.root)
    except ValueError:
        below = PurePosixPath()
    folder = mount.point / below
    while folder != mount.point:
        yield folder
        folder = folder.parent
    yield mount.point


def _cpus(folder: Path) -> float:
    """Quota over period, both in microseconds: `cpu.max` holds the two, version 1 has a file for each."""
    words = _text(folder / "cpu.max").split()
    if not words:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = float(words[0]), float(words[1])
    except (ValueError, IndexError):  # "max", or no such file
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _memory(folder: Path) -> float:
    """`memory.max` or version 1's file; no limit is `max`, or a number beyond every machine."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            return float(_text(folder / name))
        except ValueError:
            continue
    return math.inf


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
