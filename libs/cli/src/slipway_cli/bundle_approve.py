"""`slipway bundle approve`: say that a bundle may be released."""

import os
from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Approve a bundle for release.",
    help="Say, signed with your key, that a bundle may be released; `[approvals]` of policy.toml says who must.\n\n"
    "Nobody approves what they signed. KEY is as in `slipway bundle sign`. Prints the digest that was approved.",
    examples=(
        ('slipway bundle approve churn:1.0.0 --key ann.key --reason "load test of 21 Nov"', "ann says yes"),
        ("slipway policy check churn:1.0.0", "is that enough?"),
    ),
)
@click.argument("ref")
@click.option("--key", required=True, help="Who approves: a file, or a key service.")
@click.option("--public", metavar="FILE", help="The public key (PEM) of a key service.")
@click.option("--reason", default="", help="Why, for the record.")
@click.pass_obj
def approve(terminal: Terminal, ref: str, *, key: str, public: str | None, reason: str) -> None:
    """Approve, and say by whom."""
    from slipway_bundle.store import Store
    from slipway_bundle.trust.approvals import approve as approve_bundle
    from slipway_bundle.trust.keys import load_signer
    from slipway_cli.home import store_folder

    signer = load_signer(key, environ=os.environ, public=None if public is None else Path(public))
    store = Store.open(store_folder(os.environ))
    found = store.find(ref)
    referrer = approve_bundle(store, ref, signer, reason=reason)
    terminal.document({"ref": found.text, "digest": found.digest, "key_id": signer.key.id, "approval": referrer.digest})
    terminal.result(found.digest)
    terminal.say(f"{found.text} is approved by the key {signer.key.id[:12]}")
