"""An image of programs: members of a workspace with their locked environment, and one of their commands to begin with.

    environment = merge_environments([load_environment(Path("libs/cli")), load_environment(Path("loadtests"))])
    command = Command("slipway", "slipway_cli.main:main")
    made = make_programs_image(store, "slipway:0.1.0", environment, options, command=command, environ=os.environ)

It is no bundle: nothing is served from it by itself, and a policy about bundles does not judge it. As images of bundles
it needs neither an engine nor root, and nothing of a package runs. The invariant: the same lock, members and base give
the same index digest, whoever builds; no time of a clock is in it.

Layers, from the bottom: base, environment, programs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.digest import Digest
from slipway_bundle.environment import Environment
from slipway_bundle.errors import LockError, UsageError
from slipway_bundle.image.archives import USER, LayerWriter, put_archive
from slipway_bundle.image.bases import Base, check_source, pull_base
from slipway_bundle.image.installing import PYTHON, VENV, install_members, require_tools
from slipway_bundle.image.layering import (
    ENVIRONMENT_FILE,
    base_annotations,
    base_layers,
    environment_document,
    environment_layers,
    layer_of,
    put_image,
)
from slipway_bundle.image.settings import Compression, Image, ImageOptions
from slipway_bundle.image.wheels import Wheel, fetch_wheels
from slipway_bundle.inputs import Announce
from slipway_bundle.manifest import Package
from slipway_bundle.oci import INDEX_TYPE, Descriptor, Platform, RunConfig, make_index
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.references import split_ref
from slipway_bundle.requirements import Locked, parse_lock
from slipway_bundle.store import Store
from slipway_bundle.targets import packages_for

__all__ = ["Command", "ProgramsEnvironment", "ProgramsImage", "make_programs_image", "merge_environments"]

PLATFORMS: Final = ("linux/amd64", "linux/arm64")

SCRIPT: Final = """\
#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""
"""What an installer writes for a console script; the first line is the environment's own interpreter."""

_ENTRY: Final = re.compile(r"^([A-Za-z_][\w.]*):([A-Za-z_]\w*)\Z")


class ProgramsEnvironment(Struct, frozen=True, kw_only=True):
    """What several members of one workspace need together."""

    locked: tuple[Locked, ...]
    members: tuple[Package, ...]


class Command(Struct, frozen=True):
    """A console script, and what a container of the image begins with."""

    name: str
    entry: str
    """`package.module:function`; what it returns is the exit status."""


class ProgramsImage(Struct, frozen=True, kw_only=True):
    """What was made; the object of `--json`."""

    ref: str
    digest: Digest
    """Of the index: what is pushed and deployed."""

    is_new: bool
    images: tuple[Image, ...]


def merge_environments(environments: Sequence[Environment]) -> ProgramsEnvironment:
    """The union of environments that were cut out of one lock.

    Raises:
        LockError: Two of them have another version of one package.
    """
    blocks: dict[tuple[str, str | None], Locked] = {}
    for environment in environments:
        for block in parse_lock(environment.lock, where="the lock"):
            known = blocks.setdefault((block.name, block.marker), block)
            if (known.version, known.hashes) != (block.version, block.hashes):
                raise LockError(f"{block.name} is {known.version} and {block.version}: the environments have two locks")
    members = {member.name: member for environment in environments for member in environment.members}
    return ProgramsEnvironment(
        locked=tuple(blocks[key] for key in sorted(blocks, key=lambda key: (key[0], key[1] or ""))),
        members=tuple(members[name] for name in sorted(members)),
    )


def make_programs_image(
    store: Store,
    ref: str,
    programs: ProgramsEnvironment,
    options: ImageOptions,
    *,
    command: Command,
    environ: Mapping[str, str],
    progress: Progress = QUIET,
    announce: Announce = lambda _step, _bytes: None,
) -> ProgramsImage:
    """Builds the images and publishes their index under `ref`, which moves when it was another one.

    Args:
        store: A layout of its own; other tools may read it.
        ref: `NAME:VERSION`.
        programs: Which wheels and members.
        options: Base, platforms, compression, and where wheels are kept.
        command: What the image begins with.
        environ: Of pip and of the registry's client.
        progress: Told the bytes that are pulled.
        announce: Told when a step begins.

    Raises:
        UsageError: The reference, the base or a platform is wrong; a wheel or a member is missing.
        IntegrityError: The base or a wheel is damaged.
        HostError: `slipway-bundle[image]` is not installed; disk full, not allowed, no network.
    """
    require_tools()
    split_ref(ref)
    entry = _ENTRY.match(command.entry)
    if entry is None:
        raise UsageError(f"the command {command.entry!r} is no `package.module:function`")
    source = check_source(options.base)
    with store.lease():
        before = frozenset(f"sha256:{path.name}" for path in store.layout.blobs.iterdir())
        images, children = [], []
        for platform in options.platforms or PLATFORMS:
            announce(f"base {platform}", 0)
            base = pull_base(source, store, platform, environ=environ, progress=progress)
            announce(f"wheels {platform}", 0)
            found = fetch_wheels(
                packages_for(programs.locked, base.target), base.target, options.wheels, environ=environ
            )
            wheels = sorted(found, key=lambda wheel: wheel.name)
            announce(f"layers {platform}", 0)
            script = SCRIPT.format(python=PYTHON, module=entry[1], function=entry[2])
            image, child = _image(
                store, ref, base, wheels, programs.members, command.name, script, options.compression or "zstd", before
            )
            images.append(image)
            children.append(child)
        index = store.put_json(make_index(tuple(children), annotations=_titles(ref)), INDEX_TYPE)
        is_new = store.publish(ref, index, replaces=True)
    return ProgramsImage(ref=ref, digest=Digest(index.digest), is_new=is_new, images=tuple(images))


def _image(
    store: Store,
    ref: str,
    base: Base,
    wheels: Sequence[Wheel],
    members: Sequence[Package],
    name: str,
    script: str,
    compression: Compression,
    before: frozenset[str],
) -> tuple[Image, Descriptor]:
    def fill(layer: LayerWriter) -> None:
        install_members(members, base.target, layer)
        layer.add(f"{VENV}/bin/{name}", script.encode(), is_program=True)
        layer.add(ENVIRONMENT_FILE, environment_document(base, wheels))

    layers = [
        *base_layers(base),
        *environment_layers(store, base, wheels, compression),
        layer_of("programs", put_archive(store, fill, compression)),
    ]
    annotations = {**_titles(ref), **base_annotations(base)}
    run = RunConfig(
        user=f"{USER}:{USER}",
        env=(*base.env, "PYTHONDONTWRITEBYTECODE=1"),  # byte code has no place to go where the root is read-only
        entrypoint=(f"/{VENV}/bin/{name}",),
        working_dir="/",
        labels=annotations,
        stop_signal="SIGTERM",
    )
    image, child = put_image(
        store,
        base,
        layers,
        wheels,
        run,
        made_by="slipway programs image",
        annotations=annotations,
        created=None,
        before=before,
    )
    return image, replace(
        child, platform=Platform(architecture=base.target.architecture, os="linux", variant=base.variant)
    )


def _titles(ref: str) -> dict[str, str]:
    name, version = split_ref(ref)
    return {"org.opencontainers.image.title": name, "org.opencontainers.image.version": version}
