"""What changed between two bundles, as data: models, code, packages, schema, metrics, size.

It judges nothing and reads no weights: everything is in the manifests. The invariant: two bundles of the same content
digest have no change but of lineage, version, packaging and the things that `Manifest` keeps out of the content.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from slipway_bundle.manifest import Manifest
from slipway_bundle.schema import TensorSpec
from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle

__all__ = ["BundleDiff", "Change", "diff_bundles", "diff_manifests"]

Area = Literal["model", "schema", "code", "package", "attachment", "service", "metric", "lineage", "source"]
"""What a change is about, in the order in which a reader wants them."""

AREAS: tuple[Area, ...] = (
    "model", "schema", "code", "package", "attachment", "service", "metric", "lineage", "source"
)  # fmt: skip


class Change(Struct, frozen=True, kw_only=True):
    """One difference. `before` is None for what was added, `after` for what was removed."""

    area: Area
    name: str
    """What changed: `churn.weights`, `src/churn_service/service.py`, `numpy`, …"""

    before: str | None
    after: str | None


class BundleDiff(Struct, frozen=True, kw_only=True):
    """The differences between two bundles."""

    before: str
    """Reference of the first."""

    after: str
    is_same_content: bool
    """Equal content digests: the same models, code, examples, lock, schema and configuration."""

    is_same_bundle: bool
    """Equal index digests: the same in every byte."""

    changes: tuple[Change, ...]
    """Sorted by area, then name."""

    size_before_bytes: int
    size_after_bytes: int
    shared_bytes: int
    """Layers that both have: what is not transferred again."""


def diff_bundles(store: Store, before: str, after: str) -> BundleDiff:
    """Compares two bundles of a store.

    Raises:
        UsageError: A reference is wrong, or means no bundle or several.
        IntegrityError: A document is damaged.
    """
    one, other = read_bundle(store, before), read_bundle(store, after)
    layers_before, layers_after = one.layers(), other.layers()
    return BundleDiff(
        before=f"{one.manifest.name}:{one.manifest.version}",
        after=f"{other.manifest.name}:{other.manifest.version}",
        is_same_content=one.manifest.content_digest == other.manifest.content_digest,
        is_same_bundle=one.digest == other.digest,
        changes=diff_manifests(one.manifest, other.manifest),
        size_before_bytes=one.size_bytes(),
        size_after_bytes=other.size_bytes(),
        shared_bytes=sum(layer.size for digest, layer in layers_before.items() if digest in layers_after),
    )


def diff_manifests(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """The differences between two manifests, sorted by area, then name."""
    facts_before, facts_after = dict(_facts(before)), dict(_facts(after))
    changes = (
        Change(area=area, name=name, before=facts_before.get((area, name)), after=facts_after.get((area, name)))
        for area, name in facts_before.keys() | facts_after.keys()
        if facts_before.get((area, name)) != facts_after.get((area, name))
    )
    return tuple(sorted(changes, key=lambda change: (AREAS.index(change.area), change.name)))


def _facts(manifest: Manifest) -> Iterator[tuple[tuple[Area, str], str]]:
    """A manifest as (area, name) -> text, so that comparing two of them is comparing two dicts."""
    for model in manifest.models:
        yield ("model", model.name), model.format
        for file in model.files:
            yield ("model", f"{model.name}.weights"), f"sha256:{file.sha256[:12]} ({file.size} bytes)"
        yield from _mapping("model", f"{model.name}.outputs", model.outputs)
        yield from _mapping("model", f"{model.name}.categories", {k: ", ".join(v) for k, v in model.categories.items()})
        if model.columns:
            yield ("model", f"{model.name}.columns"), ", ".join(model.columns)
        for direction, specs in (("input", model.schema.inputs), ("output", model.schema.outputs)):
            for spec in specs:
                yield ("schema", f"{model.name}.{direction}.{spec.name}"), _tensor(spec)
    for code in manifest.files:
        yield ("code", code.path), f"sha256:{code.sha256[:12]} ({code.size} bytes, mode {code.mode})"
    packages: dict[str, list[str]] = {}
    for package in (*manifest.environment.packages, *manifest.environment.members):
        packages.setdefault(package.name, []).append(
            package.version + (f" ; {package.marker}" if package.marker else "")
        )
    yield from _mapping("package", "", {name: " | ".join(versions) for name, versions in packages.items()})
    yield ("package", "python"), manifest.environment.python
    for attachment in manifest.attachments:
        yield ("attachment", attachment.name), f"{attachment.digest[:19]} ({attachment.size} bytes)"
    yield ("service", "entry"), manifest.service.entry
    for route in manifest.service.endpoints:
        yield ("service", f"{route.method} {route.path}"), "served"
    if manifest.lineage is not None:
        yield from _mapping("metric", "", {name: f"{value:g}" for name, value in manifest.lineage.metrics.items()})
        yield from _mapping("lineage", "", {data.uri: data.digest[:19] for data in manifest.lineage.datasets})
    if manifest.source is not None:
        yield ("source", "commit"), manifest.source.commit[:12] + (" (dirty)" if manifest.source.dirty else "")


def _mapping(area: Area, prefix: str, values: Mapping[str, str]) -> Iterator[tuple[tuple[Area, str], str]]:
    for name, value in values.items():
        yield (area, f"{prefix}.{name}" if prefix else name), value


def _tensor(spec: TensorSpec) -> str:
    constraints = msgspec.to_builtins(spec)
    head = f"{constraints.pop('datatype')}{list(constraints.pop('shape', ()))}"
    constraints.pop("name")
    return " ".join([head, *(f"{name}={value}" for name, value in constraints.items())])
