"""JSON schemas of Kubernetes' objects and of the add-ons', made from the files that define them.

kubeconform judges manifests by them without a network. It reads JSON schemas, one a kind; Kubernetes publishes one
OpenAPI document a version (`api/openapi-spec/swagger.json` in its Go module), an add-on its CRDs. This file turns both
into that form, as strict as an API server with `fieldValidation=Strict`: a field that is not in the schema is refused.
It knows nothing that is not in a schema (CEL rules, admission, immutable fields): the lab's API server does.

    FOLDER/v1.36.3/apps/deployment_v1.json              FOLDER/v1.36.3/v1/pod_v1.json (the core group has no name)
    FOLDER/crds/argoproj.io/rollout_v1alpha1.json
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from slipway_lab.crds import SOURCES, crd_files, module_folder
from slipway_lab.programs import KUBERNETES
from slipway_lab.workshop import Say, Workshop, find_workshop, locked, say_nothing, staging

__all__ = ["VERSIONS", "crd_schemas", "kind_schemas", "locations", "schema_folder"]

VERSIONS: Final = ("v1.34.4", "v1.35.4", KUBERNETES)
"""The versions of Kubernetes that the platform promises to work on; `tools/crds/go.sum` pins those that no lab runs."""

_NO_RULE: Final = frozenset({"default", "description", "example", "externalDocs", "nullable", "title"})
"""Keywords that no validator reads, beside those that begin with `x-`; descriptions are four fifths of the files."""
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"

Schema = dict[str, Any]


def schema_folder(*, workshop: Workshop | None = None, say: Say = say_nothing) -> Path:
    """The schemas of `VERSIONS` and of every CRD of `crds.SOURCES`: a folder, made if the cache has none.

    Raises:
        BuildError: a module cannot be fetched, or is not what `go.sum` says.
        CannotRunError: there is no Go, or the cache cannot be written.
    """
    workshop = workshop or find_workshop()
    place = workshop.schemas / _key(workshop)
    if not place.is_dir():
        with locked(workshop, say):
            if not place.is_dir():
                with staging(place) as folder:
                    _fill(folder, workshop, say)
    return place


def locations(folder: Path) -> tuple[str, str]:
    """What kubeconform's `-schema-location` is told, once each, to find the files of `folder`."""
    name = "{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
    return f"{folder}/{{{{.NormalizedKubernetesVersion}}}}/{name}", f"{folder}/crds/{name}"


def kind_schemas(openapi: Mapping[str, Any]) -> Iterator[tuple[str, Schema]]:
    """File and schema of every kind in Kubernetes' OpenAPI v2 document; each has the definitions that it refers to."""
    definitions: dict[str, Schema] = {name: _closed(schema) for name, schema in openapi["definitions"].items()}
    definitions[_QUANTITY] = {"type": ["string", "number"]}  # `cpu: 1` is a number, and the API server takes it
    for name, schema in openapi["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            needed = {other: definitions[other] for other in sorted(_reached(name, definitions))}
            yield _file(kind["group"], kind["version"], kind["kind"]), {**definitions[name], "definitions": needed}


def crd_schemas(text: str) -> Iterator[tuple[str, Schema]]:
    """File and schema of every served version of every CRD in the YAML documents of `text`."""
    for document in yaml.load_all(text, _Loader):
        if not document or document.get("kind") != "CustomResourceDefinition":
            continue
        spec = document["spec"]
        for version in spec["versions"]:
            if version["served"]:
                schema = _closed(version["schema"]["openAPIV3Schema"])
                known = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
                schema["properties"] = {**known, **schema.get("properties", {})}
                yield _file(spec["group"], version["name"], spec["names"]["kind"]), schema


class _Loader(yaml.CSafeLoader):
    """Reads `=` as text: it stands in enums of Prometheus' matchers, and PyYAML has a type of its own for it."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def _file(group: str, version: str, kind: str) -> str:
    return f"{group or version}/{kind.lower()}_{version}.json"


def _closed(schema: Mapping[str, Any]) -> Schema:
    """The schema with its unknown fields refused, at every depth; of a CRD or of one definition of Kubernetes.

    It goes where a structural schema has fields (properties, items, additionalProperties) and not into `anyOf` and its
    like, whose branches name fields without being all of them.
    """
    closed = {word: value for word, value in schema.items() if word not in _NO_RULE and not word.startswith("x-")}
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        closed.pop("format", None)
        closed["type"] = ["integer", "string"]
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            closed[keyword] = _closed(schema[keyword])
    if "properties" in schema:
        fields = schema["properties"]
        closed["properties"] = {name: _closed(field) for name, field in fields.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
        # The API server fills in defaults before it looks for what is required.
        closed["required"] = [name for name in schema.get("required", ()) if "default" not in fields.get(name, {})]
    if schema.get("nullable") and "type" in closed:
        closed["type"] = [closed["type"], "null"]
    if not closed.get("required", True):
        del closed["required"]  # an empty list is not a schema in draft 4
    return closed


def _reached(name: str, definitions: Mapping[str, Schema]) -> set[str]:
    """The definitions that one refers to, and they, and so on (`JSONSchemaProps` refers to itself)."""
    reached: set[str] = set()
    waiting = [definitions[name]]
    while waiting:
        for other in _references(waiting.pop()):
            if other not in reached:
                reached.add(other)
                waiting.append(definitions[other])
    return reached


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/definitions/")
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _fill(folder: Path, workshop: Workshop, say: Say) -> None:
    for version in VERSIONS:
        say(f"makes schemas of Kubernetes {version}")
        if version == KUBERNETES:
            module = module_folder("kubernetes", "k8s.io/kubernetes", workshop)
        else:
            module = module_folder("crds", f"k8s.io/kubernetes@{version}", workshop)
        document = json.loads((module / "api" / "openapi-spec" / "swagger.json").read_bytes())
        _write(folder / version, kind_schemas(document))
    for name in SOURCES:
        say(f"makes schemas of {name}")
        for path in crd_files([name], workshop=workshop):
            _write(folder / "crds", crd_schemas(path.read_text()))


def _write(folder: Path, schemas: Iterable[tuple[str, Schema]]) -> None:
    for name, schema in schemas:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema, separators=(",", ":")))


def _key(workshop: Workshop) -> str:
    """What the schemas are made of: the pinned modules, and this file with its neighbour."""
    digest = hashlib.sha256()
    pinned = [workshop.tools / folder / "go.sum" for folder in sorted({source.folder for source in SOURCES.values()})]
    for path in (
        Path(__file__),
        Path(__file__).with_name("crds.py"),
        workshop.tools / "kubernetes" / "go.sum",
        *pinned,
    ):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
