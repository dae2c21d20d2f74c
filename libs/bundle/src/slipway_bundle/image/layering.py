"""The layers that every image of ours has below what it is for: the base as it is, and an environment of wheels.

It knows neither bundles nor programs. The invariant: the layers follow from the base, the wheels and the compression,
so two images with one environment share its blobs.
"""

import importlib.metadata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
from msgspec import Struct

from slipway_bundle.canonical import canonical_json
from slipway_bundle.digest import Digest
from slipway_bundle.image.archives import ENVELOPE, Archive, LayerWriter, put_archive, remembered
from slipway_bundle.image.bases import Base
from slipway_bundle.image.installing import install_wheels, make_venv
from slipway_bundle.image.settings import Compression, Image, ImageLayer, ImagePackage
from slipway_bundle.image.wheels import Wheel
from slipway_bundle.oci import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    History,
    ImageConfig,
    RootFs,
    RunConfig,
    make_manifest,
)
from slipway_bundle.store import Store
from slipway_bundle.unpacked import DOCUMENTS

__all__ = [
    "ENVIRONMENT_FILE",
    "BuiltLayer",
    "base_annotations",
    "base_layers",
    "environment_document",
    "environment_layers",
    "layer_of",
    "put_image",
]

BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
BASE_NAME: Final = "org.opencontainers.image.base.name"
PYTHON_VERSION: Final = "io.slipway.python"

ENVIRONMENT_FILE: Final = f"{DOCUMENTS}/environment.json"
"""Which wheels the environment is made of."""

OWN_LAYER_BYTES: Final = 5 << 20
"""A wheel of this size or more is a layer by itself: all services with that wheel share it, and it is packed beside
the others."""

THREADS: Final = 4
"""Layers that are packed at once: inflating, hashing and compressing hold no lock of the interpreter."""


class BuiltLayer(Struct, frozen=True, kw_only=True):
    """A stored layer of an image."""

    role: str
    descriptor: Descriptor
    diff_id: str


def base_layers(base: Base) -> list[BuiltLayer]:
    """Those of the base, byte for byte."""
    pairs = zip(base.layers, base.diff_ids, strict=True)
    return [BuiltLayer(role="base", descriptor=layer, diff_id=diff_id) for layer, diff_id in pairs]


def environment_layers(store: Store, base: Base, wheels: Sequence[Wheel], compression: Compression) -> list[BuiltLayer]:
    """The virtual environment and its wheels: big ones alone, so that other images share them. The caller has a lease.

    Raises:
        WheelMismatchError: A wheel changed in the cache, or breaks the format.
        HostError: Disk full, not allowed.
    """
    small = [wheel for wheel in wheels if wheel.size < OWN_LAYER_BYTES]
    groups = [small, *([wheel] for wheel in wheels if wheel.size >= OWN_LAYER_BYTES)]

    def build(group: Sequence[Wheel]) -> BuiltLayer:
        has_venv = all(wheel.size < OWN_LAYER_BYTES for wheel in group)
        interpreter = base.interpreter if has_venv else ""

        def fill(layer: LayerWriter) -> None:
            if has_venv:
                make_venv(interpreter, base.target, layer)
            install_wheels(group, base.target, layer)

        recipe = [*_tools(), compression, base.target.python, interpreter, *(one.sha256 for one in group)]
        return layer_of("environment", remembered(store, recipe, lambda: put_archive(store, fill, compression)))

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(build, groups))


def layer_of(role: str, archive: Archive) -> BuiltLayer:
    """A layer that was packed."""
    return BuiltLayer(role=role, descriptor=archive.descriptor, diff_id=archive.diff_id)


def environment_document(base: Base, wheels: Sequence[Wheel]) -> bytes:
    """Which platform, Python and wheels an environment has, as the image itself says it."""
    listed = msgspec.to_builtins([_package(wheel) for wheel in wheels])
    return canonical_json({"platform": base.target.text, "python": base.target.python, "wheels": listed})


def base_annotations(base: Base) -> dict[str, str]:
    """What an image says of its base; a layout's name is a path of this machine, so it has none."""
    named = {BASE_NAME: base.repository} if base.repository else {}
    return {**named, BASE_DIGEST: base.digest, PYTHON_VERSION: base.target.python}


def put_image(
    store: Store,
    base: Base,
    layers: Sequence[BuiltLayer],
    wheels: Sequence[Wheel],
    run: RunConfig,
    *,
    made_by: str,
    annotations: dict[str, str],
    created: str | None,
    before: frozenset[str],
) -> tuple[Image, Descriptor]:
    """Stores the image of these layers; what it is, and the descriptor of its manifest.

    Args:
        store: With all of the layers.
        base: The layers of the role `base` are its.
        layers: From the bottom up.
        wheels: Of its environment.
        run: How a container of it starts.
        made_by: What its history says of our own layers.
        annotations: Of its manifest.
        created: RFC 3339; None leaves it out.
        before: Digests that were there before: layers that are not new.
    """
    own = tuple(
        History(created=created, created_by=f"{made_by}: {layer.role}") for layer in layers if layer.role != "base"
    )
    # A history that does not fit its layers is one that other tools refuse.
    told = sum(not step.empty_layer for step in base.history) == len(base.layers)
    config = ImageConfig(
        architecture=base.target.architecture,
        os="linux",
        variant=base.variant,
        created=created,
        rootfs=RootFs(type="layers", diff_ids=tuple(Digest(layer.diff_id) for layer in layers)),
        history=(*base.history, *own) if told else (),
        config=run,
    )
    document = make_manifest(
        store.put_json(config, CONFIG_TYPE), tuple(layer.descriptor for layer in layers), annotations=annotations
    )
    child = store.put_json(document, MANIFEST_TYPE)
    image = Image(
        platform=base.target.text,
        digest=Digest(child.digest),
        base=base.digest,
        python=base.target.python,
        layers=tuple(
            ImageLayer(
                role=layer.role,
                digest=Digest(layer.descriptor.digest),
                size=layer.descriptor.size,
                is_new=layer.descriptor.digest not in before,
            )
            for layer in layers
        ),
        packages=tuple(map(_package, sorted(wheels, key=lambda wheel: (-wheel.size, wheel.name)))),
    )
    return image, child


def _package(wheel: Wheel) -> ImagePackage:
    return ImagePackage(
        name=wheel.name, version=wheel.version, wheel=wheel.path.name, sha256=wheel.sha256, size=wheel.size
    )


def _tools() -> list[str]:
    """What else the bytes of an environment follow from."""
    return [ENVELOPE, *(f"{name} {importlib.metadata.version(name)}" for name in ("installer", "zstandard"))]
