"""`slipway gate post`: hand evidence to the verdict service."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.gate_options import read_evidence
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_serve.verdicts.client import VerdictClient

KEY = "SLIPWAY_VERDICTS_KEY"

service_options = (
    click.option(
        "--to",
        "url",
        required=True,
        envvar="SLIPWAY_VERDICTS_URL",
        metavar="URL",
        help="The service.  [$SLIPWAY_VERDICTS_URL]",
    ),
    click.option(
        "--key-file",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help=f"Holds the API key.  [default: ${KEY}]",
    ),
    click.option(
        "--ca",
        "authority",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="CA of its certificate, PEM.",
    ),
)


def service_at(
    url: str, key_file: Path | None, authority: Path | None, *, pauses_s: Sequence[float] | None = None
) -> "VerdictClient":
    """The service that the options name; `pauses_s` are before each further attempt. Raises FileError."""
    from slipway_bundle.errors import FileError
    from slipway_serve.verdicts.client import PAUSES_S, VerdictClient

    key = os.environ.get(KEY, "")
    if key_file is not None:
        try:
            key = key_file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise FileError(f"the key file {str(key_file)!r} cannot be read: {reason}", path=str(key_file)) from error
    return VerdictClient(url, key.strip(), authority=authority, pauses_s=PAUSES_S if pauses_s is None else pauses_s)


@click.command(
    cls=Verb,
    name="post",
    short_help="Post evidence to the verdict service.",
    help="Post the evidence in FILE to a verdict service, which judges it again. Prints the verdict that the service "
    "kept. Posting it twice is the same as posting it once; after a bad moment of the network it is posted again.",
    examples=(("slipway gate post evidence.json --to https://verdicts.example.com", "after slipway gate run"),),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@service_options[0]
@service_options[1]
@service_options[2]
@click.pass_obj
def post_evidence(terminal: Terminal, file: Path, *, url: str, key_file: Path | None, authority: Path | None) -> None:
    """Read, post, say what was kept."""
    kept = service_at(url, key_file, authority).post(read_evidence(file))
    terminal.document(kept)
    terminal.result(kept.verdict)
    stage = kept.stage
    terminal.say(f"kept for stage {stage.stage} of {stage.rollout} at {stage.pod_hash}: {kept.reason}")
