"""`slipway lab build`: make a lab's programs."""

import click

from slipway_cli.lab_process import run_lab
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="build",
    short_help="Build a lab's programs.",
    help="Build the programs of a lab that the cache lacks, from pinned Go modules: minutes the first time, nothing "
    "after that. `up` does it too. Prints their paths.",
    examples=(
        ("slipway lab build", "so that the first `up` is quick"),
        ("slipway lab build --clean", "remove what is not needed any more"),
    ),
)
@click.option("--clean", is_flag=True, help="Remove Go's build cache and programs of other versions instead.")
@click.pass_obj
def lab_build(terminal: Terminal, *, clean: bool) -> None:
    """Build them."""
    found = run_lab(terminal, "build", *(("--clean",) if clean else ()))
    terminal.document(found)
    for path in () if clean else found.values():
        terminal.result(path)
