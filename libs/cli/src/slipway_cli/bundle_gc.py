"""`slipway bundle gc`: delete the blobs that no bundle refers to."""

import os

import click

from slipway_cli.terminal import Terminal, lines_of, size_text
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Free the space of what was removed.",
    help="Free the space of removed bundles and of builds that were killed. No bundle in the list is touched.",
    examples=(
        ("slipway bundle gc --dry-run", "what would go, and how much it frees"),
        ("slipway bundle gc", "prints the digests that went"),
    ),
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would be deleted.")
@click.pass_obj
def gc(terminal: Terminal, *, dry_run: bool) -> None:
    """Collect, and say what was freed."""
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder

    report = Store.open(store_folder(os.environ)).gc(dry_run=dry_run)
    terminal.document(report)
    for digest in report.removed:
        terminal.result(digest)
    did = "would free" if dry_run else "freed"
    terminal.say(
        f"{did} {size_text(report.freed_bytes)}: {lines_of(len(report.removed), 'blob')}, "
        f"{lines_of(report.trees, 'unpacked layer')}, {lines_of(report.leftovers, 'leftover')}; "
        f"{lines_of(report.kept, 'blob')} kept"
    )
