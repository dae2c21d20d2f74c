"""Processes of a lab: started, waited for, found again, started again.

Each is the leader of a session of its own, a member of the lab's control group before it runs its program, and written
down (`processes/NAME.json`) with how it was started. The invariants: nothing is waited for without a deadline; a
process that ends while it is waited for is an error that ends with the last lines of its log; a process is known by its
id and the moment it started, so an id that the kernel gave away again is never mistaken for it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from slipway_lab import cgroups, network
from slipway_lab.errors import NotRunningError, StartError
from slipway_lab.state import Place

TAIL_LINES: Final = 12
STOP_S: Final = 90.0
"""The API server takes up to a minute to end."""
THRIFT: Final = {"GOGC": "25"}
"""For Go's collector: a lab holds 50 MB less than at 50, for 14 s of processor time instead of 11 until it is ready."""
JOIN: Final = 'echo $$ > "$0" && exec "$@"'
HOLDER: Final = "node-mounts"
"""The process whose mount namespace the node's processes share; `node.py` starts it."""

Programs = Mapping[str, Path]
"""Program → its file: what `build.build_all` gives."""

Within = Literal["host", "names", "node"]
"""What a process sees beside the lab's network: the host's files; the same with the lab's DNS; the node's mounts."""


class Recipe(Struct, frozen=True, kw_only=True):
    """How a process is started."""

    name: str
    command: tuple[str, ...]
    environ: dict[str, str] = {}
    """Added to the environment of whoever starts it."""

    within: Within = "host"


class Process(Struct, frozen=True, kw_only=True):
    """A process that was started, whether it still runs or not."""

    recipe: Recipe
    pid: int
    born: int
    """Clock ticks since boot: field 22 of /proc/PID/stat (proc(5)); -1: it had ended before that could be read."""


def start(place: Place, recipe: Recipe) -> Process:
    """Start it, inside the lab's network; call it inside `network.entered`.

    Raises:
        NotRunningError: It needs the node's mounts, and they are gone.
        OSError: It could not be started.
    """
    for folder in (place.logs, place.folder / "processes"):
        folder.mkdir(parents=True, exist_ok=True)
    log = place.logs / f"{recipe.name}.log"
    command = ("sh", "-c", JOIN, str(cgroups.members_file(place.cgroup)), *_command(place, recipe))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawnp(
        command[0],
        command,
        {**os.environ, **THRIFT, **recipe.environ},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGINT],  # Python ignores the one, a shell's background job the other
    )
    process = Process(recipe=recipe, pid=pid, born=_born(pid))
    _file(place, recipe.name).write_bytes(msgspec.json.encode(process))
    return process


def await_ready(place: Place, process: Process, is_ready: Callable[[], bool], timeout_s: float) -> None:
    """Ask until it is ready; `is_ready` may raise OSError for "not yet".

    Raises:
        StartError: The process ended, or was not ready in time.
    """
    ends, news = time.monotonic() + timeout_s, threading.Event()
    while True:
        with suppress(OSError):
            if is_ready():
                return
        name = process.recipe.name
        if not is_alive(process):
            raise StartError(f"{name} ended while it started; its log ends with:\n{tail(place, name)}")
        if time.monotonic() > ends:
            raise StartError(f"{name} was not ready after {timeout_s:.0f} s; its log ends with:\n{tail(place, name)}")
        news.wait(0.03)


def stop(place: Place, name: str, *, kill: bool = False) -> None:
    """End it and wait until it has ended. Blocks up to `STOP_S`.

    Raises:
        NotRunningError: No such process was started.
        StartError: It did not end.
    """
    process = find(place, name)
    ends, news = time.monotonic() + STOP_S, threading.Event()
    if is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
    while is_alive(process):
        if time.monotonic() > ends:
            raise StartError(f"{name} (process {process.pid}) did not end within {STOP_S:.0f} s")
        news.wait(0.03)


def find(place: Place, name: str) -> Process:
    """The process that was started last under this name. Raises NotRunningError: none was."""
    try:
        return msgspec.json.decode(_file(place, name).read_bytes(), type=Process)
    except (FileNotFoundError, msgspec.MsgspecError):
        known = ", ".join(sorted(found.recipe.name for found in recorded(place))) or "none"
        raise NotRunningError(
            f"lab {place.name!r} has no program {name!r}, expected one of: {known}", hint="`slipway lab status`"
        ) from None


def recorded(place: Place) -> tuple[Process, ...]:
    """Every process that was written down, in the order of starting."""
    found = []
    for path in (place.folder / "processes").glob("*.json"):
        with suppress(msgspec.MsgspecError, FileNotFoundError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Process))
    return tuple(sorted(found, key=lambda process: (process.born, process.pid)))


def is_alive(process: Process) -> bool:
    """Whether it still runs; a child of ours that ended is buried."""
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    return process.born >= 0 and _born(process.pid) == process.born


def resident_bytes(pid: int) -> int:
    """Memory that it keeps in RAM, shared pages by share; 0 when it is gone. /proc/PID/smaps_rollup."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024


def tail(place: Place, name: str, lines: int = TAIL_LINES) -> str:
    """The last lines of its log."""
    try:
        with (place.logs / f"{name}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(an empty log)"


def _command(place: Place, recipe: Recipe) -> tuple[str, ...]:
    match recipe.within:
        case "host":
            return recipe.command
        case "names":
            return network.resolving(place.resolv, recipe.command)
        case "node":
            holder = find(place, HOLDER)
            if not is_alive(holder):
                raise NotRunningError(
                    "the node's mounts are gone, so nothing can be started in them",
                    hint="`slipway lab down`, then `up`",
                )
            return ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--", *recipe.command)


def _file(place: Place, name: str) -> Path:
    return place.folder / "processes" / f"{name}.json"


def _born(pid: int) -> int:
    """The tick at which it started; -1 when it is gone, or a corpse.

    One whose first thread has ended and others have not has its sockets still: its successor could not listen.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    is_over = fields[0] == "X" or (fields[0] == "Z" and int(fields[17]) <= 1)  # proc(5): (3) state, (20) num_threads
    return -1 if is_over else int(fields[19])


def _kilobytes(path: Path, field: str) -> int:
    with suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def environment(*folders: Path) -> Mapping[str, str]:
    """A PATH that begins with these folders."""
    return {"PATH": os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])}
