"""May this version take the place of that one, without its callers noticing?

A field that callers send may not be removed or narrowed, a field that they read may not be removed or widened, and no
route and no model may go, unless the major version says so. It looks at schemas only: what answers are worth is the
gate's question. The invariant: a finding is breaking or it is not, whatever the versions are; the versions decide about
the verdict alone. Two interfaces are compared: the JSON bodies of the service's own routes, and the tensors of its
models (`/v2`), where every input is required.
Source: semver.org, clauses 4 and 8, with Cargo's reading of 0.x: the first number that is not 0 is the major one.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Struct, ValidationError

from slipway_bundle.canonical import decode_json
from slipway_bundle.description import EndpointDescription, ServiceDescription
from slipway_bundle.errors import UsageError
from slipway_bundle.schema import ModelSchema, TensorSpec
from slipway_bundle.schema_changes import ChangeKind, SchemaChange, request_changes, response_changes
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle

__all__ = [
    "Compatibility",
    "Contract",
    "Finding",
    "OtherServiceError",
    "compare_bundles",
    "compare_contracts",
    "contract_of",
    "contract_of_bundle",
    "contract_of_openapi",
]

JSON: Final = "application/json"
VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?![\w.])")
ITEMS: Final = {"BOOL": "boolean", "FP16": "number", "FP32": "number", "FP64": "number", "BYTES": "string"}
"""JSON's word for a datatype; all others are integers."""


class OtherServiceError(UsageError):
    """Two different services were to be compared."""

    code = "other_service"


class Contract(Struct, frozen=True, kw_only=True):
    """What the callers of a service rely on."""

    name: str
    version: str
    models: Mapping[str, ModelSchema] = {}
    endpoints: tuple[EndpointDescription, ...] = ()


class Finding(Struct, frozen=True, kw_only=True):
    """One difference between two contracts."""

    where: str
    """`POST /predict request`, `model churn outputs`, …"""

    field: str
    """`$.lines[].score`; `$` is the whole."""

    kind: ChangeKind
    what: str
    """`maximum`, `values`, `type`, …; `field`, `route` or `model` for one that came or went."""

    before: str | None
    """None where nothing was said."""

    after: str | None
    is_breaking: bool
    """Its callers notice."""


class Compatibility(Struct, frozen=True, kw_only=True):
    """Whether one version may take the place of another."""

    before: str
    """`churn:1.0.0`."""

    after: str
    is_compatible: bool
    """No finding is breaking, or the major version says that one may be."""

    is_major: bool
    """The version after has a higher major version."""

    findings: tuple[Finding, ...]
    """Breaking ones first."""


def compare_bundles(store: Store, before: str, after: str) -> Compatibility:
    """Compares the contracts of two bundles of a store.

    Raises:
        UsageError: A reference is wrong, or means no bundle or several; or they are two services.
        IntegrityError: A document is damaged.
    """
    return compare_contracts(contract_of_bundle(store, before), contract_of_bundle(store, after))


def compare_contracts(before: Contract, after: Contract) -> Compatibility:
    """Compares two contracts; pure.

    Raises:
        OtherServiceError: They are not of one service.
        SchemaError: A schema is not one, or is too large to compare.
    """
    if before.name != after.name:
        raise OtherServiceError(
            f"only versions of one service can be compared: got {before.name!r} and {after.name!r}",
            before=before.name,
            after=after.name,
        )
    findings = sorted(
        [*_route_findings(before, after), *_model_findings(before, after)],
        key=lambda finding: (not finding.is_breaking, finding.where, finding.field, finding.what),
    )
    is_major = _is_major(before.version, after.version)
    return Compatibility(
        before=f"{before.name}:{before.version}",
        after=f"{after.name}:{after.version}",
        is_compatible=is_major or not any(finding.is_breaking for finding in findings),
        is_major=is_major,
        findings=tuple(findings),
    )


def contract_of_bundle(store: Store, ref: str) -> Contract:
    """The contract of a bundle of a store. Raises as `compare_bundles`."""
    return contract_of(store, read_bundle(store, ref))


def contract_of(store: Store, bundle: StoredBundle) -> Contract:
    """The contract of a bundle that was read, published or not.

    Raises:
        IntegrityError: The description is missing or damaged.
    """
    described = decode_json(bundle.attachment(store, "schema"), ServiceDescription, what="attachment schema")
    return Contract(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        models={model.name: model.schema for model in bundle.manifest.models},
        endpoints=described.endpoints,
    )


class _Media(Struct, frozen=True):
    schema: dict[str, object] = {}


class _Body(Struct, frozen=True):
    content: dict[str, _Media] = {}


class _Operation(Struct, frozen=True, rename="camel"):
    tags: tuple[str, ...] = ()
    request_body: _Body = _Body()
    responses: dict[str, _Body] = {}


class _Path(Struct, frozen=True):
    post: _Operation | None = None
    """What slipway's own routes are."""


class _Named(Struct, frozen=True):
    name: str
    version: str


class _Slipway(Struct, frozen=True):
    services: tuple[_Named, ...] = ()


class _Document(Struct, frozen=True, rename={"slipway": "x-slipway"}):
    """The parts of an OpenAPI document that are read here."""

    paths: dict[str, _Path]
    components: dict[str, object] = {}
    slipway: _Slipway = _Slipway()


def contract_of_openapi(document: object, *, service: str | None = None) -> Contract:
    """The contract that a live slipway server tells at `/openapi.json`: its routes, without the tensors of `/v2`.

    Args:
        document: JSON builtins.
        service: which of the server's services; None = its only one.

    Raises:
        UsageError: It is not the document of a slipway server, or has not that service, or several and none is named.
    """
    try:
        read = msgspec.convert(document, _Document)
    except ValidationError as error:
        raise UsageError(f"this is not an OpenAPI document: {error}") from error
    named = [one for one in read.slipway.services if service in (None, one.name)]
    if len(named) != 1:
        served = ", ".join(repr(one.name) for one in read.slipway.services) or "no service of slipway"
        raise UsageError(f"the OpenAPI document has {served}, expected {service or 'one service'!r}")

    def body(content: Mapping[str, _Media]) -> dict[str, object]:
        media = content.get(JSON) or next(iter(content.values()), _Media())
        return {**media.schema, "components": read.components}

    endpoints = tuple(
        EndpointDescription(
            path=path,
            request=body(item.post.request_body.content),
            response=body(item.post.responses.get("200", _Body()).content),
        )
        for path, item in read.paths.items()
        if item.post is not None and named[0].name in item.post.tags
    )
    return Contract(name=named[0].name, version=named[0].version, endpoints=endpoints)


def _route_findings(before: Contract, after: Contract) -> Iterator[Finding]:
    old = {f"{route.method} {route.path}": route for route in before.endpoints}
    new = {f"{route.method} {route.path}": route for route in after.endpoints}
    yield from _came_and_went(old, new, "route")
    for where in old.keys() & new.keys():
        yield from _located(f"{where} request", request_changes(old[where].request, new[where].request))
        yield from _located(f"{where} response", response_changes(old[where].response, new[where].response))


def _model_findings(before: Contract, after: Contract) -> Iterator[Finding]:
    old = {f"model {name}": schema for name, schema in before.models.items()}
    new = {f"model {name}": schema for name, schema in after.models.items()}
    yield from _came_and_went(old, new, "model")
    for where in old.keys() & new.keys():
        one, other = old[where], new[where]
        sent = request_changes(_tensors(one.inputs), _tensors(other.inputs))
        read = response_changes(_tensors(one.outputs), _tensors(other.outputs))
        yield from _located(f"{where} inputs", sent)
        yield from _located(f"{where} outputs", read)


def _came_and_went(old: Mapping[str, object], new: Mapping[str, object], what: str) -> Iterator[Finding]:
    for where in old.keys() - new.keys():
        yield Finding(where=where, field="$", kind="removed", what=what, before="served", after=None, is_breaking=True)
    for where in new.keys() - old.keys():
        yield Finding(where=where, field="$", kind="added", what=what, before=None, after="served", is_breaking=False)


def _located(where: str, changes: tuple[SchemaChange, ...]) -> Iterator[Finding]:
    for change in changes:
        yield Finding(where=where, **msgspec.structs.asdict(change))


def _tensors(specs: tuple[TensorSpec, ...]) -> dict[str, object]:
    """Tensors as the JSON Schema of a row, so that one comparison does for both interfaces."""
    return {
        "type": "object",
        "properties": {spec.name: _tensor(spec) for spec in specs},
        "required": [spec.name for spec in specs],
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    """One tensor; `datatype` and `sizes` are keywords of ours, which must be equal: binary callers count bytes."""
    datatype = f"{spec.datatype} text" if spec.text else spec.datatype
    item: dict[str, object] = {"type": ITEMS.get(spec.datatype, "integer"), "datatype": datatype}
    bounds = {
        "minimum": spec.ge, "exclusiveMinimum": spec.gt, "maximum": spec.le, "exclusiveMaximum": spec.lt,
        "multipleOf": spec.multiple_of, "minLength": spec.min_length, "maxLength": spec.max_length,
        "pattern": spec.pattern,
    }  # fmt: skip
    item |= {keyword: bound for keyword, bound in bounds.items() if bound is not None}
    if spec.values:
        item = {"enum": list(spec.values)}
    if spec.nullable:
        item = {"anyOf": [item, {"type": "null"}]}
    buckets = spec.buckets or ((),) * len(spec.shape)
    for size, padded in zip(reversed(spec.shape), reversed(buckets), strict=True):
        low, high = (size, size) if size != -1 else (1, padded[-1]) if padded else (0, None)
        item = {"type": "array", "items": item, "minItems": low, **({} if high is None else {"maxItems": high})}
    if any(spec.free):
        item["sizes"] = list(spec.free)
    return item


def _is_major(before: str, after: str) -> bool:
    """Whether the major version rose; versions that are not X.Y.Z have none."""
    old, new = VERSION.match(before), VERSION.match(after)
    return old is not None and new is not None and _major(new) > _major(old)


def _major(version: "re.Match[str]") -> tuple[int, ...]:
    """Up to the first number that is not 0: (1,), (0, 3), (0, 0, 7)."""
    numbers = tuple(int(number) for number in version.groups())
    significant = next((place for place, number in enumerate(numbers) if number), 2)
    return numbers[: significant + 1]
