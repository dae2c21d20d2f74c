"""How the demo speaks, and how a step of it fails: lines on stdout, one live line on a terminal. Standard library only.

The invariant: without a terminal there is no escape and no carriage return in what is written.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parent.parent
SLIPWAY: Final = (sys.executable, "-P", "-m", "slipway_cli")
STEPS: Final = 8
STEP_TIMEOUT_S: Final = 300.0
SHOWN_LINES: Final = 6
"""Of a failed step's last words."""


class StepFailedError(Exception):
    """A step did not do what it is for; `command` shows more."""

    def __init__(self, what: str, said: str, command: Sequence[str]) -> None:
        super().__init__(what)
        self.what = what
        self.said = said
        self.command = command


class Teller:
    """Lines on stdout: with a live line on a terminal, plain without."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._is_live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._told = 0.0
        self._begun = time.monotonic()

    def finish(self, number: int, name: str, what: str) -> None:
        """The line of a step that is done, with the seconds since the step before it."""
        seconds = time.monotonic() - self._begun
        self.line(step_line(number, name, what, seconds))
        self._begun = time.monotonic()

    def live(self, text: str) -> None:
        """Replace the current line, at most ten times a second; nothing without a terminal."""
        now = time.monotonic()
        if self._is_live and now - self._told >= 0.1:
            self._told = now
            self._out.write(f"\r\033[K{text}")
            self._out.flush()

    def line(self, text: str = "") -> None:
        """A line that stays."""
        self._out.write(f"\r\033[K{text}\n" if self._is_live else f"{text}\n")
        self._out.flush()

    def heading(self, text: str) -> None:
        """A line that begins a part."""
        is_plain = not self._is_live or os.environ.get("NO_COLOR")
        self.line()
        self.line(text if is_plain else f"\033[1m{text}\033[0m")


def run_step(name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> str:
    """Runs one command to its end and gives what it wrote to stdout; `more` is added to its environment.

    Raises:
        StepFailedError: It failed, or did not end in time.
    """
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **(more or {})},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=STEP_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as expired:
        raise StepFailedError(f"{name} did not end within {STEP_TIMEOUT_S:.0f} s", "", command) from expired
    if done.returncode != 0:
        said = last_lines(done.stderr or done.stdout)
        raise StepFailedError(f"{name} failed with exit status {done.returncode}", said, command)
    return done.stdout


def last_lines(text: str, count: int = SHOWN_LINES) -> str:
    """The end of a text."""
    return "\n".join(text.strip().splitlines()[-count:])


def shown(command: Sequence[str]) -> str:
    """A command as one would type it in the repository's root."""
    python = os.path.relpath(sys.executable, ROOT)
    words = list(command)
    if tuple(words[: len(SLIPWAY)]) == SLIPWAY:
        return shlex.join([str(Path(python).with_name("slipway")), *words[len(SLIPWAY) :]])
    return shlex.join([python if word == sys.executable else word for word in words])


def step_line(number: int, name: str, what: str, seconds: float | None = None) -> str:
    """The line of a step, with the time that it took when it is done."""
    took = "" if seconds is None else f"{seconds:.1f} s"
    return f"  {number}/{STEPS}  {name:<8} {took:>6}  {what}"


def columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Two columns as lines."""
    width = max(len(first) for first, _ in rows)
    return [f"{first:<{width}}   {second}" for first, second in rows]
