"""`slipway lab down`: end a lab and remove all that it made."""

import click

from slipway_cli.lab_process import NAME, run_lab
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="down",
    short_help="End a lab.",
    help="End a lab and remove all that it made: processes, containers, mounts, control groups, its network and its "
    "files. Also removes what a crash left.",
    examples=(("slipway lab down", "nothing of it is left"),),
)
@NAME
@click.pass_obj
def lab_down(terminal: Terminal, *, name: str) -> None:
    """End it."""
    terminal.document(run_lab(terminal, "down", f"--name={name}"))
