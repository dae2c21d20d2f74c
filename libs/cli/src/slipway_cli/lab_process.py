"""What the verbs of `slipway lab` share: the process that does it, and what it told.

It starts nothing of a lab itself: `python -m slipway_lab` does, in a process of its own, because the lab is a tool
beside the product and no package imports it. The invariant: on Ctrl-C and on SIGTERM that process is told once, and
waited for while it cleans up.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from slipway_cli.terminal import Terminal

if TYPE_CHECKING:
    from slipway_cli.errors import ProgramFailedError, ToldError

MODULE: Final = "slipway_lab"
ANSWERS: Final = frozenset({0, 1})
"""Exit statuses that come with what was asked for; 1: the answer is no."""
NAME = click.option("--name", default="lab", show_default=True, metavar="NAME", help="Of the lab.")


def lab_command(arguments: Sequence[str]) -> list[str]:
    """The command that does it. Raises ProgramMissingError: the lab is not installed here."""
    import importlib.util

    from slipway_cli.errors import ProgramMissingError

    if importlib.util.find_spec(MODULE) is None:
        raise ProgramMissingError(
            "slipway-lab is not installed here", hint="run it from a checkout: `sh scripts/setup.sh dev`"
        )
    return [sys.executable, "-m", MODULE, *arguments]


def run_lab(terminal: Terminal, *arguments: str) -> Any:
    """Do it, with its words on stderr as they come; what it told, decoded. Blocks until it is done.

    Raises:
        ProgramMissingError: the lab is not installed here.
        ToldError: the error that it met.
        ProgramFailedError: it ended otherwise.
    """
    words = subprocess.DEVNULL if terminal.quiet else None
    command = lab_command(("--json", *arguments))
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, process_group=0)
        try:
            told, _ = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.communicate()  # it removes what it made; a second Ctrl-C leaves it to that
            raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return _decoded(told, process.returncode)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `timeout` says it twice: to the process, and to its group
    raise KeyboardInterrupt


def _decoded(told: bytes, status: int) -> Any:
    import msgspec

    value: Any = None
    with suppress(msgspec.MsgspecError):
        value = msgspec.json.decode(told)
    if value is None or status not in ANSWERS:
        raise _error(value, status)
    return value


def _error(value: Any, status: int) -> "ToldError | ProgramFailedError":
    import msgspec

    from slipway_cli.errors import ProgramFailedError, Told, ToldError

    with suppress(msgspec.MsgspecError, KeyError, TypeError):
        return ToldError(msgspec.convert(value["error"], Told))
    return ProgramFailedError(f"the lab's process ended with status {status}", hint="what it said is above")
