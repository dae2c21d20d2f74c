"""The platform image: `slipway`, its verdict service, policy webhook, splitter and load tests, for a cluster to run.

    .venv/bin/python scripts/platform_image.py --base REGISTRY/python@sha256:… --push registry.example.com/slipway

It is made of requirements.lock, the workspace's members and a base image with Python, without an engine and without
root; nothing of a package runs. The invariant: the same working tree and base give the same digest on any machine.
Prints the reference by digest: what `platform/` deploys. docs/platform-image.md
"""

import argparse
import os
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from slipway_bundle.environment import load_environment
from slipway_bundle.errors import SlipwayError
from slipway_bundle.image.programs import Command, ProgramsImage, make_programs_image, merge_environments
from slipway_bundle.image.settings import ImageOptions
from slipway_bundle.registry import copy
from slipway_bundle.store import Store

ROOT: Final = Path(__file__).resolve().parent.parent
ROOMS: Final = ("libs/cli", "loadtests")
"""Whose environments it has; they bring the other members."""
COMMAND: Final = Command("slipway", "slipway_cli.main:main")


def main(arguments: Sequence[str]) -> int:
    """Build, push, print; the exit status."""
    options = parsed(arguments)
    started = time.monotonic()
    try:
        made = build(options.out, options.wheels, options.base, tuple(options.platform or ()), options.compression)
        say(f"built in {time.monotonic() - started:.1f} s: {words_of(made)}")
        reference = f"oci:{options.out}@{made.digest}"
        if options.push:
            source = f"oci:{options.out}:{made.ref}"
            place = options.push if ":" in options.push.rpartition("/")[2] else f"{options.push}:{version()}"
            pushed = copy(source, place, environ=os.environ, replaces=True, is_insecure=options.insecure)
            say(f"pushed: {pushed.sent_bytes / 1e6:.1f} MB sent, {pushed.present_bytes / 1e6:.1f} MB were there")
            reference = pushed.ref
    except SlipwayError as error:
        say(f"error: {error}")
        return error.exit_status
    if options.json:
        document = {"reference": reference, "image": made}
        sys.stdout.buffer.write(msgspec.json.encode(document, order="deterministic") + b"\n")
    else:
        sys.stdout.write(f"{reference}\n")
    return 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="platform_image.py", description=__doc__.partition("\n")[0])
    base = os.environ.get("SLIPWAY_PLATFORM_BASE")
    parser.add_argument("--base", default=base, help="an image with Python, by digest  [$SLIPWAY_PLATFORM_BASE]")
    parser.add_argument("--push", metavar="HOST/REPOSITORY[:TAG]", help="where it is pushed; the tag is our version")
    parser.add_argument("--platform", action="append", help="linux/amd64 or linux/arm64; may be repeated  [both]")
    parser.add_argument("--compression", choices=("zstd", "gzip", "none"), default="zstd", help="of its layers  [zstd]")
    parser.add_argument("--out", type=Path, default=ROOT / ".tools" / "platform-image", help="the OCI layout it is in")
    parser.add_argument("--wheels", type=Path, default=ROOT / ".tools" / "wheels", help="where wheels are kept")
    parser.add_argument("--insecure", action="store_true", help="push by plain HTTP to another machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def build(
    out: Path, wheels: Path, base: str | None, platforms: tuple[str, ...], compression: str = "zstd"
) -> ProgramsImage:
    """The image in the layout `out`; raises as `make_programs_image`."""
    programs = merge_environments([load_environment(ROOT / room) for room in ROOMS])
    options = msgspec.convert(
        {"wheels": wheels, "base": base, "platforms": platforms or None, "compression": compression}, ImageOptions
    )
    return make_programs_image(
        Store.open(out), f"slipway:{version()}", programs, options, command=COMMAND, environ=os.environ
    )


def version() -> str:
    """Of the command."""
    return str(tomllib.loads((ROOT / "libs/cli/pyproject.toml").read_text("utf-8"))["project"]["version"])


def words_of(made: ProgramsImage) -> str:
    """What it holds, in a line."""
    image = made.images[0]
    new = sum(layer.size for image in made.images for layer in image.layers if layer.is_new)
    above = ", ".join(f"{one.above_base_bytes() / 1e6:.1f} MB above the base for {one.platform}" for one in made.images)
    return f"{len(image.packages)} packages, {above}, {new / 1e6:.1f} MB new"


def say(text: str) -> None:
    """A line of words."""
    sys.stderr.write(f"platform image: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
