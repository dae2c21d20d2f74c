"""The last line of defence: every way in which a command can end, as words and an exit status.

It runs one command and knows no verb. The invariant: nothing that a user can cause shows a traceback, and a bug of ours
is never mistaken for an answer.

    0 done · 1 the answer is no · 2 wrong usage · 3 this machine or the network · 70 a bug in slipway
    130 interrupted · 141 whoever read our output left (nothing is said)
"""

import errno
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Final

import click

from slipway_cli.terminal import Terminal

OK: Final = 0
USAGE: Final = 2
HOST: Final = 3
BUG: Final = 70
INTERRUPTED: Final = 130
READER_GONE: Final = 141

HOST_ERRNOS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.EIO}
"""Errors of the operating system that are nobody's bug: disk, permission, limits."""


def guarded(command: Callable[[], object], terminal: Terminal, arguments: Sequence[str]) -> int:
    """Runs `command`, shows how it ended, and gives the exit status: the int it returned, or 0."""
    try:
        status = command()
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return READER_GONE
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        terminal.fail(_usage(error))
        return USAGE
    except Exception as error:  # noqa: BLE001 - the last line of defence; `_bug` keeps the traceback
        return _failed(error, terminal, arguments)
    return status if isinstance(status, int) else OK


def _failed(error: Exception, terminal: Terminal, arguments: Sequence[str]) -> int:
    from slipway_bundle.errors import SlipwayError

    if isinstance(error, SlipwayError) and error.exit_status != BUG:
        terminal.fail(error.as_dict())
        return error.exit_status
    if isinstance(error, OSError) and error.errno in HOST_ERRNOS:
        where = f" at {error.filename!r}" if error.filename else ""
        message = f"the operating system refused: {error.strerror}{where}"
        terminal.fail({"code": "host", "message": message, "exit_status": HOST})
        return HOST
    terminal.fail(_bug(error, terminal, arguments))
    return BUG


def _usage(error: click.ClickException) -> dict[str, object]:
    context = getattr(error, "ctx", None)
    path = context.command_path if isinstance(context, click.Context) else "slipway"
    message = error.format_message().removesuffix(".")
    return {"code": "usage", "message": message, "hint": f"`{path} --help`", "exit_status": USAGE}


def _bug(error: Exception, terminal: Terminal, arguments: Sequence[str]) -> dict[str, object]:
    told = {"code": "bug", "message": f"this is a bug in slipway: {error!r}", "exit_status": BUG}
    text = "".join(traceback.format_exception(error))
    if terminal.verbose:
        click.echo(text, err=True)
        return told
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="slipway-bug-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(
                f"arguments: {list(arguments)!r}\npython: {sys.version}\nplatform: {platform.platform()}\n\n{text}"
            )
    except OSError:
        return told | {"hint": "run it again with `--verbose` to see the traceback"}
    return told | {"hint": f"the traceback is in {file.name}; report it with that file"}


def _silence_stdout() -> None:
    """Python flushes stdout once more at exit, and would complain again."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except OSError:  # stdout is no file; then nobody flushes it to a pipe
        return
