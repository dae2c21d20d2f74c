"""What the gate's Jobs of a rollout share: their options, and the one folder in which they write.

It asks nobody. The invariants: with a read-only root nothing is written outside of the folder of `--work`, by this
process or by the load process that it starts; what a Job that was killed left there goes when the next one starts.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

TMPDIR: Final = "TMPDIR"
PREFIX: Final = "slipway-work-"

WORK = click.option(
    "--work",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="The only place that is written to.  [default: a temporary folder]",
)
INSECURE = click.option(
    "--insecure",
    is_flag=True,
    envvar="SLIPWAY_REGISTRY_INSECURE",
    help="Speak plain HTTP to a registry on another machine.  [$SLIPWAY_REGISTRY_INSECURE]",
)
READY = click.option(
    "--ready-s",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="How long a server may take until it is ready.",
)


@contextmanager
def work_folder(folder: Path | None) -> Iterator[Path]:
    """The folder, made when it is missing, as the place of all temporary files; one of our own goes at the end.

    Raises:
        FileError: It cannot be made or written to.
    """
    from slipway_bundle.errors import FileError
    from slipway_bundle.scratch import remove_leftovers, scratch_folder

    before = os.environ.get(TMPDIR), tempfile.tempdir
    opened = ExitStack()
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(PREFIX, folder)
        place = opened.enter_context(scratch_folder(PREFIX, folder))
    except OSError as error:
        where = str(folder or tempfile.gettempprefix())
        raise FileError(
            f"no folder to work in: {where!r} cannot be written to: {error.strerror or error}",
            hint="name one with `--work FOLDER`; in a pod with a read-only root, a volume of type emptyDir",
            path=where,
        ) from error
    with opened:
        os.environ[TMPDIR] = tempfile.tempdir = str(place)
        try:
            yield place
        finally:
            tempfile.tempdir = before[1]
            if before[0] is None:
                del os.environ[TMPDIR]
            else:
                os.environ[TMPDIR] = before[0]
