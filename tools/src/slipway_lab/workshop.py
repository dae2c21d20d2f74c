"""Where the lab's programs and schemas are made and kept: the Go of this machine, the sources, the cache.

It builds nothing (build.py, schemas.py). The invariants: what is in the cache is whole, because a folder is made beside
its place and renamed there when it is done; one process makes something at a time; what is stopped leaves nothing.

    CACHE/programs/NAME-KEY/NAME   a program; KEY is a hash of go.mod, go.sum, source, flags and the version of Go
    CACHE/schemas/KEY/             what `slipway_lab schemas` made
    CACHE/go-build/                Go's build cache: several GB, only there to build faster
    CACHE/lock                     held while something is made
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from slipway_lab.errors import CannotRunError

__all__ = ["CACHE_VARIABLE", "GO_VARIABLE", "Say", "Workshop", "find_workshop", "locked", "say_nothing", "staging"]

Say = Callable[[str], None]
"""Told one line of progress."""

CACHE_VARIABLE: Final = "SLIPWAY_LAB_CACHE"
GO_VARIABLE: Final = "SLIPWAY_LAB_GO"
USUAL_GO: Final = Path("/usr/local/go/bin/go")
"""Where Go's archive goes when it is unpacked as its installation page says, which puts it on no PATH."""


class Workshop(msgspec.Struct, frozen=True, kw_only=True):
    """Where programs are built and kept."""

    go: Path
    go_version: str
    """as Go says it, with the system it builds for: `go1.26.8 linux amd64`."""
    tools: Path
    """the folder of the Go modules."""
    cache: Path

    @property
    def programs(self) -> Path:
        """The folder of the finished programs."""
        return self.cache / "programs"

    @property
    def schemas(self) -> Path:
        """The folder of the finished schemas."""
        return self.cache / "schemas"

    @property
    def build_cache(self) -> Path:
        """Go's build cache: its own, so that it can be removed without harm to other work."""
        return self.cache / "go-build"

    @property
    def go_release(self) -> tuple[int, int] | None:
        """Of Go: (1, 26); None for one that was built from its development branch."""
        found = re.match(r"go(\d+)\.(\d+)", self.go_version)
        return None if found is None else (int(found[1]), int(found[2]))

    def environment(self) -> dict[str, str]:
        """Of every `go` that the lab starts: static programs, committed sums, this Go and no other."""
        return {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOCACHE": str(self.build_cache),
            "GOFLAGS": "-mod=readonly",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }


def find_workshop(environ: Mapping[str, str] = os.environ) -> Workshop:
    """The Go, the sources and the cache of this machine.

    Args:
        environ: `SLIPWAY_LAB_GO` names the Go (default: the one on the PATH, then `/usr/local/go/bin/go`);
            `SLIPWAY_LAB_CACHE` the cache (default: `$XDG_CACHE_HOME/slipway/lab`, then `~/.cache/slipway/lab`).

    Raises:
        CannotRunError: there is no Go, or it does not start; or this is not a checkout of the repository.
    """
    tools = Path(__file__).parents[2]
    if not (tools / "kubernetes" / "go.mod").is_file():
        raise CannotRunError(
            f"the lab's Go modules are not there: expected {tools / 'kubernetes' / 'go.mod'}",
            hint="run it from a checkout of the repository: they are not part of the installed package",
        )
    go = _find_go(environ)
    home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(environ.get(CACHE_VARIABLE) or home / "slipway" / "lab").absolute()
    return Workshop(go=go, go_version=_version_of(go), tools=tools, cache=cache)


def say_nothing(_: str) -> None:
    """For a caller that shows no progress."""


@contextmanager
def locked(workshop: Workshop, say: Say) -> Iterator[None]:
    """While this process makes something; the kernel lets go when the process ends, however it ends.

    Raises:
        CannotRunError: the cache cannot be written.
    """
    try:
        for folder in (workshop.programs, workshop.schemas):
            folder.mkdir(parents=True, exist_ok=True)
        file = (workshop.cache / "lock").open("w")
    except OSError as error:
        raise CannotRunError(
            f"the lab's cache cannot be written: {error}", hint=f"set {CACHE_VARIABLE} to a folder of yours"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waits: another process builds")
            fcntl.flock(file, fcntl.LOCK_EX)  # ends: a program has an hour to be built, and a dead holder holds nothing
        yield


@contextmanager
def staging(place: Path) -> Iterator[Path]:
    """An empty folder that becomes `place` when the block ends well, and is removed when it does not.

    Call it while the workshop is `locked`: leftovers of processes that were killed are removed first.
    """
    for leftover in place.parent.glob(".*"):
        shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
    try:
        folder.chmod(0o755)
        yield folder
        folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_go(environ: Mapping[str, str]) -> Path:
    if named := environ.get(GO_VARIABLE):
        return Path(named)
    found = shutil.which("go", path=environ.get("PATH")) or (str(USUAL_GO) if USUAL_GO.is_file() else None)
    if found is None:
        raise CannotRunError(
            f"no Go on the PATH, and none at {USUAL_GO}: the lab's programs are built from source",
            hint=f"install Go 1.26 or newer, or name it by {GO_VARIABLE}",
        )
    return Path(found)


def _version_of(go: Path) -> str:
    command = [str(go), "env", "GOVERSION", "GOOS", "GOARCH"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotRunError(f"`{go} env` does not work: {error}", hint=f"name another Go by {GO_VARIABLE}") from error
    return " ".join(done.stdout.split())
