"""`slipway bundle pull`: a bundle of a registry comes into the local store."""

import os
import time

import click

from slipway_cli.terminal import Terminal, lines_of, size_text
from slipway_cli.verbs import Verb

WITHOUT_IMAGES = frozenset({"manifest", "model", "modelcar"})


@click.command(
    cls=Verb,
    short_help="Bring a bundle from a registry.",
    help="Bring a bundle, and everything that refers to it, from a registry or a layout on disk.\n\n"
    "Prints its reference in the local store. Every byte is verified while it arrives, what was cut off is continued, "
    "and the nearest policy.toml is asked before any layer comes.",
    examples=(
        ("slipway bundle pull registry.example.com/team/churn:1.0.0", "prints churn:1.0.0"),
        ("slipway bundle pull registry.example.com/churn@sha256:…", "exactly that one"),
        ("slipway bundle pull --without-images oci:/media/disk:churn:1.0.0", "what serving needs, no more"),
    ),
)
@click.argument("source")
@click.option("--name", metavar="NAME:VERSION", help="What to call it here.  [default: what its manifest says]")
@click.option("--without-images", is_flag=True, help="Leave out the layers of runnable images.")
@click.option("--policy", metavar="FILE", help="What may come.  [default: policy.toml here or above]")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to another machine.")
@click.pass_obj
def pull(
    terminal: Terminal, source: str, *, name: str | None, without_images: bool, policy: str | None, insecure: bool
) -> None:
    """Pull, and print the local reference."""
    from slipway_bundle.registry import pull as pull_bundle
    from slipway_bundle.store import Store
    from slipway_cli.home import policy_of, store_folder

    started = time.monotonic()
    store = Store.open(store_folder(os.environ))
    with terminal.bar() as bar:
        pulled = pull_bundle(
            source,
            store,
            environ=os.environ,
            roles=WITHOUT_IMAGES if without_images else None,
            name=name,
            policy=policy_of(policy, os.environ),
            progress=bar,
            announce=bar.begin,
            is_insecure=insecure,
        )
    terminal.document(pulled)
    terminal.result(pulled.ref)
    without = f"; without {', '.join(pulled.absent)}" if pulled.absent else ""
    terminal.say(
        f"{'pulled' if pulled.is_new else 'unchanged'} in {time.monotonic() - started:.1f} s: "
        f"{size_text(pulled.fetched_bytes)} came, {size_text(pulled.present_bytes)} were here; "
        f"{lines_of(pulled.referrers, 'referrer')}{without}"
    )
    terminal.say(f"digest {pulled.digest}")
