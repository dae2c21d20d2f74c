"""A live run: checks, load, a look at each window, and the evidence of it.

It judges nothing itself (`judging` does) and sends no load itself: a process of its own does, because Locust patches
sockets. The invariants: the load ends as soon as the gate has decided, and with this process, whatever happens; all
windows that were read are in the evidence, those after the decision too.
"""

import importlib.util
import os
import platform
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Final

import msgspec

from slipway_bundle.errors import FileError, HostError
from slipway_signals.gate.ending import Ending
from slipway_signals.gate.evidence import Evidence, EvidenceError, LoadEnd, Subject
from slipway_signals.gate.judging import Judge
from slipway_signals.gate.load_plan import LoadPlan, encode_plan
from slipway_signals.gate.margins import Promises
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.records import Window, decode_window
from slipway_signals.gate.verdict import Check, Look

__all__ = ["LoadProcessError", "judge_windows", "run_gate"]

MODULE: Final = "slipway_loadtests"
PACKAGES: Final = ("slipway-signals", "slipway-loadtests", "slipway-serve", "locust", "numpy", "msgspec")

GRACE_S: Final = 5.0
"""After SIGTERM the load process writes a last window and ends within a second."""

START_S: Final = 60.0
"""Payloads are made and workers started before the first window."""

SAID: Final = 500
"""Characters of its last words that are kept."""

Announce = Callable[[Look], None]


class LoadProcessError(HostError):
    """The process that sends the load cannot be started, or says what nobody understands."""

    code = "load_process"


def run_gate(
    plan: GatePlan,
    promises: Promises | None,
    checks: Sequence[Check],
    *,
    subject: Subject | None = None,
    announce: Announce = lambda _: None,
    command: Sequence[str] = (sys.executable, "-m", MODULE),
    ending: Ending | None = None,
) -> Evidence:
    """Send the plan's load, judge every window, stop when it is decided. Blocks for the length of the plan at most.

    Args:
        plan: With its load.
        promises: What `slo.yaml` says.
        checks: What was asked before: one that fails the candidate means no load is sent.
        subject: Which step of which rollout this is about.
        announce: Called after each look.
        command: What sends the load; `compare --plan - --windows -` is added, and its stdin is the plan.
        ending: Ends the run early, from a signal's handler too. What it ends before it was decided is inconclusive.

    Raises:
        LoadProcessError: It cannot be started, or writes something else than windows.
    """
    started = _now()
    judge = Judge(plan, promises, checks)
    windows: list[Window] = []
    end = LoadEnd(status=None, was_stopped=False)
    ending = ending or Ending()
    if plan.load is not None and not judge.is_decided and not ending.is_asked:
        _require(command)
        with _Load(plan.load, command) as load:
            ending.attach(load.stop)
            for window in load.windows():
                windows.append(window)
                look = judge.add(window)
                if look is not None:
                    announce(look)
                if judge.is_decided:
                    load.stop()
            end = load.end()
    if ending.is_asked and not judge.is_decided:
        end = ending.load_end
    return _evidence(plan, promises, checks, judge, windows, end, subject, started)


def judge_windows(
    plan: GatePlan,
    promises: Promises | None,
    path: Path,
    *,
    checks: Sequence[Check] = (),
    subject: Subject | None = None,
    announce: Announce = lambda _: None,
) -> Evidence:
    """Judge windows that were counted before: a splitter's, a recorded run's.

    Args:
        plan: `source` says what the windows are.
        promises: What `slo.yaml` says.
        path: One window a line.
        checks: What was asked before.
        subject: Which step of which rollout this is about.
        announce: Called after each look.

    Raises:
        FileError: The file cannot be read.
        EvidenceError: A line is no window; the message names it.
    """
    started = _now()
    judge = Judge(plan, promises, checks)
    windows = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    for number, line in enumerate(lines, start=1):
        try:
            window = decode_window(line)
        except msgspec.MsgspecError as error:
            raise EvidenceError(f"line {number} of {str(path)!r} is no window: {error}", line=number) from error
        windows.append(window)
        look = judge.add(window)
        if look is not None:
            announce(look)
    end = LoadEnd(status=None, was_stopped=False)
    return _evidence(plan, promises, checks, judge, windows, end, subject, started)


class _Load:
    """The load process, from its start to its end; a context manager."""

    def __init__(self, plan: LoadPlan, command: Sequence[str]) -> None:
        self._command = command
        self._plan = plan
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=10_000)
        self._deadline = time.monotonic() + START_S + plan.seconds + plan.timeout_s
        self._was_stopped = False

    def __enter__(self) -> "_Load":
        self._errors = tempfile.TemporaryFile()
        words = [*self._command, "compare", "--plan", "-", "--windows", "-"]
        try:
            with tempfile.TemporaryFile() as told:  # without a name, as the other: a gate that is killed leaves nothing
                told.write(encode_plan(self._plan))
                told.seek(0)
                self._process = subprocess.Popen(
                    words, stdin=told, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
                )
        except OSError as error:
            self._errors.close()
            raise LoadProcessError(f"the load process cannot be started: {error}") from error
        self._reader = threading.Thread(target=self._read, name="slipway-gate-windows", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._reader.join(GRACE_S)
        self._errors.close()

    def windows(self) -> Iterator[Window]:
        """Each window as it comes, until the process closes its output."""
        while True:
            left_s = max(0.0, self._deadline - time.monotonic())
            try:
                line = self._lines.get(timeout=min(left_s, GRACE_S))  # a signal may bring the deadline nearer
            except queue.Empty:
                if left_s > GRACE_S:
                    continue
                self._kill()
                return
            if line is None:
                return
            try:
                yield decode_window(line)
            except msgspec.MsgspecError as error:
                raise LoadProcessError(
                    f"the load process wrote what is no window: {error}", got=repr(line[:80])
                ) from error

    def stop(self) -> None:
        """Ask it to end; it writes a last window. Whoever does not listen is killed."""
        if not self._was_stopped:
            self._was_stopped = True
            self._deadline = time.monotonic() + GRACE_S
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def end(self) -> LoadEnd:
        """How it ended; waits for it."""
        try:
            status = self._process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            self._kill()
            status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        failed = not self._was_stopped and status != 0
        return LoadEnd(status=status, was_stopped=self._was_stopped, said=said[-SAID:] if failed else "")

    def _read(self) -> None:
        output: IO[bytes] | None = self._process.stdout
        if output is not None:
            with output, suppress(ValueError, OSError, queue.Full):
                for line in output:
                    self._lines.put(line, timeout=START_S)
        self._lines.put(None)

    def _kill(self) -> None:
        """All of its workers: they are in a session of their own."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _require(command: Sequence[str]) -> None:
    if MODULE in command and importlib.util.find_spec(MODULE) is None:
        raise LoadProcessError(
            f"the package {MODULE!r} is not installed, and it sends the load",
            hint="install `slipway-loadtests` beside slipway: it brings Locust",
        )


def _evidence(
    plan: GatePlan,
    promises: Promises | None,
    checks: Sequence[Check],
    judge: Judge,
    windows: Sequence[Window],
    end: LoadEnd,
    subject: Subject | None,
    started: str,
) -> Evidence:
    decision = judge.decision(has_load_failed=end.has_failed, said=end.said)
    return Evidence(
        subject=subject,
        started=started,
        finished=_now(),
        versions=_versions(),
        plan=plan,
        promises=promises,
        checks=tuple(checks),
        criteria=judge.criteria,
        looks=tuple(judge.looks),
        decision=decision,
        load=end,
        windows=tuple(windows),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
