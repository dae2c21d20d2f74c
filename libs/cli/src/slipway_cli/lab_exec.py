"""`slipway lab exec`: a command inside a lab's network."""

import os
from typing import NoReturn

import click

from slipway_cli.lab_process import NAME, lab_command
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="exec",
    short_help="Run a command inside a lab's network.",
    help="Run COMMAND inside a lab's network: the names of its services resolve, kubectl is on the PATH and asks this "
    "lab. The exit status is the command's.",
    examples=(
        ("slipway lab exec -- kubectl get pods -A", "what runs"),
        ("slipway lab exec -- slipway bundle push churn 10.230.0.1:5000/churn", "into its registry"),
    ),
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@NAME
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def lab_exec(*, name: str, command: tuple[str, ...]) -> NoReturn:
    """Become the command."""
    line = lab_command(("exec", f"--name={name}", "--", *command))
    os.execv(line[0], line)  # noqa: S606 - no shell is wanted
