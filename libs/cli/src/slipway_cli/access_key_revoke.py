"""`slipway access key revoke`: a key, or all keys of a client, are valid no more."""

from pathlib import Path

import click

from slipway_cli.access_key_new import keys_option
from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="revoke",
    short_help="Take API keys out of a file.",
    help="Take the key with this id, or all keys of the client with this name, out of a file.\n\n"
    "Prints the ids. Servers that use the file refuse them within about a second; it cannot be undone.",
    examples=(
        ("slipway access key revoke 3f2a9c01 --keys keys.json", "one key"),
        ("slipway access key revoke billing --keys keys.json --dry-run", "all of a client: which are they?"),
    ),
)
@click.argument("which", metavar="ID|CLIENT")
@keys_option
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would go.")
@click.pass_obj
def revoke_access_keys(terminal: Terminal, *, which: str, keys: Path, dry_run: bool) -> None:
    """Revoke them."""
    from slipway_serve.access.keys import revoke_keys

    gone = revoke_keys(keys, which, is_trial=dry_run)
    revoked = [{"id": entry.id, "client": entry.name} for entry in gone]
    terminal.document({"revoked": revoked, "dry_run": dry_run})
    for entry in gone:
        terminal.result(entry.id)
    terminal.say(f"{lines_of(len(gone), 'key')} {'would be' if dry_run else 'is' if len(gone) == 1 else 'are'} revoked")
