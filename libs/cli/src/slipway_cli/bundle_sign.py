"""`slipway bundle sign`: put your name under a bundle."""

import os
from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Sign a bundle, and its models.",
    help="Sign the bundle's digest, and with an ECDSA key also its weights (OpenSSF model signing).\n\n"
    "KEY is a private key in PEM, or the address of a key service: awskms:…, gcpkms:…, azurekms:…, hv:NAME/VERSION "
    "(Vault), hsm:…; those need --public. SLIPWAY_KEY_PASSWORD is the password of an encrypted file. Prints the "
    "digest that was signed. cosign verifies the signature, too.",
    examples=(
        ("slipway bundle sign churn --key release.key", "sign the only version"),
        ("slipway bundle sign churn --key ann.key --expires 90d", "counts for 90 days"),
        ("slipway bundle sign churn --key hv:release/1 --public release.pub", "the key stays in Vault"),
    ),
)
@click.argument("ref")
@click.option("--key", required=True, help="Who signs: a file, or a key service.")
@click.option("--public", metavar="FILE", help="The public key (PEM) of a key service.")
@click.option("--expires", metavar="TIME", help="After how long the signature counts no more: 12h, 90d, 26w.")
@click.option("--models/--no-models", default=None, help="Sign the weights too.  [default: with an ECDSA key]")
@click.pass_obj
def sign(
    terminal: Terminal, ref: str, *, key: str, public: str | None, expires: str | None, models: bool | None
) -> None:
    """Sign, and say by whom."""
    from slipway_bundle.durations import parse_duration
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import load_signer
    from slipway_bundle.trust.signing import sign_release
    from slipway_cli.home import store_folder

    lasts = None if expires is None else parse_duration(expires)
    signer = load_signer(key, environ=os.environ, public=None if public is None else Path(public))
    signed = sign_release(Store.open(store_folder(os.environ)), ref, signer, lasts=lasts, with_models=models)
    terminal.document(signed)
    terminal.result(signed.digest)
    terminal.say(f"{signed.ref} is signed by the key {signed.key_id[:12]} ({signed.algorithm})")
    if not signed.signs_models:
        terminal.say("its models have no signature of their own" + ("" if models is False else ": that takes ECDSA"))
