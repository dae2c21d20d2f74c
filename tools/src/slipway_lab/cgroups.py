"""The control groups of a lab: every process that it starts, and every container, is below one name.

That is how `down` finds them after everything that knew them was killed: membership is inherited, and nothing leaves.
The invariant: only groups called like the lab are made, emptied and removed. Both layouts are known: one hierarchy a
controller (version 1, also hybrid), and the unified one (version 2, not executed in CI).
Source: https://docs.kernel.org/admin-guide/cgroup-v1/, https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from slipway_lab.errors import LabError

ROOT: Final = Path("/sys/fs/cgroup")
SYSTEM: Final = "system"
"""The group of the lab's own processes, beside the kubelet's `kubepods`."""
WANTED: Final = ("cpuset", "cpu", "io", "memory", "pids")
"""Controllers that the kubelet needs below ours (version 2)."""
EMPTY_S: Final = 20.0


def create(name: str, root: Path = ROOT) -> None:
    """Make the group in every hierarchy. Raises OSError."""
    for hierarchy in _hierarchies(root):
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1: a new set is empty and admits nobody
            if _is_unified(root) or not (hierarchy / setting).exists():
                continue
            (group / setting).write_text((hierarchy / setting).read_text())
        if _is_unified(root):
            _delegate(hierarchy)
            _delegate(group)
    (_tracked(root) / name / SYSTEM).mkdir(exist_ok=True)


def members_file(name: str, root: Path = ROOT) -> Path:
    """Whoever writes its process id into it becomes one of the lab's own processes."""
    return _tracked(root) / name / SYSTEM / "cgroup.procs"


def exists(name: str, root: Path = ROOT) -> bool:
    """Whether any hierarchy has the group."""
    return any((hierarchy / name).is_dir() for hierarchy in _hierarchies(root))


def processes(name: str, below: str = "", root: Path = ROOT) -> frozenset[int]:
    """Ids of the processes in the group and all below it; `below` narrows: `system`, `kubepods`."""
    found: set[int] = set()
    for group in _groups(_tracked(root) / name / below):
        with suppress(OSError):  # it went away meanwhile
            found.update(int(line) for line in (group / "cgroup.procs").read_text().split())
    return frozenset(found)


def remove(name: str, root: Path = ROOT) -> int:
    """Kill every process in the group and remove it. How many were killed; blocks up to `EMPTY_S`.

    Raises:
        LabError: Processes did not go away.
    """
    ends, news = time.monotonic() + EMPTY_S, threading.Event()
    killed: set[int] = set()
    while alive := processes(name, root=root):
        if time.monotonic() > ends:
            raise LabError(f"processes of the lab cannot be killed: {', '.join(map(str, sorted(alive)))}")
        _thaw(name, root)
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= alive
        news.wait(0.02)
    for hierarchy in _hierarchies(root):
        for group in reversed(list(_groups(hierarchy / name))):
            _remove_group(group, ends)
    return len(killed)


def _remove_group(group: Path, ends: float) -> None:
    """The kernel says busy for a moment after the last process went."""
    news = threading.Event()
    while group.is_dir():
        try:
            group.rmdir()
        except OSError as error:
            if time.monotonic() > ends:
                raise LabError(f"the control group {str(group)!r} cannot be removed: {error.strerror}") from error
            news.wait(0.02)


def _thaw(name: str, root: Path) -> None:
    """A frozen process is not killed until it thaws; runc freezes containers while it changes them."""
    for group in _groups(root / "freezer" / name):
        with suppress(OSError):
            (group / "freezer.state").write_text("THAWED")


def _groups(top: Path) -> Iterator[Path]:
    """The group and all below it, outer ones first."""
    for folder, _, _ in os.walk(top):
        yield Path(folder)


def _hierarchies(root: Path) -> tuple[Path, ...]:
    if _is_unified(root):
        return (root,)
    try:
        below = sorted(root.iterdir())
    except OSError:
        return ()
    return tuple(path for path in below if (path / "cgroup.procs").exists())


def _tracked(root: Path) -> Path:
    """The hierarchy that tells who belongs to the lab."""
    return root if _is_unified(root) else root / "pids"


def _is_unified(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _delegate(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in WANTED if name in available))
