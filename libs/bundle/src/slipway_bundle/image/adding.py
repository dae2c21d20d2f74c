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

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from slipway_bundle.assembly import CONTENT_DIGEST, IMAGE, ROLE, describe, with_images
from slipway_bundle.canonical import decode_json
from slipway_bundle.digest import Digest
from slipway_bundle.errors import ConfigError
from slipway_bundle.image.archives import USER, LayerWriter, put_archive
from slipway_bundle.image.bases import Base, check_source, pull_base
from slipway_bundle.image.installing import PYTHON, install_members, members_of, require_tools
from slipway_bundle.image.layering import (
    ENVIRONMENT_FILE,
    BuiltLayer,
    base_annotations,
    base_layers,
    environment_document,
    environment_layers,
    layer_of,
    put_image,
)
from slipway_bundle.image.settings import Compression, Image, Imaged, ImageOptions, ImageSettings
from slipway_bundle.image.wheels import Wheel, fetch_wheels
from slipway_bundle.inputs import Announce
from slipway_bundle.layers import LayerFile
from slipway_bundle.oci import INDEX_TYPE, LAYER_TYPE, Descriptor, Platform, RunConfig
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.requirements import parse_lock
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.targets import packages_for
from slipway_bundle.unpacked import ATTACHMENTS, MANIFEST

__all__ = ["add_images"]


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
            *base_layers(self._base),
            *environment_layers(self._store, self._base, self._wheels, self._compression),
            *self._weights(),
            self._slipway(),
            self._code(),
            self._documents(),
        ]
        annotations = self._annotations()
        image, child = put_image(
            self._store,
            self._base,
            layers,
            self._wheels,
            self._run_config(annotations),
            made_by="slipway bundle image",
            annotations=annotations,
            created=self._manifest.created,
            before=self._before,
        )
        return image, replace(
            child,
            platform=Platform(architecture=self._base.target.architecture, os="linux", variant=self._base.variant),
            annotations={ROLE: IMAGE},
        )

    def _weights(self) -> list[BuiltLayer]:
        """The blobs of the child `model`, not compressed, as they are."""
        return [self._shared("weights", layer) for layer in self._bundle.children["model"][0].layers]

    def _slipway(self) -> BuiltLayer:
        """The members of the workspace; they are read to know whether they changed, and are small."""

        def fill(layer: LayerWriter) -> None:
            install_members(members_of(self._manifest), self._base.target, layer)

        return layer_of("slipway", put_archive(self._store, fill, self._compression))

    def _code(self) -> BuiltLayer:
        return self._shared("code", self._bundle.layers()[self._manifest.service.layer])

    def _documents(self) -> BuiltLayer:
        """What the server reads: the manifest, its attachments, and which wheels there are."""
        files = [
            LayerFile(MANIFEST, self._store.read(Digest(self._bundle.children["manifest"][0].config.digest))),
            LayerFile(ENVIRONMENT_FILE, environment_document(self._base, self._wheels)),
            *(
                LayerFile(f"{ATTACHMENTS}/{item.name}", self._bundle.attachment(self._store, item.name))
                for item in self._manifest.attachments
            ),
        ]
        return self._shared("documents", self._store.put_layer(files).descriptor)

    def _shared(self, role: str, layer: Descriptor) -> BuiltLayer:
        """A layer of the bundle, which is a plain tar."""
        plain = Descriptor(media_type=LAYER_TYPE, digest=layer.digest, size=layer.size)
        return BuiltLayer(role=role, descriptor=plain, diff_id=layer.digest)

    def _annotations(self) -> dict[str, str]:
        return {**describe(self._manifest), **base_annotations(self._base)}

    def _run_config(self, annotations: dict[str, str]) -> RunConfig:
        return RunConfig(
            user=f"{USER}:{USER}",
            exposed_ports={"8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}},
            # Loopback would be nobody's; byte code has no place to go where the root is read-only.
            env=(*self._base.env, "PYTHONDONTWRITEBYTECODE=1", "SLIPWAY_HOST=0.0.0.0"),
            entrypoint=(PYTHON, "-m", "slipway_serve", "/"),
            working_dir="/",
            labels=annotations,
            stop_signal="SIGTERM",
        )
