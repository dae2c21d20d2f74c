"""`slipway.json`: the manifest of a bundle.

Structs and their one byte form (RFC 8785, fields at their default left out), so equal manifests have equal digests. It
reads nothing (`manifest_reader.py` does, with every check) and computes no identity (`identity.py` does). The format is
written down in `docs/bundle-v1.md`.
"""

from typing import Literal

from msgspec import Struct

from slipway_bundle.canonical import canonical_json
from slipway_bundle.config import Format
from slipway_bundle.schema import ModelSchema

SCHEMA_VERSION = "1.0"
MANIFEST_MEDIA_TYPE = "application/vnd.slipway.manifest.v1+json"

Trust = Literal["safe-data", "safe-graph", "allowlisted-object"]
"""What loading a model file may do: read data, build a graph of known operators, build objects of listed types."""

TRUST: dict[Format, Trust] = {
    "xgboost": "safe-data",
    "safetensors": "safe-data",
    "onnx": "safe-graph",
    "sklearn": "allowlisted-object",
}


class Stored(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is written to disk: camelCase, defaults left out, unknown fields of a newer minor version accepted."""


class Builder(Stored, frozen=True, kw_only=True):
    """What built the bundle."""

    name: str
    version: str
    envelope: str
    """Names the packer's rules (tar dialect, alignment, compression); other rules, other blobs, same content."""


class Source(Stored, frozen=True, kw_only=True):
    """Where the code was when the bundle was built."""

    vcs: Literal["git"] = "git"
    commit: str
    dirty: bool = False
    """The working tree differed from the commit."""

    url: str | None = None
    """The remote, without credentials."""


class Route(Stored, frozen=True, kw_only=True):
    """One HTTP route; its JSON Schemas are in the `schema` attachment."""

    path: str
    method: str


class CodeFile(Stored, frozen=True, kw_only=True):
    """One file of the code layer, relative to the service folder."""

    path: str
    mode: Literal["0644", "0755"]
    size: int
    sha256: str


class ServiceEntry(Stored, frozen=True, kw_only=True):
    """What to import, and where it lies in the code layer."""

    name: str
    entry: str
    """`package.module:object`."""

    code: str
    """The folder to put on `sys.path`, relative to `prefix`."""

    layer: str
    """Digest of the code layer."""

    prefix: str
    """Where the service folder lies in the layer."""

    endpoints: tuple[Route, ...] = ()


class ModelFile(Stored, frozen=True, kw_only=True):
    """One weights file, as a byte range of a layer blob."""

    path: str
    """The file's name; it lies under `models/<model>/`."""

    size: int
    sha256: str
    layer: str
    """Digest of the blob that holds the bytes."""

    offset: int
    """First byte of the file in that blob; a multiple of 4096."""


class ModelEntry(Stored, frozen=True, kw_only=True):
    """One model."""

    name: str
    format: Format
    trust: Trust
    schema: ModelSchema
    files: tuple[ModelFile, ...]
    outputs: dict[str, str] = {}
    columns: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = {}


class Package(Stored, frozen=True, kw_only=True):
    """One package of the environment lock, or a workspace member."""

    name: str
    version: str
    marker: str | None = None
    """PEP 508 environment marker; absent = everywhere."""


class EnvironmentEntry(Stored, frozen=True, kw_only=True):
    """What the service needs installed."""

    python: str
    """Version specifier, `>=3.11`."""

    lock: str
    """Digest of the `environment-lock` attachment."""

    packages: tuple[Package, ...] = ()
    members: tuple[Package, ...] = ()
    """Packages of the same workspace; they are not in the lock."""


class Dataset(Stored, frozen=True, kw_only=True):
    """Data that a model was trained on."""

    uri: str
    digest: str


class Run(Stored, frozen=True, kw_only=True):
    """The training run in another system."""

    system: str
    id: str
    uri: str | None = None


class Lineage(Stored, frozen=True, kw_only=True):
    """Where the models come from. Never part of the content digest."""

    datasets: tuple[Dataset, ...] = ()
    trained_from: tuple[Dataset, ...] = ()
    metrics: dict[str, float] = {}
    run: Run | None = None
    parents: tuple[str, ...] = ()
    """Digests of the bundles that this one was made from."""


class GoldenEntry(Stored, frozen=True, kw_only=True):
    """The golden examples, in the `golden` attachment."""

    examples: int
    digest: str


class Attachment(Stored, frozen=True, kw_only=True):
    """A named blob. Names in use: `golden`, `environment-lock`, `schema`, `runtime`, `reference-profile`, `slo`;
    `sbom` is reserved.
    """

    name: str
    media_type: str
    digest: str
    size: int


class Manifest(Stored, frozen=True, kw_only=True):
    """The whole of `slipway.json`."""

    schema_version: str
    name: str
    version: str
    content_digest: str
    builder: Builder
    service: ServiceEntry
    models: tuple[ModelEntry, ...]
    environment: EnvironmentEntry
    files: tuple[CodeFile, ...]
    golden: GoldenEntry
    attachments: tuple[Attachment, ...]
    created: str | None = None
    """RFC 3339, UTC; absent when neither SOURCE_DATE_EPOCH nor a commit says it. Never the wall clock."""

    source: Source | None = None
    lineage: Lineage | None = None
    licenses: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def attachment(self, name: str) -> Attachment | None:
        """The attachment of that name, if the bundle has it."""
        return next((attachment for attachment in self.attachments if attachment.name == name), None)


def encode_manifest(manifest: Manifest) -> bytes:
    """The one byte form of a manifest: RFC 8785, fields at their default left out."""
    return canonical_json(manifest)
