"""`slipway gate attest`: keep evidence beside the bundle that it is about."""

import os
from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="attest",
    short_help="Keep evidence beside its bundle.",
    help="Attach the evidence in FILE to the bundle REF, which must have been its candidate, with a statement that "
    "names the verdict and what it was compared with. `slipway bundle push` takes both along.\n\n"
    "The verdict is computed again first. Prints the digests of what was attached. Without a key the statement is not "
    "signed.",
    examples=(("slipway gate attest churn evidence.json --key ci.pem", "after `slipway gate run`"),),
)
@click.argument("ref")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--key", help="Sign the statement with this key: a file, or the URI of a key service.")
@click.option("--public", type=click.Path(path_type=Path), help="Public half of a key of a key service.")
@click.pass_obj
def attest_gate(terminal: Terminal, ref: str, file: Path, key: str | None, public: Path | None) -> None:
    """Recompute, attach, and print the digests."""
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import load_signer
    from slipway_cli.home import store_folder
    from slipway_signals.gate.attesting import attest_evidence

    attested = attest_evidence(
        Store.open(store_folder(os.environ)),
        ref,
        file.read_bytes(),
        signer=load_signer(key, environ=os.environ, public=public) if key else None,
    )
    terminal.document(attested)
    signed = "signed" if attested.is_signed else "not signed"
    terminal.say(f"evidence of {ref}: {attested.verdict}")
    terminal.result(attested.evidence)
    terminal.say(f"statement, {signed}: {attested.statement}")
    terminal.result(attested.statement)
