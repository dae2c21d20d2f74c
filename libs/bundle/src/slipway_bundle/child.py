"""Child processes: a clean interpreter that may import user code, so that the builder never does.

It knows nothing of services. The invariants: a child answers with one JSON document on the stdout it was started with,
whatever its code prints; it never outlives its parent's wait (timeout and Ctrl-C end it and its own children).
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from slipway_bundle.errors import ChildStartError, HostError, SlipwayError, UsageError

__all__ = ["ChildFailedError", "ChildHostError", "answer", "last_lines", "run_child"]

SHOWN_LINES = 12
"""Lines of a failed child's stderr that go into the message: enough for the end of a traceback."""


OWN_FILES = frozenset({str(Path(__file__).with_name("entry.py")), str(Path(__file__).with_name("describe.py"))})
"""Whose frames say nothing to the author of a service."""


class ChildFailedError(UsageError):
    """The code that ran in the child failed; `lines` is the end of what it wrote to stderr."""

    code = "child_failed"

    def __init__(self, message: str, *, lines: str, hint: str | None = None, child_code: str | None = None) -> None:
        super().__init__(message, hint=hint, lines=lines, child_code=child_code)
        self.lines = lines


class ChildHostError(HostError):
    """The child found that this machine cannot do it, for example without the library of a format."""

    code = "child_host"


def run_child(verb: str, arguments: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> bytes:
    """Runs `python -m slipway_bundle verb arguments…` and gives what it answered; blocks up to `timeout_s`.

    Raises:
        ChildFailedError: It failed, said nothing, or did not end in time.
        ChildHostError: It ended with a HostError of its own.
        ChildStartError: It could not be started.
    """
    # -P: the current folder is not importable; utf8: text does not depend on the locale; B: no __pycache__ in sources.
    command = [sys.executable, "-P", "-B", "-X", "utf8", "-m", "slipway_bundle", verb, *arguments]
    # A fixed hash seed, so that what a service says about itself does not depend on the order of a set.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise ChildStartError(f"a child process cannot be started: {error}, command {command!r}") from error
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as expired:
        _kill(process)
        _, stderr = process.communicate()
        raise ChildFailedError(
            f"the child process did not end within {timeout_s:g} s", lines=last_lines(stderr)
        ) from expired
    except BaseException:
        _kill(process)
        process.communicate()
        raise
    if process.returncode != 0:
        raise _failure(process.returncode, stdout, stderr)
    return stdout


def answer(work: Callable[[], bytes]) -> NoReturn:
    """The child's side: runs `work` with stdout pointing to stderr, writes what it returns to the real stdout, ends.

    The exit status is 0, or 1 after an error; a SlipwayError goes to the parent as JSON, its cause to stderr.
    """
    # User code prints what it likes, also from C; only we hold the descriptor that the parent reads.
    real = os.dup(1)
    os.dup2(2, 1)
    status = 0
    with os.fdopen(real, "wb") as out:
        try:
            out.write(work())
        except SlipwayError as error:
            _print_cause(error)
            out.write(json.dumps(error.as_dict()).encode())
            status = 1
        except Exception:  # noqa: BLE001 - the top of a process; the parent shows the end of this
            traceback.print_exc()
            status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that user code started, and did not mark as daemons, must not keep the answer waiting.
    os._exit(status)


def _print_cause(error: SlipwayError) -> None:
    """The traceback of what user code raised, from its own first line on."""
    cause = error.__cause__
    if cause is None:
        return
    frames = cause.__traceback__
    while frames is not None and ("importlib" in (name := frames.tb_frame.f_code.co_filename) or name in OWN_FILES):
        frames = frames.tb_next
    traceback.print_exception(type(cause), cause, frames)


def last_lines(stderr: bytes, count: int = SHOWN_LINES) -> str:
    """The end of what a child wrote to stderr."""
    return "\n".join(stderr.decode("utf-8", "replace").strip().splitlines()[-count:])


def _failure(status: int, stdout: bytes, stderr: bytes) -> SlipwayError:
    lines = last_lines(stderr)
    try:
        told = json.loads(stdout)
        if told["exit_status"] == HostError.exit_status:
            return ChildHostError(told["message"], hint=told.get("hint"), child_code=told["code"])
        return ChildFailedError(told["message"], hint=told.get("hint"), lines=lines, child_code=told["code"])
    except (ValueError, KeyError, TypeError):
        reason = f"died from {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return ChildFailedError(f"the child process {reason}", lines=lines)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
