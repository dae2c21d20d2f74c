"""`slipway bundle build`: a service folder becomes a bundle in the local store."""

import os
import time
from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Package a service folder.",
    help="Package the service in FOLDER (default: this one) and print the bundle's reference.\n\n"
    "Nothing is built that does not give the answers of its golden examples. The same inputs give the same digest.",
    examples=(
        ("slipway bundle build services/churn", "prints churn:VERSION"),
        ('slipway serve "$(slipway bundle build)"', "build here, then serve exactly that"),
    ),
)
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.pass_obj
def build(terminal: Terminal, folder: Path) -> None:
    """Build, and print the reference."""
    from slipway_bundle.build import build as build_bundle
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder
    from slipway_signals.drift import judge_reference

    started = time.monotonic()
    store = Store.open(store_folder(os.environ))
    with terminal.bar() as bar:
        built = build_bundle(folder, store, progress=bar, announce=bar.begin, judge_reference=judge_reference)
    terminal.document(built)
    terminal.result(built.ref)
    what = "built" if built.is_new else "unchanged"
    replayed = (
        f"{built.examples} golden examples replayed" if built.is_replayed else "its examples were replayed before"
    )
    terminal.say(f"{what} {built.ref} in {time.monotonic() - started:.1f} s; {replayed}")
    terminal.say(f"digest {built.digest}")
    terminal.detail(f"content {built.content_digest}")
