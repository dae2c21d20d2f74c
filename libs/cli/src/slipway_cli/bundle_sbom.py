"""`slipway bundle sbom`: what is in a bundle, as a CycloneDX document."""

import os

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Print the bill of materials.",
    help="Print what is in a bundle as CycloneDX 1.6 JSON: the packages that its lock installs on one platform, "
    "the workspace's own, and the models with the digests of their weights.\n\n"
    "The same bundle and platform give the same bytes; SOURCE_DATE_EPOCH is their only time.",
    examples=(
        ("slipway bundle sbom churn > churn.cdx.json", "for the bundle's image, else for this machine"),
        ("slipway bundle sbom churn --platform linux/arm64 --python 3.12", "for another platform"),
        ("slipway bundle sbom churn --attach", "keep it beside the bundle; prints the referrer's digest"),
    ),
)
@click.argument("ref")
@click.option("--platform", help="linux/amd64 or linux/arm64.  [default: of the image, else this machine]")
@click.option("--python", help="Version of the interpreter.  [default: of the image, else this one]")
@click.option("--attach", is_flag=True, help="Store it as a referrer of the bundle.")
@click.pass_obj
def sbom(terminal: Terminal, ref: str, platform: str | None, python: str | None, *, attach: bool) -> None:
    """Make it, and print or attach it."""
    import msgspec

    from slipway_bundle.sbom import attach_sbom, choose_target, make_sbom
    from slipway_bundle.store import Store
    from slipway_bundle.stored import read_bundle
    from slipway_cli.home import store_folder

    store = Store.open(store_folder(os.environ))
    bundle = read_bundle(store, ref)
    target = choose_target(bundle, platform, python)
    document = make_sbom(store, bundle, target, environ=os.environ)
    terminal.document(msgspec.json.decode(document))
    if attach:
        terminal.result(attach_sbom(store, bundle, document).digest)
    else:
        terminal.result(document.decode())
    terminal.say(f"bill of materials of {bundle.digest} on {target.text}, Python {target.python}")
