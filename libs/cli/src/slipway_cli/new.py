"""`slipway new`: a service of one's own, copied from churn.

Parsing and words only; `template.py` copies.
"""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal, quote
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Start a service: a copy of churn under a new name.",
    help="Start a service: copy services/churn under a new name, with its training and its tests.\n\n"
    "Inside the slipway repository it becomes services/NAME; elsewhere NAME in the current folder, with a copy of "
    "the lock.",
    examples=(
        ("slipway new fraud", "services/fraud, or ./fraud outside the repository"),
        ("slipway new credit-risk --into /tmp/x", "another place"),
    ),
)
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help="The folder to make NAME in.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The service to copy.  [default: services/churn of the repository around you, or of the installed slipway]",
)
@click.pass_obj
def new(terminal: Terminal, name: str, into: Path | None, source: Path | None) -> None:
    """Copy, and say what to do next."""
    from slipway_cli.template import copy_service

    made = copy_service(name, source=source, into=into, here=Path.cwd())
    terminal.document(made)
    terminal.result(made.folder)
    folder = Path(made.folder)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    terminal.say(f"made {made.service} out of {made.source}: {len(made.files)} files")
    terminal.say("next:")
    if made.is_member:
        terminal.say("  make lock  # the repository's lock names its members")
    terminal.say(f"  {quote(['python', f'{shown}/train.py'])}")
    terminal.say(f"  {quote(['slipway', 'bundle', 'build', str(shown)])}")
    terminal.say(f"  {quote(['slipway', 'serve', str(shown), '--reload'])}")
