"""`slipway bundle list`: what is in the local store."""

import os
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal, lines_of, size_text
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_cli.listing import Listed


@click.command(
    cls=Verb,
    name="list",
    short_help="List the bundles, the newest first.",
    help="List the bundles of the local store, the newest first; through a pipe, one reference a line.",
    examples=(
        ("slipway bundle list", "all of them"),
        ("slipway bundle list churn", "the versions of one"),
        ('slipway serve "$(slipway bundle list churn | head -1)"', "serve the newest"),
    ),
)
@click.argument("name", required=False)
@click.pass_obj
def list_bundles(terminal: Terminal, name: str | None) -> None:
    """List them."""
    import sys

    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder
    from slipway_cli.listing import list_store

    store = Store.open(store_folder(os.environ))
    with_details = terminal.json or sys.stdout.isatty()
    found = list_store(store, name, with_details=with_details)
    terminal.document({"store": str(store.root), "bundles": found})
    if with_details:
        _draw(terminal, found)
    else:
        for bundle in found:
            terminal.result(bundle.ref)
    terminal.say(f"{lines_of(len(found), 'bundle')} in {store.root}")


def _draw(terminal: Terminal, found: "list[Listed]") -> None:
    if terminal.json or not found:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("bundle", "left"), ("digest", "left"), ("made", "left"), ("size", "right")):
        table.add_column(title, justify="right" if justify == "right" else "left", overflow="fold")
    for bundle in found:
        size = "damaged" if bundle.size_bytes is None else size_text(bundle.size_bytes)
        table.add_row(Text(bundle.ref), bundle.digest.removeprefix("sha256:")[:12], bundle.created or "-", size)
    terminal.draw(table)
