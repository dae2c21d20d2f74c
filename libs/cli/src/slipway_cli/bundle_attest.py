"""`slipway bundle attest`: say what a bundle is made of and how it was built, beside it."""

import os
from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Attach bill of materials and provenance.",
    help="Attach to a bundle its bill of materials (CycloneDX) and its provenance (SLSA): builder, commit, lock, "
    "weights, training data, base images.\n\n"
    "Prints the digests of what was attached. Without a key the provenance is not signed, and no policy believes it. "
    "The builder is the CI system's workflow where its variables say so (GitHub Actions, GitLab CI).",
    examples=(
        ("slipway bundle attest churn --key ci.pem", "signed; after `slipway bundle image`"),
        ("slipway bundle attest churn --builder https://ci.example.com/release", "under a name of your own"),
    ),
)
@click.argument("ref")
@click.option("--key", help="Sign the provenance with this key: a file, or the URI of a key service.")
@click.option("--public", type=click.Path(path_type=Path), help="Public half of a key of a key service.")
@click.option("--builder", help="URI of who builds.  [default: the CI system's workflow, else this machine]")
@click.pass_obj
def attest(terminal: Terminal, ref: str, key: str | None, public: Path | None, builder: str | None) -> None:
    """Make both, attach them, and print their digests."""
    from slipway_bundle.provenance import attest as attest_bundle
    from slipway_bundle.provenance import builder_from
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import load_signer
    from slipway_cli.home import store_folder

    attested = attest_bundle(
        Store.open(store_folder(os.environ)),
        ref,
        builder_from(os.environ, builder=builder),
        environ=os.environ,
        signer=load_signer(key, environ=os.environ, public=public) if key else None,
    )
    terminal.document(attested)
    for platform, digest in attested.sboms.items():
        terminal.say(f"bill of materials, {platform}: {digest}")
        terminal.result(digest)
    signed = "signed" if attested.is_signed else "not signed"
    terminal.say(f"provenance by {attested.builder}, {signed}: {attested.provenance}")
    terminal.result(attested.provenance)
