"""`BundleView`: what serving reads, the same object for a service folder, a stored bundle and an unpacked image.

It imports no service and loads no weights. The invariant: from a view on, nobody needs to know which of them it was:
code is a folder to import from, weights are byte ranges of files, and both are never written.
"""

import difflib
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from slipway_bundle import unpacked
from slipway_bundle.canonical import decode_json
from slipway_bundle.config import CONFIG_NAME, ModelConfig, ServiceConfig, load_config
from slipway_bundle.description import ServiceDescription, ServiceLike
from slipway_bundle.digest import parse_digest
from slipway_bundle.entry import load_entry
from slipway_bundle.errors import ConfigError, FileError, UsageError
from slipway_bundle.extract import materialise
from slipway_bundle.golden import Golden, decode_golden
from slipway_bundle.lineage import load_lineage
from slipway_bundle.manifest import Lineage, Manifest, ModelEntry
from slipway_bundle.objectives import ATTACHMENT as OBJECTIVES
from slipway_bundle.objectives import read_objectives
from slipway_bundle.reference_profiles import ATTACHMENT, decode_references, read_references
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.weights import WeightsFile

__all__ = [
    "BundleView",
    "LoadedModel",
    "load_service",
    "model_path",
    "open_any",
    "open_bundle",
    "open_folder",
    "open_unpacked",
    "view_of",
]

UNBUILT = "unbuilt"
"""The version of a folder: it has none before it is a bundle."""


class LoadedModel(Struct, frozen=True, kw_only=True):
    """A model's configuration and where its weights are."""

    config: ModelConfig
    file: WeightsFile


class BundleView(Struct, frozen=True, kw_only=True):
    """A service, its weights and what is known about it."""

    name: str
    version: str
    digest: str | None
    """Of the index; None for a folder."""

    content_digest: str | None
    entry: str
    """`package.module:object`."""

    code: Path
    """The folder to put on `sys.path`."""

    models: dict[str, LoadedModel]
    runtime: dict[str, object]
    """The raw `[runtime]` table: of the folder, or what it was when the bundle was built."""

    golden: tuple[Golden, ...]
    lineage: Lineage | None = None
    created: str | None = None
    environment_lock: str | None = None
    """None for a folder: its environment is whatever is installed."""

    description: ServiceDescription | None = None
    """None for a folder: its code says it, once imported."""

    references: dict[str, bytes] = {}
    """Model -> its reference profile, for the models that have one."""

    objectives: bytes | None = None
    """The `slo.yaml`, as it is."""

    manifest: Manifest | None = None


def open_any(target: str, store: Store) -> BundleView:
    """A view of a folder (a path with a `slipway.toml`), of an unpacked image, or of a bundle in the store.

    A name that is both, such as `churn` beside a folder `churn/`, is the folder: it is the one you can see.

    Raises:
        UsageError: It is neither.
        IntegrityError, HostError: As `open_folder` and `open_bundle`.
    """
    folder = Path(target)
    if (folder / CONFIG_NAME).is_file():
        return open_folder(folder)
    if (folder / unpacked.MANIFEST).is_file():
        return open_unpacked(folder)
    if folder.is_dir() or target.startswith((".", "/", "~")):
        raise UsageError(
            f"{target!r} is a path, but no service folder: expected a {CONFIG_NAME} in it",
            hint="give the folder of a service, or a bundle as NAME:VERSION",
            target=target,
        )
    return open_bundle(store, target)


def open_folder(folder: Path) -> BundleView:
    """A view of a service folder. The golden file and the lineage may be missing while a service is young.

    Raises:
        ConfigError: `slipway.toml` is wrong, or names a weights file that is not there.
        GoldenError: A golden example cannot be read.
        FileError: A file cannot be read.
    """
    config = load_config(folder)
    golden = folder / config.bundle.golden
    written = config.bundle.lineage
    is_trained = written is None or (folder / written).is_file()
    models = {
        name: LoadedModel(config=model, file=WeightsFile.whole(model_path(config, name)))
        for name, model in config.bundle.models.items()
    }
    return BundleView(
        name=config.bundle.name or folder.resolve().name,
        version=config.bundle.version or UNBUILT,
        digest=None,
        content_digest=None,
        entry=config.entry,
        code=folder / config.bundle.code,
        models=models,
        runtime=config.runtime,
        golden=decode_golden(_read(golden), where=config.bundle.golden) if golden.exists() else (),
        lineage=load_lineage(folder, config.bundle) if is_trained else None,
        references=read_references(config, is_trained=False),
        objectives=read_objectives(folder),
    )


def open_bundle(store: Store, ref: str) -> BundleView:
    """A view of a stored bundle. Unpacks its code on first use; the weights stay in their blobs.

    Hold `store.pin(…)` while using it, or the garbage collector may take a bundle whose reference was deleted.

    Raises:
        UsageError: The reference is wrong, or means no bundle or several; or the major version is not known.
        IntegrityError: Something in the bundle is missing, damaged or unsafe.
        HostError: The code cannot be unpacked.
    """
    return view_of(store, read_bundle(store, ref))


def view_of(store: Store, bundle: StoredBundle) -> BundleView:
    """A view of a bundle that was read, published or not; raises as `open_bundle`, less the reference."""
    manifest = bundle.manifest
    tree = materialise(store, bundle.layers()[manifest.service.layer])

    def stored(model: ModelEntry) -> WeightsFile:
        file = model.files[0]
        return WeightsFile(path=store.blob(parse_digest(file.layer)), offset=file.offset, size=file.size)

    return _viewed(manifest, bundle.digest, tree, stored, lambda name: bundle.attachment(store, name))


def open_unpacked(root: Path) -> BundleView:
    """A view of a bundle whose layers lie unpacked below `root`, as they do in a running image.

    Its digest is not known there, as it is made from the image's own; its content digest is.

    Raises:
        ManifestVersionError: The bundle has a major version that is not known.
        IntegrityError: A document, a code file or the size of a weights file is not what the manifest says.
        HostError: A file cannot be read.
    """
    manifest = unpacked.read_unpacked(root)
    weights = unpacked.weights_files(root, manifest)
    return _viewed(
        manifest, None, root, lambda model: weights[model.name], lambda name: unpacked.attachment(root, manifest, name)
    )


def _viewed(
    manifest: Manifest,
    digest: str | None,
    tree: Path,
    weights: Callable[[ModelEntry], WeightsFile],
    read: Callable[[str], bytes],
) -> BundleView:
    """The view of a manifest: where its code and weights are, and how its attachments are read, is the caller's."""
    service = manifest.service
    attached = {item.name for item in manifest.attachments}
    return BundleView(
        name=manifest.name,
        version=manifest.version,
        digest=digest,
        content_digest=manifest.content_digest,
        entry=service.entry,
        code=tree / service.prefix / service.code,
        models={model.name: LoadedModel(config=_config_of(model), file=weights(model)) for model in manifest.models},
        runtime=_decode_runtime(read("runtime")) if "runtime" in attached else {},
        golden=decode_golden(read("golden"), where="attachment golden"),
        lineage=manifest.lineage,
        created=manifest.created,
        environment_lock=read("environment-lock").decode(),
        description=decode_json(read("schema"), ServiceDescription, what="attachment schema"),
        objectives=read(OBJECTIVES) if OBJECTIVES in attached else None,
        references=decode_references(read(ATTACHMENT)) if ATTACHMENT in attached else {},
        manifest=manifest,
    )


def load_service(view: BundleView) -> ServiceLike:
    """Imports the service into this process, with the view's code first on `sys.path`.

    Raises:
        DescribeError: It cannot be imported, or is not a service.
    """
    return load_entry(view.entry, view.code)


def model_path(config: ServiceConfig, name: str) -> Path:
    """The weights file of a model in a folder.

    Raises:
        ConfigError: It is not there; the hint has the nearest name that is.
    """
    file = config.bundle.models[name].file
    path = config.folder / file
    if path.is_file():
        return path
    raise ConfigError(
        f"the file of model {name!r} is not there: got {file!r}, relative to {str(config.folder)!r}",
        hint=_nearest_file(config.folder, file) or "run the training first; it writes the file",
        path=file,
        model=name,
    )


def _nearest_file(folder: Path, file: str) -> str | None:
    wanted = folder / file
    around = {path.relative_to(folder).as_posix() for path in wanted.parent.glob("*") if path.is_file()}
    around |= {path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file()}
    close = difflib.get_close_matches(file, sorted(around), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


def _config_of(model: ModelEntry) -> ModelConfig:
    return ModelConfig(
        file=model.files[0].path,
        format=model.format,
        outputs=model.outputs,
        columns=model.columns,
        categories=model.categories,
    )


def _decode_runtime(data: bytes) -> dict[str, object]:
    return decode_json(data, dict[str, object], what="attachment runtime")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
