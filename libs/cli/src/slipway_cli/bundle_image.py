"""`slipway bundle image`: a bundle gets runnable images, without a container engine."""

import os
import time
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal, size_text
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.image.settings import Image

SHOWN_PACKAGES = 5
"""The largest wheels: what a person would take out first."""


@click.command(
    cls=Verb,
    short_help="Add runnable images to a bundle.",
    help="Add runnable OCI images to a bundle and print its reference by digest.\n\n"
    "Needs no container engine and no root. The images have the base, the wheels of the bundle's lock, its weights and "
    "its code; the bundle keeps its name and its content digest, and its index has another digest from then on: sign "
    "after this. The base is `[runtime.image] base` of slipway.toml unless given here.",
    examples=(
        ("slipway bundle image churn --base REGISTRY/python@sha256:…", "for linux/amd64 and linux/arm64"),
        ("slipway bundle image churn --base oci:base --platform linux/amd64", "a base on this disk, one platform"),
    ),
)
@click.argument("ref")
@click.option("--base", metavar="IMAGE", help="Base with Python: REGISTRY/REPOSITORY@sha256:… or oci:FOLDER[:TAG].")
@click.option(
    "--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Build for this one; may be given again."
)
@click.option(
    "--compression",
    type=click.Choice(("zstd", "gzip", "none")),
    help="Of the environment's layers; gzip and none are for old readers.  [default: zstd]",
)
@click.pass_obj
def image(
    terminal: Terminal, ref: str, *, base: str | None, platforms: tuple[str, ...], compression: str | None
) -> None:
    """Build the images, and print the reference."""
    import msgspec

    from slipway_bundle.image.adding import add_images
    from slipway_bundle.image.settings import ImageOptions
    from slipway_bundle.store import Store
    from slipway_cli.home import home_folder, store_folder

    started = time.monotonic()
    chosen = {"wheels": home_folder(os.environ) / "wheels", "base": base, "compression": compression}
    options = msgspec.convert({**chosen, "platforms": platforms or None}, ImageOptions)
    with terminal.bar() as bar:
        made = add_images(
            Store.open(store_folder(os.environ)), ref, options, environ=os.environ, progress=bar, announce=bar.begin
        )
    terminal.document(made)
    terminal.result(f"{made.ref}@{made.digest}")
    what = "added" if made.is_new else "unchanged:"
    terminal.say(f"{what} {len(made.images)} images of {made.ref} in {time.monotonic() - started:.1f} s")
    for one in made.images:
        _say(terminal, one)


def _say(terminal: Terminal, image: "Image") -> None:
    fresh = sum(layer.size for layer in image.layers if layer.is_new)
    terminal.say(
        f"{image.platform}  Python {image.python}, {size_text(image.above_base_bytes())} above the base, "
        f"{size_text(fresh)} new"
    )
    largest = ", ".join(f"{package.name} {size_text(package.size)}" for package in image.packages[:SHOWN_PACKAGES])
    terminal.say(f"  largest wheels: {largest or 'none'}")
    for layer in image.layers:
        terminal.detail(f"  {layer.role:<12} {size_text(layer.size):>9}  {layer.digest}")
