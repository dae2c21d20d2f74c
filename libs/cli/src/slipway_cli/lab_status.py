"""`slipway lab status`: how is a lab?"""

import click

from slipway_cli.lab_process import NAME, run_lab
from slipway_cli.terminal import Terminal, size_text
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="status",
    short_help="Say how a lab is.",
    help="Say whether a lab is ready, and what its programs use. Exit status 0 when it is ready, 1 when something of "
    "it is missing, 3 when there is none.",
    examples=(("slipway lab status", "its state, its programs, their memory"),),
)
@NAME
@click.pass_obj
def lab_status(terminal: Terminal, *, name: str) -> int:
    """Show it; the exit status says the same."""
    from rich.table import Table

    found = run_lab(terminal, "status", f"--name={name}")
    table = Table(box=None, pad_edge=False)
    for title in ("program", "process", "memory"):
        table.add_column(title, justify="left" if title == "program" else "right")
    for program in found["programs"]:
        memory = size_text(program["resident_bytes"]) if program["is_alive"] else "dead"
        table.add_row(program["name"], str(program["pid"]), memory)
    terminal.document(found)
    terminal.draw(table)
    memory = size_text(found["resident_bytes"])
    terminal.say(f"lab {name!r} is {found['state']}: {memory} without pods, {found['containers']} processes in pods")
    return 0 if found["state"] == "ready" else 1
