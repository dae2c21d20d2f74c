"""`slipway client`: a typed Python client of a service, out of its OpenAPI document.

Words only; `generation.py` fetches the document and runs the generator.
"""

import os
from pathlib import Path

import click

from slipway_cli.terminal import Terminal, quote
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Generate a typed Python client.",
    help="Generate a typed Python client (httpx, sync and async) from a service's OpenAPI document.\n\n"
    "TARGET is the address of a live service, a service folder or a bundle's reference.",
    examples=(
        ("slipway client http://127.0.0.1:8000", "a live service; writes ./churn-client"),
        ("slipway client services/churn --out clients/churn", "a folder, without a server"),
    ),
)
@click.argument("target")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where.  [default: ./NAME-client]")
@click.option("--overwrite", is_flag=True, help="Replace the folder when it is there.")
@click.pass_obj
def client(terminal: Terminal, target: str, out: Path | None, *, overwrite: bool) -> None:
    """Generate, and say how to use it."""
    from slipway_cli.generation import generate_client
    from slipway_cli.home import store_folder

    made = generate_client(target, out=out, overwrite=overwrite, store=store_folder(os.environ))
    terminal.document(made)
    terminal.result(made.folder)
    for warning in made.warnings:
        terminal.warn(warning)
    terminal.say(f"a client of {made.service} {made.version}: package {made.package}")
    terminal.say(f"next: {quote(['uv', 'pip', 'install', made.folder])}")
