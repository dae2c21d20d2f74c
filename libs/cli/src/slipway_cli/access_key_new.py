"""`slipway access key new`: an API key for a client, shown once."""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

keys_option = click.option(
    "--keys",
    required=True,
    envvar="SLIPWAY_ACCESS_KEYS",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of keys, `keys` of [runtime.access].  [$SLIPWAY_ACCESS_KEYS]",
)


@click.command(
    cls=Verb,
    name="new",
    short_help="Make an API key for a client.",
    help="Make an API key for CLIENT and add its hash to a file of keys, which is made when it is not there.\n\n"
    "Prints the key. It is shown this once: the file has a hash of it. Servers that use the file know the key within "
    "about a second.",
    examples=(
        ("slipway access key new billing --keys keys.json", "valid until it is revoked"),
        ("slipway access key new billing --keys keys.json --expires 90d", "for ninety days"),
        ("slipway access key new billing --keys keys.json --rotate", "beside the one that the client has"),
        ("slipway access key new ops --keys keys.json --scope explain", "for routes that ask for a scope"),
    ),
)
@click.argument("client")
@keys_option
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it may be used for; may be repeated.")
@click.option("--expires", metavar="TIME", help="How long it is valid: 12h, 90d, 52w.  [default: until it is revoked]")
@click.option("--rotate", is_flag=True, help="The client may have a key already; both are valid.")
@click.pass_obj
def new_access_key(
    terminal: Terminal, *, client: str, keys: Path, scopes: tuple[str, ...], expires: str | None, rotate: bool
) -> None:
    """Make it, and show it."""
    from slipway_bundle.durations import parse_duration
    from slipway_serve.access.keys import new_key

    expires_in = None if expires is None else parse_duration(expires)
    made = new_key(keys, client, scopes=scopes, expires_in=expires_in, is_rotation=rotate)
    entry = made.entry
    shown = {"id": entry.id, "client": entry.name, "scopes": entry.scopes, "expires": entry.expires}
    terminal.document({"key": made.key, **shown})
    terminal.result(made.key)
    until = "until it is revoked" if entry.expires is None else f"until {entry.expires:%Y-%m-%d %H:%M} UTC"
    terminal.say(f"key {entry.id} of {entry.name}, valid {until}; it is not shown again")
