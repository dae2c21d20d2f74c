"""The errors of the lab: one root, of the shape that `slipway` tells its own errors in.

The lab imports no package of slipway and none imports it, so the shape is repeated here and read from JSON there. The
invariant: every error carries a stable `code` and an `exit_status`.

    LabError                  lab               exit 3   this machine cannot do it now
    ├── CannotRunError        lab_cannot_run    exit 3   not Linux, not root, a program is missing and cannot be built
    ├── StartError            lab_start         exit 3   a program ended, or was not ready in time
    ├── CommandError          lab_command       exit 3   a command that the lab runs failed
    ├── NotRunningError       lab_not_running   exit 3   there is no such lab
    └── RunningError          lab_running       exit 2   there is one already, or its name is taken
"""

from typing import ClassVar

import msgspec


class LabError(Exception):
    """The root of every error that the lab raises on purpose.

    Args:
        message: What happened, got, expected, where. No full stop.
        hint: What the reader can do about it, or None.
    """

    code: ClassVar[str] = "lab"
    exit_status: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, object]:
        """The error as one JSON-ready object: `code`, `message`, `exit_status`, and `hint` where there is one."""
        told: dict[str, object] = {"code": self.code, "message": self.message, "exit_status": self.exit_status}
        return told if self.hint is None else {**told, "hint": self.hint}

    def as_line(self) -> bytes:
        """`{"error": …}` on one line, for the process that started this one."""
        return msgspec.json.encode({"error": self.as_dict()}) + b"\n"

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class CannotRunError(LabError):
    """This machine cannot run a lab: not Linux, not root, or a program is missing and cannot be built here."""

    code = "lab_cannot_run"


class StartError(LabError):
    """A program of the lab ended, or was not ready in time; the message ends with the last lines of its log."""

    code = "lab_start"


class CommandError(LabError):
    """A command that the lab runs failed; the message ends with what it said."""

    code = "lab_command"


class NotRunningError(LabError):
    """There is no such lab."""

    code = "lab_not_running"


class RunningError(LabError):
    """There is such a lab already, or its name is taken by somebody else."""

    code = "lab_running"
    exit_status = 2
