"""Builds the programs of the lab by Go, once each.

It starts none of them and downloads nothing itself: `go build` fetches modules as Go is set up on this machine
(`GOPROXY`), and refuses what does not match the committed `go.sum`. The invariant: what goes into a build is in the
name of its folder in the cache, so a program that is there is the right one.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from slipway_lab.errors import CannotRunError, LabError
from slipway_lab.programs import PROGRAMS, Program
from slipway_lab.workshop import (
    CACHE_VARIABLE,
    GO_VARIABLE,
    Say,
    Workshop,
    find_workshop,
    locked,
    say_nothing,
    staging,
)

__all__ = ["BuildError", "binary", "build_all", "clean", "key_of", "missing"]

FLAGS: Final = ("-trimpath", "-buildvcs=false")
ROOM_BYTES: Final = 1024**3
"""Free disk to ask for per program that is missing: docs/lab.md has what a whole build took."""
LIMIT_S: Final = 3600.0
TELL_EVERY_S: Final = 30.0
GRACE_S: Final = 5.0
TAIL_LINES: Final = 15
_NO_NETWORK: Final = re.compile(r"dial tcp|no such host|i/o timeout|TLS hand|connection re|GOPROXY=off")


class BuildError(LabError):
    """Go could not build a program; the message ends with the last lines of what it said."""

    code = "lab_build"


def key_of(program: Program, workshop: Workshop) -> str:
    """What goes into a build, as 16 hexadecimal digits: with another `go.sum`, flag or Go it is another program."""
    folder = workshop.tools / program.folder
    digest = hashlib.sha256()
    for part in (program.package, program.ldflags, *_flags(program), workshop.go_version):
        digest.update(part.encode() + b"\0")
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".mod", ".sum", ".go"}):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def binary(name: str, *, workshop: Workshop | None = None, say: Say = say_nothing) -> Path:
    """The program `name`, built if the cache has none (minutes, see docs/lab.md); its file bears that name.

    Raises:
        BuildError: Go could not build it.
        CannotRunError: no Go, a Go that is too old, no way to Go's modules, or too little room on the disk.
        LabError: there is no such program.
    """
    return build_all([name], say, workshop=workshop)[name]


def build_all(names: Iterable[str], say: Say, *, workshop: Workshop | None = None) -> dict[str, Path]:
    """Programs by name; those that the cache lacks are built, one after the other.

    Args:
        names: of `PROGRAMS`, in the order of building.
        say: told a line when a program is begun, every half minute, and when it is done.
        workshop: where; None: `find_workshop()`.

    Raises:
        BuildError, CannotRunError, LabError: as for `binary`; what was done before stays in the cache.
    """
    workshop = workshop or find_workshop()
    programs = [_program(name) for name in names]
    if not all(_place(program, workshop).is_file() for program in programs):
        with locked(workshop, say):
            _build_missing(programs, workshop, say)
    return {program.name: _place(program, workshop) for program in programs}


def missing(workshop: Workshop) -> list[str]:
    """Names of the programs that the cache lacks; none is built."""
    return [name for name, program in PROGRAMS.items() if not _place(program, workshop).is_file()]


def clean(workshop: Workshop) -> int:
    """Remove Go's build cache and the programs of other versions than the present; bytes that this freed.

    Go's module cache stays: it is the user's (`go clean -modcache`).

    Raises:
        CannotRunError: the cache cannot be written.
    """
    present = {_place(program, workshop).parent for program in PROGRAMS.values()}
    with locked(workshop, say_nothing):
        others = [path for path in workshop.programs.iterdir() if path not in present]
        doomed = [path for path in (workshop.build_cache, *others) if path.exists()]
        freed = sum(file.lstat().st_size for path in doomed for file in path.rglob("*") if not file.is_dir())
        for path in doomed:
            shutil.rmtree(path)
    return freed


def _program(name: str) -> Program:
    program = PROGRAMS.get(name)
    if program is None:
        raise LabError(f"no program {name!r}, expected one of {', '.join(PROGRAMS)}")
    return program


def _flags(program: Program) -> tuple[str, ...]:
    return (*FLAGS, f"-tags={program.tags}") if program.tags else FLAGS


def _place(program: Program, workshop: Workshop) -> Path:
    return workshop.programs / f"{program.name}-{key_of(program, workshop)}" / program.name


def _build_missing(programs: list[Program], workshop: Workshop, say: Say) -> None:
    missing = [program for program in programs if not _place(program, workshop).is_file()]
    _check_go(missing, workshop)
    _check_room(missing, workshop)
    for number, program in enumerate(missing, start=1):
        say(f"builds {program.name} ({number} of {len(missing)})")
        began = time.monotonic()
        place = _place(program, workshop)
        with staging(place.parent) as folder:
            _build(program, folder / program.name, workshop, say)
        say(f"built {program.name}: {_span(time.monotonic() - began)}, {place.stat().st_size / 1e6:.0f} MB")


def _build(program: Program, file: Path, workshop: Workshop, say: Say) -> None:
    ldflags = f"-ldflags=-s -w {program.ldflags}".rstrip()
    command = [str(workshop.go), "build", *_flags(program), ldflags, "-o", str(file), program.package]
    with tempfile.TemporaryFile() as output:
        status = _run(command, program, workshop, output, say)
        output.seek(0)
        told = output.read().decode(errors="replace")
    if status != 0:
        raise _failed(program, status, told)


def _run(command: list[str], program: Program, workshop: Workshop, output: IO[bytes], say: Say) -> int:
    """The exit status of Go. Its compilers are children of its own: the whole group ends with this function."""
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=workshop.tools / program.folder,
        env=workshop.environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        while (spent_s := time.monotonic() - began) < LIMIT_S:
            try:
                return process.wait(timeout=min(TELL_EVERY_S, LIMIT_S - spent_s))
            except subprocess.TimeoutExpired:
                say(f"builds {program.name}: {_span(time.monotonic() - began)} so far")
        raise BuildError(
            f"{program.name} was not built in {_span(LIMIT_S)}",
            hint="try again: what was compiled is kept, and the next build goes on from there",
        )
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failed(program: Program, status: int, told: str) -> LabError:
    """A machine without a way to the modules cannot build; everything else is a failed build."""
    lines = [line for line in told.splitlines() if line.strip() and not line.startswith("go: downloading")]
    tail = "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
    hint = f"the same by hand: cd tools/{program.folder} && CGO_ENABLED=0 go build -o /dev/null {program.package}"
    if "no space left on device" in told:
        hint = f"make room on the disk, or set {CACHE_VARIABLE} to a folder on another one"
    elif status == -signal.SIGKILL or "signal: killed" in told:
        hint = "killed, most likely for memory: the largest program takes 3.3 GB to compile"
    elif _NO_NETWORK.search(told):
        return CannotRunError(
            f"{program.name} could not be built: Go could not fetch a module\n{tail}",
            hint="look at the network, and at `go env GOPROXY`",
        )
    elif "server response" in told:  # it was asked: what `go.mod` names may not be there
        hint = "Go could not fetch a module: look at `go env GOPROXY`, and at the versions in go.mod"
    return BuildError(f"{program.name} could not be built: go build ended with status {status}\n{tail}", hint=hint)


def _check_go(programs: Iterable[Program], workshop: Workshop) -> None:
    """Before the build: an old Go says that it cannot read the version in go.mod, which helps nobody."""
    release = workshop.go_release
    if release is None:
        return
    for program in programs:
        text = (workshop.tools / program.folder / "go.mod").read_text()
        needed = re.search(r"^go (\d+)\.(\d+)", text, re.MULTILINE)
        if needed is not None and release < (int(needed[1]), int(needed[2])):
            raise CannotRunError(
                f"Go is too old for {program.name}: got {workshop.go_version.split()[0]} ({workshop.go}), "
                f"expected go{needed[1]}.{needed[2]} or newer",
                hint=f"install a newer Go, or name it by {GO_VARIABLE}",
            )


def _check_room(programs: list[Program], workshop: Workshop) -> None:
    free, needed = shutil.disk_usage(workshop.cache).free, ROOM_BYTES * len(programs)
    if free < needed:
        raise CannotRunError(
            f"too little room in {workshop.cache}: {free / 1e9:.1f} GB free, expected {needed / 1e9:.1f} GB "
            f"to build {len(programs)} programs",
            hint=f"make room, or set {CACHE_VARIABLE} to a folder on another disk",
        )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
