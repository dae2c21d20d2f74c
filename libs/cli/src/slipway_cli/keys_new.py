"""`slipway keys new`: a pair of keys to sign with."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.trust.keys import Algorithm


@click.command(
    cls=Verb,
    name="new",
    short_help="Make a pair of keys to sign with.",
    help="Make a pair of keys: NAME.key, which signs and is for nobody else's eyes, and NAME.pub, which policy.toml "
    "names.\n\n"
    "With SLIPWAY_KEY_PASSWORD set, the private key is encrypted with it. Prints the path of the public key.",
    examples=(
        ("slipway keys new release", "release.key and release.pub"),
        ("slipway keys new ann --folder keys", "another folder"),
    ),
)
@click.argument("name")
@click.option("--folder", metavar="PATH", default=".", help="Where they go.  [default: here]")
@click.option(
    "--algorithm",
    type=click.Choice(["ecdsa-p256", "ed25519"]),
    default="ecdsa-p256",
    help="What kind of key; ed25519 cannot sign models.  [default: ecdsa-p256]",
)
@click.pass_obj
def new_keys(terminal: Terminal, name: str, *, folder: str, algorithm: "Algorithm") -> None:
    """Make them, and say what to write into the policy."""
    from slipway_bundle.trust.key_files import write_pair

    pair = write_pair(Path(folder), name, algorithm, password=os.environ.get("SLIPWAY_KEY_PASSWORD"))
    terminal.document(pair)
    terminal.result(pair.public)
    terminal.say(f"{pair.private} signs{' (encrypted)' if pair.is_encrypted else ''}; keep it to yourself")
    if not pair.is_encrypted:
        terminal.say("hint: SLIPWAY_KEY_PASSWORD encrypts the next one")
    terminal.say(f'policy.toml: [keys.{name}] file = "{pair.public}"')
