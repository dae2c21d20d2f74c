"""What the verbs that change a stack file share: where it is, and who changed it. It imports nothing heavy."""

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


def stack_options(command: F) -> F:
    """Where stack files are, and whose name the record gets."""
    by = click.option("--by", metavar="NAME", help="Who releases.  [default: the user]")
    stacks = click.option(
        "--stacks",
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("platform/services"),
        show_default=True,
        help="Where stack files and releases.jsonl are.",
    )
    return stacks(by(command))


def user_name() -> str:
    """Who runs this, as the operating system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return "unknown"
