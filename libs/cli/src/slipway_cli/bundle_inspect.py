"""`slipway bundle inspect`: what is in a bundle."""

import os

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Show what is in a bundle.",
    help="Show what is in a bundle: models, schema, files, environment, lineage, digests.\n\n"
    "Documents are checked against their digests on the way; `slipway bundle verify` also hashes the weights.",
    examples=(
        ("slipway bundle inspect churn", "tables"),
        ("slipway bundle inspect churn --json", "one object; `manifest` is the bundle's slipway.json"),
    ),
)
@click.argument("ref")
@click.pass_obj
def inspect(terminal: Terminal, ref: str) -> None:
    """Read, and draw."""
    from slipway_bundle.store import Store
    from slipway_bundle.stored import read_bundle
    from slipway_cli.home import store_folder

    bundle = read_bundle(Store.open(store_folder(os.environ)), ref)
    manifest = bundle.manifest
    terminal.document(
        {
            "ref": f"{manifest.name}:{manifest.version}",
            "digest": bundle.digest,
            "content_digest": manifest.content_digest,
            "size_bytes": bundle.size_bytes(),
            "manifest": manifest,
        }
    )
    if not terminal.json:
        from slipway_cli.card import card_of

        terminal.draw(*card_of(bundle, whole=terminal.verbose))
