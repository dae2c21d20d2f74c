"""A bundle as tables that a person reads; only `bundle inspect` draws them.

It reads nothing: everything is in the manifest. The invariant: digests of the bundle are shown whole, so that they can
be copied into a command; long lists (packages, files) are shortened unless all is asked for.
"""

from collections.abc import Iterator, Sequence

import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slipway_bundle.manifest import Lineage, Manifest, ModelEntry
from slipway_bundle.schema import TensorSpec
from slipway_bundle.stored import StoredBundle
from slipway_cli.terminal import lines_of, size_text

SHOWN = 8
"""Files and packages that are listed; `--verbose` lists all of them."""

TRUST = {
    "safe-data": "data only: loading it runs nothing",
    "safe-graph": "a graph of known operators",
    "allowlisted-object": "objects of listed types only",
}

Drawn = Text | Table | Padding


def card_of(bundle: StoredBundle, *, whole: bool) -> Iterator[Drawn]:
    """The parts of the card, from what is asked most to what is asked least."""
    manifest = bundle.manifest
    yield Text(f"{manifest.name}:{manifest.version}", style="bold")
    yield _facts(_identity(bundle))
    for model in manifest.models:
        yield _heading(f"model {model.name}")
        yield _facts(_model(model))
        yield _tensors(model)
    if manifest.service.endpoints:
        yield _heading("routes")
        yield _facts([(route.method, route.path) for route in manifest.service.endpoints])
    if manifest.lineage is not None:
        yield _heading("lineage")
        yield _facts(_lineage(manifest.lineage))
    yield _heading("code")
    yield _files(manifest, whole=whole)
    yield _heading("environment")
    yield _facts(_environment(manifest, whole=whole))
    yield _heading("attachments")
    yield _facts([(blob.name, f"{size_text(blob.size):>8}  {blob.digest}") for blob in manifest.attachments])


def _identity(bundle: StoredBundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    source = manifest.source
    commit = "" if source is None else source.commit + (" and uncommitted changes" if source.dirty else "")
    facts = [
        ("digest", bundle.digest),
        ("content", manifest.content_digest),
        ("size", f"{size_text(bundle.size_bytes())} in {lines_of(len(bundle.layers()), 'layer')}"),
        ("made", manifest.created or ""),
        ("commit", commit),
        ("from", (source.url or "") if source else ""),
        ("licenses", " AND ".join(manifest.licenses)),
        ("owners", ", ".join(manifest.owners)),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(manifest.labels.items()))),
        ("format", f"bundle {manifest.schema_version}, written by {manifest.builder.name} {manifest.builder.version}"),
    ]
    return [(name, value) for name, value in facts if value]


def _model(model: ModelEntry) -> list[tuple[str, str]]:
    weights = [(file.path, f"{size_text(file.size):>8}  sha256:{file.sha256}") for file in model.files]
    outputs = ", ".join(f"{field} = {name}" for field, name in model.outputs.items())
    facts = [("format", f"{model.format} ({TRUST[model.trust]})"), ("outputs", outputs)]
    return [*((name, value) for name, value in facts if value), *weights]


def _tensors(model: ModelEntry) -> Padding:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "field", "type", "shape", "may be"):
        table.add_column(title, overflow="fold")
    for direction, specs in (("in", model.schema.inputs), ("out", model.schema.outputs)):
        for spec in specs:
            shape = "[" + ", ".join("any" if size < 0 else str(size) for size in spec.shape) + "]" if spec.shape else ""
            table.add_row(direction, Text(spec.name), spec.datatype, Text(shape), Text(_constraints(spec)))
    return Padding(table, (0, 0, 0, 2))


def _constraints(spec: TensorSpec) -> str:
    said = []
    if spec.values:
        said.append(" | ".join(spec.values))
    signs = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"), ("multiple_of", "a multiple of"))
    said += [f"{sign} {getattr(spec, name):g}" for name, sign in signs if getattr(spec, name) is not None]
    lengths = (("min_length", "at least"), ("max_length", "at most"))
    said += [f"{word} {getattr(spec, name)} long" for name, word in lengths if getattr(spec, name) is not None]
    if spec.pattern is not None:
        said.append(f"matches {spec.pattern}")
    if spec.nullable:
        said.append("or missing")
    return ", ".join(said)


def _lineage(lineage: Lineage) -> list[tuple[str, str]]:
    facts = [(f"data {place}", f"{data.uri}  {data.digest}") for place, data in enumerate(lineage.datasets, start=1)]
    facts += [("trained from", f"{data.uri}  {data.digest}") for data in lineage.trained_from]
    facts += [(name, f"{value:g}") for name, value in sorted(lineage.metrics.items())]
    if lineage.run is not None:
        facts.append(("run", f"{lineage.run.system} {lineage.run.id} {lineage.run.uri or ''}".rstrip()))
    return [*facts, *(("parent", parent) for parent in lineage.parents)]


def _files(manifest: Manifest, *, whole: bool) -> Padding:
    shown = manifest.files if whole else manifest.files[:SHOWN]
    facts = [(file.path, f"{size_text(file.size):>8}  sha256:{file.sha256[:12]}") for file in shown]
    return _facts([("entry", manifest.service.entry), *facts, *_rest(manifest.files, shown)])


def _environment(manifest: Manifest, *, whole: bool) -> list[tuple[str, str]]:
    packages = manifest.environment.packages
    shown = packages if whole else packages[:SHOWN]
    facts = [("python", manifest.environment.python)]
    facts += [(package.name, f"{package.version}  (this repository)") for package in manifest.environment.members]
    facts += [
        (package.name, package.version + (f"  where {package.marker}" if package.marker else "")) for package in shown
    ]
    return [*facts, *_rest(packages, shown)]


def _rest(everything: Sequence[msgspec.Struct], shown: Sequence[msgspec.Struct]) -> list[tuple[str, str]]:
    hidden = len(everything) - len(shown)
    return [("…", f"and {hidden} more: `--verbose` lists them")] if hidden else []


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _facts(facts: Sequence[tuple[str, str]]) -> Padding:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    return Padding(table, (0, 0, 0, 2))
