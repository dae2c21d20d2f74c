"""Building: a service folder becomes a bundle in the store, or nothing does.

    built = build(Path("services/churn"), Store.open(root))
    print(built.ref, built.digest)

It imports no user code (children do) and reads each weights file at most once. The invariants: the same inputs give
the same digest, whoever builds them and where; the reference appears last, by one rename, so an error or a kill at any
point leaves nothing that can be seen. Source: `docs/bundle-v1.md`; the steps are numbered in `build`.
"""

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle import objectives
from slipway_bundle.assembly import CONTENT_DIGEST, Parts, put_bundle, without_images
from slipway_bundle.canonical import canonical_json
from slipway_bundle.config import load_config
from slipway_bundle.digest import Digest, digest_bytes, hex_of
from slipway_bundle.errors import ConfigError, IntegrityError
from slipway_bundle.identity import content_digest, default_version
from slipway_bundle.inputs import Announce, Inputs, Judge, read_inputs
from slipway_bundle.layers import Layer, LayerFile
from slipway_bundle.manifest import (
    SCHEMA_VERSION,
    TRUST,
    Attachment,
    Builder,
    CodeFile,
    EnvironmentEntry,
    GoldenEntry,
    Manifest,
    ModelEntry,
    ModelFile,
    Route,
    ServiceEntry,
)
from slipway_bundle.oci import Descriptor, ImageIndex
from slipway_bundle.policy import Policy, load_policy
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.reference_profiles import ATTACHMENT, MEDIA_TYPE, encode_references
from slipway_bundle.replay import refuse_mismatches, replay_in_child
from slipway_bundle.sources import SourceFile
from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefConflictError, RefInvalidError
from slipway_bundle.tar import TAR_REVISION

__all__ = ["Built", "build"]

CODE_PREFIX = "opt/app"
"""Where the service folder lies in the code layer, so that the runnable image can use the layer as it is."""

MODELS_PREFIX = "models"
"""Where KServe and Kubernetes image volumes look for weights."""

ENVELOPE = f"tar/{TAR_REVISION}"

LOCK_TYPE = "text/plain; charset=utf-8"
GOLDEN_TYPE = "application/jsonl"
SCHEMA_TYPE = "application/vnd.slipway.schema.v1+json"
RUNTIME_TYPE = "application/vnd.slipway.runtime.v1+json"

MAX_SAME_CONTENT = 1000
"""Bundles of one content with different lineage; more is a loop somewhere."""


class Built(Struct, frozen=True, kw_only=True):
    """What `build` made."""

    ref: str
    """`name:version`."""

    name: str
    version: str
    digest: Digest
    """Of the index: what is signed, pushed and deployed."""

    content_digest: str
    is_new: bool
    """False when the same bundle was there already."""

    is_replayed: bool
    """False when the same content was replayed by an earlier build, so the weights were not read again."""

    examples: int
    """Golden examples in the bundle."""


def build(
    folder: Path,
    store: Store,
    *,
    progress: Progress = QUIET,
    policy: Policy | None = None,
    announce: Announce = lambda _step, _bytes: None,
    environ: Mapping[str, str] | None = None,
    judge_reference: Judge = lambda _model, _profile, _schema: None,
) -> Built:
    """Builds the bundle of the service in `folder` and publishes it in `store`.

    Args:
        folder: A service folder, with `slipway.toml`.
        store: Where the bundle goes.
        progress: Told the bytes that are packed; see `announce` for how many they will be.
        policy: What is allowed beyond the defaults; by default `policy.toml` at or above the folder.
        announce: Told when a step begins.
        environ: Read for SOURCE_DATE_EPOCH only; by default that of the process.
        judge_reference: Raises when a model's reference profile does not fit its schema.

    Raises:
        UsageError: Configuration, lock, schema or the service's code is wrong; or the version is taken.
        IntegrityError: A pickle, a secret, a file that cannot be packed, or a golden example that does not replay.
        HostError: Disk full, a file that cannot be read, another process in the way.
    """
    # 1. Read and judge everything that is cheap, so that a mistake shows before a gigabyte is packed.
    announce("read", 0)
    config = load_config(folder)
    allowed = load_policy(folder) if policy is None else policy
    inputs = read_inputs(config, allowed, os.environ if environ is None else environ, announce, judge_reference)
    with store.lease():
        # 2. Pack. The store hashes what it writes and refuses a source that changes meanwhile.
        announce("pack", sum(path.stat().st_size for path in set(inputs.weights.values())))
        code = store.put_layer([_code_file(file) for file in inputs.sources])
        weights = _put_weights(store, inputs, progress)
        attachments = _put_attachments(store, inputs)
        layers = {layer.descriptor.digest: layer for layer, _ in weights.values()}
        parts = Parts(code=code, weights=tuple(layers.values()), attachments=attachments)
        # 3. Describe: one manifest, and the content digest that follows from it.
        manifest = _manifest(inputs, parts, weights)
        # 4. Replay what was packed, not what it was packed from, unless this content was replayed before.
        is_known = _is_published(store, manifest.content_digest)
        if not is_known:
            announce("replay", 0)
            mismatches = replay_in_child(store, put_bundle(store, manifest, parts))
            refuse_mismatches(mismatches, inputs.examples)
        # 5. Publish: from here on the bundle can be seen.
        announce("publish", 0)
        version, bundle, is_new = _publish(store, manifest, parts, is_named=config.bundle.version is not None)
    return Built(
        ref=f"{manifest.name}:{version}",
        name=manifest.name,
        version=version,
        digest=bundle.digest,
        content_digest=manifest.content_digest,
        is_new=is_new,
        is_replayed=not is_known,
        examples=inputs.examples,
    )


def _code_file(file: SourceFile) -> LayerFile:
    return LayerFile(path=f"{CODE_PREFIX}/{file.path}", source=file.source, mode=file.mode)


def _put_weights(store: Store, inputs: Inputs, progress: Progress) -> dict[str, tuple[Layer, ModelFile]]:
    """Model -> its layer and where its file is in it; models that share a file share a layer."""
    stored: dict[Path, tuple[Layer, ModelFile]] = {}
    found: dict[str, tuple[Layer, ModelFile]] = {}
    for name, path in sorted(inputs.weights.items()):
        if path not in stored:
            layer = store.put_layer(
                [LayerFile(path=f"{MODELS_PREFIX}/{name}/{path.name}", source=path)], progress=progress
            )
            entry = layer.entries[0]
            stored[path] = (
                layer,
                ModelFile(
                    path=path.name,
                    size=entry.size,
                    sha256=hex_of(entry.sha256),
                    layer=layer.descriptor.digest,
                    offset=entry.offset,
                ),
            )
        found[name] = stored[path]
    return found


def _put_attachments(store: Store, inputs: Inputs) -> dict[str, Descriptor]:
    attachments = {
        "environment-lock": store.put_bytes(inputs.environment.lock.encode(), LOCK_TYPE),
        "golden": store.put_bytes(inputs.golden, GOLDEN_TYPE),
        "schema": store.put_bytes(canonical_json(inputs.description), SCHEMA_TYPE),
    }
    if inputs.config.runtime:
        runtime = msgspec.to_builtins(inputs.config.runtime)
        attachments["runtime"] = store.put_bytes(canonical_json(runtime), RUNTIME_TYPE)
    if inputs.objectives is not None:
        attachments[objectives.ATTACHMENT] = store.put_bytes(inputs.objectives, objectives.MEDIA_TYPE)
    if inputs.references:
        attachments[ATTACHMENT] = store.put_bytes(encode_references(inputs.references), MEDIA_TYPE)
    return attachments


def _manifest(inputs: Inputs, parts: Parts, weights: Mapping[str, tuple[Layer, ModelFile]]) -> Manifest:
    config, bundle, description = inputs.config, inputs.config.bundle, inputs.description
    attachments = parts.attachments
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=bundle.name or description.name,
        version="",
        content_digest="",
        builder=Builder(name="slipway", version=importlib.metadata.version("slipway-bundle"), envelope=ENVELOPE),
        service=ServiceEntry(
            name=description.name,
            entry=config.entry,
            code=bundle.code,
            layer=parts.code.descriptor.digest,
            prefix=CODE_PREFIX,
            endpoints=tuple(Route(path=route.path, method=route.method) for route in description.endpoints),
        ),
        models=tuple(
            ModelEntry(
                name=name,
                format=model.format,
                trust=TRUST[model.format],
                schema=description.models[name],
                files=(weights[name][1],),
                outputs=model.outputs,
                columns=model.columns,
                categories=model.categories,
            )
            for name, model in sorted(bundle.models.items())
        ),
        environment=EnvironmentEntry(
            python=inputs.environment.python,
            lock=attachments["environment-lock"].digest,
            packages=inputs.environment.packages,
            members=inputs.environment.members,
        ),
        files=tuple(
            CodeFile(
                path=entry.path.removeprefix(f"{CODE_PREFIX}/"),
                mode="0755" if entry.mode == 0o755 else "0644",
                size=entry.size,
                sha256=hex_of(entry.sha256),
            )
            for entry in parts.code.entries
        ),
        golden=GoldenEntry(examples=inputs.examples, digest=attachments["golden"].digest),
        attachments=tuple(
            Attachment(name=name, media_type=blob.media_type, digest=blob.digest, size=blob.size)
            for name, blob in sorted(attachments.items())
        ),
        created=inputs.created,
        source=inputs.source,
        lineage=inputs.lineage,
        licenses=bundle.licenses,
        owners=bundle.owners,
        labels=bundle.labels,
    )
    content = content_digest(manifest)
    version = bundle.version or default_version(inputs.source, content)
    return replace(manifest, version=version, content_digest=content)


def _publish(store: Store, manifest: Manifest, parts: Parts, *, is_named: bool) -> tuple[str, Descriptor, bool]:
    """Publishes under the manifest's version; gives the version, the index, and whether it is new.

    A default version says which content it is. When it is taken, the content is there with another lineage, `[runtime]`
    or builder: this bundle becomes `…-2`, then `…-3`, because versions are immutable and nothing may be lost.
    """
    for attempt in range(1, MAX_SAME_CONTENT):
        version = manifest.version if attempt == 1 else f"{manifest.version}-{attempt}"
        bundle = put_bundle(store, replace(manifest, version=version), parts)
        try:
            return version, bundle, store.publish(f"{manifest.name}:{version}", bundle)
        except RefConflictError:
            current = store.find(f"{manifest.name}:{version}").descriptor
            if _bare_digest(store, current) == bundle.digest:
                return version, current, False  # this bundle, with images
            if is_named:
                raise
        except RefInvalidError as error:
            raise ConfigError(
                f"the bundle cannot be called {manifest.name!r}: {error.message}",
                hint="write another `name` into `[bundle]` of slipway.toml",
            ) from error
    raise IntegrityError(f"this is a bug in slipway: {MAX_SAME_CONTENT} bundles are called {manifest.version!r}")


def _bare_digest(store: Store, bundle: Descriptor) -> str:
    """The digest that a bundle's index has without its runnable images."""
    index = store.read_json(bundle.digest, ImageIndex)
    return digest_bytes(canonical_json(without_images(index)))


def _is_published(store: Store, content: str) -> bool:
    return any(entry.annotations.get(CONTENT_DIGEST) == content for entry in store.entries())
