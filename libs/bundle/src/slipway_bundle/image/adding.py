"""Adding runnable images to a bundle: its content stays what it is, its index gets children of the role `image`.

    options = ImageOptions(wheels=home / "wheels", base="registry.example.com/python@sha256:…")
    imaged = add_images(store, "churn:1.0.0", options, environ=os.environ)

It imports no user code and needs no daemon and no root. The invariants: the same bundle, base and lock give the same
index digest, whoever builds; the weights and the code are the blobs that the bundle already has; the name moves last,
by one rename, and only to an index of the same content that nobody has signed yet.

Layers, from the bottom: base, environment, weights, slipway, code, documents. What is big lies below what is small and
changes more often: a layer's place in a container runtime's cache follows from all layers below it (OCI image-spec
v1.1.1, config.md, "Layer ChainID"), so a new line of code must never make a node unpack the weights again.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.assembly import CONTENT_DIGEST, IMAGE, ROLE, describe, with_images
from slipway_bundle.canonical import canonical_json, decode_json
from slipway_bundle.digest import Digest
from slipway_bundle.errors import ConfigError
from slipway_bundle.image.archives import ENVELOPE, USER, Archive, LayerWriter, put_archive, remembered
from slipway_bundle.image.bases import Base, check_source, pull_base
from slipway_bundle.image.installing import (
    PYTHON,
    install_members,
    install_wheels,
    make_venv,
    members_of,
    require_tools,
)
from slipway_bundle.image.settings import (
    Compression,
    Image,
    Imaged,
    ImageLayer,
    ImageOptions,
    ImagePackage,
    ImageSettings,
)
from slipway_bundle.image.wheels import Wheel, fetch_wheels
from slipway_bundle.inputs import Announce
from slipway_bundle.layers import LayerFile
from slipway_bundle.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    History,
    ImageConfig,
    Platform,
    RootFs,
    RunConfig,
    make_manifest,
)
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.requirements import parse_lock
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.targets import packages_for
from slipway_bundle.unpacked import ATTACHMENTS, DOCUMENTS, MANIFEST

__all__ = ["add_images"]

OWN_LAYER_BYTES: Final = 5 << 20
"""A wheel of this size or more is a layer by itself: all services with that wheel share it, and it is packed beside
the others."""

THREADS: Final = 4
"""Layers that are packed at once: inflating, hashing and compressing hold no lock of the interpreter."""

BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
BASE_NAME: Final = "org.opencontainers.image.base.name"
PYTHON_VERSION: Final = "io.slipway.python"

ENVIRONMENT_FILE: Final = f"{DOCUMENTS}/environment.json"
"""Which wheels the environment is made of."""


class _Layer(Struct, frozen=True, kw_only=True):
    role: str
    descriptor: Descriptor
    diff_id: str


def add_images(
    store: Store,
    ref: str,
    options: ImageOptions,
    *,
    environ: Mapping[str, str],
    progress: Progress = QUIET,
    announce: Announce = lambda _step, _bytes: None,
) -> Imaged:
    """Builds the images of the bundle that `ref` means and publishes it with them, under the same name.

    Args:
        store: Where the bundle is.
        ref: Any form that means one bundle.
        options: What the caller chooses; the rest is the bundle's `[runtime.image]`.
        environ: Of pip and of the registry's client: proxies, certificates, credentials.
        progress: Told the bytes that are pulled.
        announce: Told when a step begins.

    Raises:
        UsageError: The reference, the base or a platform is wrong; a wheel or a member is missing.
        ImageSignedError: Somebody has signed the bundle as it is: sign after the images.
        IntegrityError: The bundle, the base or a wheel is damaged.
        HostError: `slipway-bundle[image]` is not installed; disk full, not allowed, no network.
    """
    require_tools()
    bundle = read_bundle(store, ref)
    found = store.find(ref)
    settings = _settings(store, bundle)
    source = check_source(options.base or settings.base)
    platforms = options.platforms or settings.platforms
    compression = options.compression or settings.compression
    with store.lease():
        before = frozenset(f"sha256:{path.name}" for path in store.layout.blobs.iterdir())
        announce("base", 0)
        bases = [pull_base(source, store, platform, environ=environ, progress=progress) for platform in platforms]
        images, children = [], []
        for base in bases:
            announce(f"wheels {base.target.text}", 0)
            locked = parse_lock(bundle.attachment(store, "environment-lock").decode(), where="environment-lock")
            wheels = fetch_wheels(packages_for(locked, base.target), base.target, options.wheels, environ=environ)
            announce(f"layers {base.target.text}", 0)
            image, child = _Build(store, bundle, base, wheels, compression, before).image()
            images.append(image)
            children.append(child)
        announce("publish", 0)
        index = store.put_json(with_images(bundle.index, tuple(children)), INDEX_TYPE)
        content = bundle.manifest.content_digest
        published = replace(index, annotations={ROLE: "bundle", CONTENT_DIGEST: content})
        store.publish(found.text, published, replaces_same_content=True)
    return Imaged(
        ref=found.text,
        digest=Digest(index.digest),
        content_digest=content,
        is_new=index.digest != found.digest,
        images=tuple(images),
    )


def _settings(store: Store, bundle: StoredBundle) -> ImageSettings:
    if bundle.manifest.attachment("runtime") is None:
        return ImageSettings()
    runtime = decode_json(bundle.attachment(store, "runtime"), dict[str, object], what="attachment runtime")
    try:
        return msgspec.convert(runtime.get("image", {}), ImageSettings)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"`[runtime.image]` of bundle {bundle.manifest.name}:{bundle.manifest.version} is wrong: {error}",
            hint=f"it has the keys {', '.join(ImageSettings.__struct_fields__)}; correct slipway.toml and build again",
        ) from error


class _Build:
    """The image of one bundle for one platform; the methods are in the order of its layers."""

    def __init__(
        self,
        store: Store,
        bundle: StoredBundle,
        base: Base,
        wheels: Sequence[Wheel],
        compression: Compression,
        before: frozenset[str],
    ) -> None:
        self._store = store
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._base = base
        self._wheels = sorted(wheels, key=lambda wheel: wheel.name)
        self._compression: Compression = compression
        self._before = before

    def image(self) -> tuple[Image, Descriptor]:
        """Stores the image; what it is, and its descriptor as a child of the bundle."""
        layers = [
            *self._base_layers(),
            *self._environment(),
            *self._weights(),
            self._slipway(),
            self._code(),
            self._documents(),
        ]
        annotations = self._annotations()
        config = self._store.put_json(self._config(layers, annotations), CONFIG_TYPE)
        document = make_manifest(config, tuple(layer.descriptor for layer in layers), annotations=annotations)
        child = self._store.put_json(document, MANIFEST_TYPE)
        packages = sorted(self._wheels, key=lambda wheel: (-wheel.size, wheel.name))
        image = Image(
            platform=self._base.target.text,
            digest=Digest(child.digest),
            base=self._base.digest,
            python=self._base.target.python,
            layers=tuple(
                ImageLayer(
                    role=layer.role,
                    digest=Digest(layer.descriptor.digest),
                    size=layer.descriptor.size,
                    is_new=layer.descriptor.digest not in self._before,
                )
                for layer in layers
            ),
            packages=tuple(map(_package, packages)),
        )
        return image, replace(
            child,
            platform=Platform(architecture=self._base.target.architecture, os="linux", variant=self._base.variant),
            annotations={ROLE: IMAGE},
        )

    def _base_layers(self) -> list[_Layer]:
        pairs = zip(self._base.layers, self._base.diff_ids, strict=True)
        return [_Layer(role="base", descriptor=layer, diff_id=diff_id) for layer, diff_id in pairs]

    def _environment(self) -> list[_Layer]:
        """The virtual environment and its wheels: big ones alone, so that other services share them."""
        small = [wheel for wheel in self._wheels if wheel.size < OWN_LAYER_BYTES]
        groups = [small, *([wheel] for wheel in self._wheels if wheel.size >= OWN_LAYER_BYTES)]
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(self._environment_layer, groups))

    def _environment_layer(self, group: Sequence[Wheel]) -> _Layer:
        has_venv = all(wheel.size < OWN_LAYER_BYTES for wheel in group)
        interpreter = self._base.interpreter if has_venv else ""

        def fill(layer: LayerWriter) -> None:
            if has_venv:
                make_venv(interpreter, self._base.target, layer)
            install_wheels(group, self._base.target, layer)

        recipe = [*_tools(), self._compression, self._base.target.python, interpreter, *(one.sha256 for one in group)]
        return _layer(
            "environment",
            remembered(self._store, recipe, lambda: put_archive(self._store, fill, self._compression)),
        )

    def _weights(self) -> list[_Layer]:
        """The blobs of the child `model`, not compressed, as they are."""
        return [self._shared("weights", layer) for layer in self._bundle.children["model"][0].layers]

    def _slipway(self) -> _Layer:
        """The members of the workspace; they are read to know whether they changed, and are small."""

        def fill(layer: LayerWriter) -> None:
            install_members(members_of(self._manifest), self._base.target, layer)

        return _layer("slipway", put_archive(self._store, fill, self._compression))

    def _code(self) -> _Layer:
        return self._shared("code", self._bundle.layers()[self._manifest.service.layer])

    def _documents(self) -> _Layer:
        """What the server reads: the manifest, its attachments, and which wheels there are."""
        wheels = msgspec.to_builtins([_package(wheel) for wheel in self._wheels])
        environment = {"platform": self._base.target.text, "python": self._base.target.python, "wheels": wheels}
        files = [
            LayerFile(MANIFEST, self._store.read(Digest(self._bundle.children["manifest"][0].config.digest))),
            LayerFile(ENVIRONMENT_FILE, canonical_json(environment)),
            *(
                LayerFile(f"{ATTACHMENTS}/{item.name}", self._bundle.attachment(self._store, item.name))
                for item in self._manifest.attachments
            ),
        ]
        return self._shared("documents", self._store.put_layer(files).descriptor)

    def _shared(self, role: str, layer: Descriptor) -> _Layer:
        """A layer of the bundle, which is a plain tar."""
        plain = Descriptor(media_type=LAYER_TYPE, digest=layer.digest, size=layer.size)
        return _Layer(role=role, descriptor=plain, diff_id=layer.digest)

    def _annotations(self) -> dict[str, str]:
        return {
            **describe(self._manifest),
            # A layout's name is a path of this machine, so it has none.
            **({BASE_NAME: self._base.repository} if self._base.repository else {}),
            BASE_DIGEST: self._base.digest,
            PYTHON_VERSION: self._base.target.python,
        }

    def _config(self, layers: Sequence[_Layer], annotations: dict[str, str]) -> ImageConfig:
        own = tuple(
            History(created=self._manifest.created, created_by=f"slipway bundle image: {layer.role}")
            for layer in layers
            if layer.role != "base"
        )
        # A history that does not fit its layers is one that other tools refuse.
        told = sum(not step.empty_layer for step in self._base.history) == len(self._base.layers)
        return ImageConfig(
            architecture=self._base.target.architecture,
            os="linux",
            variant=self._base.variant,
            created=self._manifest.created,
            rootfs=RootFs(type="layers", diff_ids=tuple(Digest(layer.diff_id) for layer in layers)),
            history=(*self._base.history, *own) if told else (),
            config=RunConfig(
                user=f"{USER}:{USER}",
                exposed_ports={"8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}},
                # Loopback would be nobody's; byte code has no place to go where the root is read-only.
                env=(*self._base.env, "PYTHONDONTWRITEBYTECODE=1", "SLIPWAY_HOST=0.0.0.0"),
                entrypoint=(PYTHON, "-m", "slipway_serve", "/"),
                working_dir="/",
                labels=annotations,
                stop_signal="SIGTERM",
            ),
        )


def _tools() -> list[str]:
    """What else the bytes of an environment follow from."""
    return [ENVELOPE, *(f"{name} {importlib.metadata.version(name)}" for name in ("installer", "zstandard"))]


def _layer(role: str, archive: Archive) -> _Layer:
    return _Layer(role=role, descriptor=archive.descriptor, diff_id=archive.diff_id)


def _package(wheel: Wheel) -> ImagePackage:
    return ImagePackage(
        name=wheel.name, version=wheel.version, wheel=wheel.path.name, sha256=wheel.sha256, size=wheel.size
    )
