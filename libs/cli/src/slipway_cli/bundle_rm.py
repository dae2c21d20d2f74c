"""`slipway bundle rm`: take a bundle's name out of the store."""

import os
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.references import Ref


@click.command(
    cls=Verb,
    short_help="Remove bundles from the list.",
    help="Remove bundles from the list. `slipway bundle gc` then frees their space; what is being served stays until "
    "it stops.",
    examples=(
        ("slipway bundle rm churn:1.0.0 --dry-run", "which bundle that is"),
        ("slipway bundle rm churn:1.0.0", "remove it"),
    ),
)
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Remove nothing; say what would be removed.")
@click.pass_obj
def rm(terminal: Terminal, refs: tuple[str, ...], *, dry_run: bool) -> None:
    """Remove names."""
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder

    store = Store.open(store_folder(os.environ))
    meant = [store.find(ref) for ref in refs]  # all of them are there, or none goes
    gone: list[Ref] = meant if dry_run else [store.delete(ref.text) for ref in meant]
    terminal.document({"dry_run": dry_run, "removed": [{"ref": ref.text, "digest": ref.digest} for ref in gone]})
    for ref in gone:
        terminal.result(ref.text)
    terminal.say("nothing was removed: --dry-run" if dry_run else "`slipway bundle gc` frees the space")
