"""`slipway lab logs`: what did a program of a lab say?"""

import click

from slipway_cli.lab_process import NAME, run_lab
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="logs",
    short_help="Show the end of a program's log.",
    help="Show the end of a program's log, also of one that ended, and after an `up` that failed. PROGRAM as "
    "`slipway lab status` says it; logs of pods are kubectl's.",
    examples=(("slipway lab logs kubelet", "its last 50 lines"),),
)
@NAME
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(1), help="From the end.")
@click.argument("program")
@click.pass_obj
def lab_logs(terminal: Terminal, *, name: str, lines: int, program: str) -> None:
    """Show it."""
    found = run_lab(terminal, "logs", f"--name={name}", f"--lines={lines}", "--", program)
    terminal.document(found)
    for line in found["lines"]:
        terminal.result(line)
