"""`slipway bundle signatures`: who signed what about a bundle."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.trust.listing import ListedStatement


@click.command(
    cls=Verb,
    short_help="Show who signed what about a bundle.",
    help="Show every signed statement about a bundle, and which key stands behind it.\n\n"
    "The keys are those of policy.toml, and of --key. A statement by no known key is listed as such. Whether it is "
    "enough says `slipway policy check`.",
    examples=(
        ("slipway bundle signatures churn", "by the keys of policy.toml"),
        ("slipway bundle signatures churn --key release.pub", "by this key"),
        ("slipway bundle signatures churn --export out", "files for cosign and model_signing"),
    ),
)
@click.argument("ref")
@click.option("--key", "keys", metavar="FILE", multiple=True, help="A public key (PEM); may be given several times.")
@click.option("--policy", metavar="FILE", help="Whose keys are known.  [default: policy.toml here or above]")
@click.option("--export", metavar="FOLDER", help="Write each statement's sigstore bundle to a file in FOLDER.")
@click.pass_obj
def signatures(terminal: Terminal, ref: str, *, keys: tuple[str, ...], policy: str | None, export: str | None) -> None:
    """List them."""
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import load_key
    from slipway_bundle.trust.listing import export_statements, list_statements
    from slipway_bundle.trust.signing_rules import trusted_keys
    from slipway_cli.home import policy_of, store_folder

    store = Store.open(store_folder(os.environ))
    rules = policy_of(policy, os.environ)
    known = (*(load_key(Path(key)) for key in keys), *trusted_keys(rules, tuple(rules.keys)))
    found = store.find(ref)
    listed = list_statements(store, found.digest, known)
    written = [] if export is None else export_statements(store, found.digest, Path(export))
    terminal.document({"ref": found.text, "digest": found.digest, "statements": listed, "written": written})
    for path in written:
        terminal.result(path)
    if not written:
        _show(terminal, listed)
    terminal.say(f"{lines_of(len(listed), 'statement')} about {found.text} ({found.digest})")


def _show(terminal: Terminal, listed: "tuple[ListedStatement, ...]") -> None:
    if terminal.json or not listed:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("statement", "by", "at", "digest"):
        table.add_column(title, overflow="fold")
    for item in listed:
        by = item.key or f"nobody known: {item.reason}"
        table.add_row(item.kind, Text(by), item.at or "-", item.digest.removeprefix("sha256:")[:12])
    terminal.draw(table)
