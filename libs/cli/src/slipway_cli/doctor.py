"""`slipway doctor`: what on this machine stands in the way, and what to do about it.

Words and exit status only; `checks.py` looks.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_cli.checks import Check

TINTS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(
    cls=Verb,
    short_help="Look at this machine and say what to fix.",
    help="Look at this machine: Python, packages, store, ports, disk, limits, processors, memory, GPUs,\n"
    "optional programs.\n\n"
    "Exit status 1 when something must be fixed; warnings do not count.",
    examples=(
        ("slipway doctor", "a table of checks, and the fix of each that is not ok"),
        ("slipway doctor --json", "the same as one object"),
    ),
)
@click.pass_obj
def doctor(terminal: Terminal) -> int:
    """Check, and show."""
    from slipway_cli.checks import check_machine

    found = check_machine(os.environ, Path.cwd())
    failed = [check for check in found if check.status == "fail"]
    terminal.document({"ok": not failed, "checks": found})
    if not terminal.json:
        _draw(terminal, found)
    warned = sum(check.status == "warn" for check in found)
    terminal.say(f"{len(found)} checks: {len(failed)} failed, {warned} warned")
    return 1 if failed else 0


def _draw(terminal: Terminal, found: "Sequence[Check]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in found:
        table.add_row(Text(check.status, style=TINTS[check.status]), check.name, Text(check.found))
        if check.fix:
            table.add_row("", "", Text(f"fix: {check.fix}", style="bold"))
    terminal.draw(table)
