"""`slipway lab restart`: end a program of a lab and start it again."""

import click

from slipway_cli.lab_process import NAME, run_lab
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="restart",
    short_help="End a program of a lab and start it again.",
    help="End a program of a lab and start it again as it was; for drills. PROGRAM as `slipway lab status` says it. "
    "Prints its process id; it may not be ready yet.",
    examples=(("slipway lab restart --kill kube-apiserver", "as if it had crashed"),),
)
@NAME
@click.option("--kill", is_flag=True, help="End it at once, as a crash would.")
@click.argument("program")
@click.pass_obj
def lab_restart(terminal: Terminal, *, name: str, kill: bool, program: str) -> None:
    """Restart it."""
    found = run_lab(terminal, "restart", f"--name={name}", *(("--kill",) if kill else ()), "--", program)
    terminal.document(found)
    terminal.result(str(found["pid"]))
