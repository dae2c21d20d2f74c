"""`slipway access key list`: which clients have keys, and until when. The keys themselves only the clients have."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.access_key_new import keys_option
from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from slipway_serve.access.keys import ApiKey


@click.command(
    cls=Verb,
    name="list",
    short_help="List the API keys of a file.",
    help="List the API keys of a file: id, client, state, scopes; through a pipe, one id a line.",
    examples=(("slipway access key list --keys keys.json", "all of them, expired ones too"),),
)
@keys_option
@click.pass_obj
def list_access_keys(terminal: Terminal, *, keys: Path) -> None:
    """List them."""
    import sys
    from datetime import UTC, datetime

    from slipway_serve.access.keys import list_keys

    found, now = list_keys(keys), datetime.now(UTC)
    listed = [
        {
            "id": entry.id,
            "client": entry.name,
            "scopes": entry.scopes,
            "created": entry.created,
            "expires": entry.expires,
            "is_expired": entry.is_expired(now),
        }
        for entry in found
    ]
    terminal.document({"keys": listed})
    if sys.stdout.isatty():
        _draw(terminal, found, now)
    else:
        for entry in found:
            terminal.result(entry.id)
    terminal.say(f"{lines_of(len(found), 'key')} in {keys}")


def _draw(terminal: Terminal, found: "Sequence[ApiKey]", now: "datetime") -> None:
    if terminal.json or not found:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "client", "made", "valid", "scopes"):
        table.add_column(title, overflow="fold")
    for entry in found:
        until = "until it is revoked" if entry.expires is None else f"until {entry.expires:%Y-%m-%d}"
        valid = f"no, {until}" if entry.is_expired(now) else until
        scopes = Text(" ".join(entry.scopes) or "-")
        table.add_row(entry.id, Text(entry.name), f"{entry.created:%Y-%m-%d}", valid, scopes)
    terminal.draw(table)
