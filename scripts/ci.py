"""`make ci`: `make test`, then as much of `make e2e` as there is time for, with one count of everything.

    .venv/bin/python scripts/ci.py --began "$(date +%s)"

It tests nothing itself: each part is a make target in a process group of its own, with its output as it comes, and
scripts/ci_report.py counts. The invariants: everything has ended 80 minutes after the beginning; a part that does not
end in its share of them is ended, and has failed; what was not run stands in the count, as skipped, and is named.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ci_report import OUT_OF_TIME, Report, number_collected

from slipway_lab import build
from slipway_lab.errors import CannotRunError, LabError
from slipway_lab.programs import PROGRAMS
from slipway_lab.workshop import Workshop, find_workshop

ROOT: Final = Path(__file__).resolve().parent.parent
END_S: Final = 80 * 60.0
"""CI has 90 minutes."""
CLOSING_S: Final = 4 * 60.0
"""Of these, kept for ending a part that hangs and for counting what was not run."""
GRACE_S: Final = ((signal.SIGINT, 60.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))
"""How a part is told to end, and how long it is waited for. pytest ends what its tests started on the first."""
COLLECTING_S: Final = 120.0
FREE_BYTES: Final = 25e9
"""What a build of the lab's programs takes, with some room: Go's caches have 19 GB of it (docs/lab.md)."""
LAB_TESTS: Final = "tests/lab"


@dataclass(frozen=True)
class Part:
    """A command, and the time it takes."""

    name: str
    command: tuple[str, ...]
    needs_s: float
    """It is not begun with less: what it takes on 2 cores, and some more."""
    limit_s: float
    """It is ended after that."""


MAKE: Final = ("make", "--no-print-directory")
E2E_WITHOUT_BUILD: Final = (*MAKE, "e2e", "LAB_BUILD=true")
TEST: Final = Part("make test", (*MAKE, "test"), needs_s=0.0, limit_s=40 * 60.0)
E2E: Final = Part(
    f"make e2e without {LAB_TESTS}",
    (*E2E_WITHOUT_BUILD, f"ARGS=--ignore={LAB_TESTS}"),
    needs_s=22 * 60.0,
    limit_s=END_S,
)
LAB: Final = Part(
    f"make e2e of {LAB_TESTS}", (*E2E_WITHOUT_BUILD, f"ARGS={LAB_TESTS}"), needs_s=30 * 60.0, limit_s=40 * 60.0
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    """Its exit status; `OUT_OF_TIME` when it was ended."""
    output: str


class OutOfTimeError(Exception):
    """What the block did is not done in its time."""


def main(arguments: Sequence[str]) -> int:
    """Run what fits, say what did not; the exit status."""
    parser = argparse.ArgumentParser(prog="ci.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--began", type=float, default=time.time(), metavar="SECONDS", help="when CI began, since 1970")
    spent_s = time.time() - parser.parse_args(arguments).began
    for number in (signal.SIGINT, signal.SIGTERM):  # also as a job in the background, where nobody would see SIGINT
        signal.signal(number, signal.default_int_handler)
    zero = time.monotonic() - spent_s
    report = Report()
    try:
        run_parts(report, lambda: END_S - CLOSING_S - (time.monotonic() - zero))
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    for line in report.lines(time.monotonic() - zero):
        say(line, prefix="")
    return report.status


def run_parts(report: Report, left_s: Callable[[], float]) -> None:
    """All parts, each with its share of the time that is left, into the report."""
    if not perform(TEST, share_s(TEST, left_s()), report):
        report.note("make e2e was not begun, because make test failed")
        return
    report.deselect(_collected(report, "soak or gameday"))
    if limit_s := share_s(E2E, left_s()):
        perform(E2E, limit_s, report)
    else:
        report.leave_out(E2E.name, _collected(report, "e2e", f"--ignore={LAB_TESTS}"), _too_little(E2E, left_s()))
    if (why := why_no_lab(report, left_s)) is None:
        perform(LAB, min(LAB.limit_s, left_s()), report)
    else:
        report.leave_out(LAB.name, _collected(report, "e2e", LAB_TESTS), why)


def share_s(part: Part, left_s: float, *, kept_s: float = 0.0) -> float:
    """Seconds that a part may take of those that are left, when `kept_s` are another's; 0: it does not fit."""
    room_s = left_s - kept_s
    return min(part.limit_s, room_s) if room_s >= part.needs_s and room_s > 0 else 0.0


def why_no_lab(report: Report, left_s: Callable[[], float]) -> str | None:
    """Why its tests cannot be run; None: they can. Builds what they need, in the time that they do not need."""
    try:
        workshop = find_workshop()
        if share_s(LAB, left_s()) and (lacking := build.missing(workshop)):
            return why_not_built(report, workshop, lacking, left_s() - LAB.needs_s)
    except CannotRunError as error:
        return str(error.message)
    return None if share_s(LAB, left_s()) else _too_little(LAB, left_s())


def why_not_built(report: Report, workshop: Workshop, lacking: Sequence[str], limit_s: float) -> str | None:
    """Why the lab's programs are not all there; None: they are now.

    Raises:
        CannotRunError: This machine cannot build them.
    """
    cache = next(path for path in (workshop.cache, *workshop.cache.parents) if path.exists())
    if (free := shutil.disk_usage(cache).free) < FREE_BYTES:
        room = f"{free / 1e9:.0f} GB are free in {cache}, expected {FREE_BYTES / 1e9:.0f}"
        return f"{len(lacking)} of its programs are to be built, and {room}"
    try:
        with at_most(limit_s):
            build.build_all(PROGRAMS, say, workshop=workshop)
    except OutOfTimeError:
        built = len(lacking) - len(build.missing(workshop))
        done = f"{built} of {len(lacking)} programs were built in {limit_s / 60:.0f} min"
        return f"{done}; the next build goes on from there"
    except CannotRunError:
        raise
    except LabError as error:
        say(str(error))
        report.fail("the build of the lab's programs", error.exit_status)
        return "its programs could not be built"
    return None


@contextmanager
def at_most(limit_s: float) -> Iterator[None]:
    """Ends the block after so long; what it started is ended as on Ctrl-C. In the main thread only.

    Raises:
        OutOfTimeError: It was ended.
    """

    def end(_number: int, _frame: object) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(limit_s, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def perform(part: Part, limit_s: float, report: Report) -> bool:
    """Run a part, count its tests, say when it did not end; whether all is well."""
    say(f"{part.name}, {limit_s / 60:.0f} min at most")
    ended = run(part.command, limit_s, sys.stdout.buffer)
    report.add(part.name, ended.output, ended.status, limit_s)
    return ended.status == 0


def run(command: Sequence[str], limit_s: float, out: IO[bytes] | None) -> Ended:
    """A command to its end, or to its limit: then it and its children are ended. What it says goes on to `out`."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    said: list[bytes] = []
    reader = threading.Thread(target=_pass_on, args=(process.stdout, out, said), daemon=True)
    reader.start()
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        status = OUT_OF_TIME
    finally:
        _end(process)
    reader.join(5)  # what a child of a child holds open is not waited for
    return Ended(status, b"".join(said).decode(errors="replace"))


def _pass_on(source: IO[bytes], out: IO[bytes] | None, said: list[bytes]) -> None:
    with source:
        for line in source:
            said.append(line)
            if out is not None:
                out.write(line)
                out.flush()


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number, grace_s in GRACE_S:
        if process.poll() is None:
            os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # who did not end with its parent


def _collected(report: Report, expression: str, *places: str) -> int:
    """How many tests of that kind there are."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", expression, *places]
    ended = run(command, COLLECTING_S, None)
    number = number_collected(ended.output)
    if number is None:
        say(ended.output)
        report.fail(f"collecting {expression}", ended.status or 1)
    return number or 0


def _too_little(part: Part, left_s: float) -> str:
    return f"{max(left_s, 0) / 60:.0f} min are left, it needs {part.needs_s / 60:.0f}"


def say(text: str, *, prefix: str = "ci: ") -> None:
    """A line, in its place among those of the parts."""
    print(f"{prefix}{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
