"""Schemas for kubeconform: as strict as an API server, from Kubernetes' own document and from CRDs."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from lab_workshop import make_workshop

from slipway_lab.build import BuildError
from slipway_lab.crds import crd_files, module_folder
from slipway_lab.errors import LabError
from slipway_lab.schemas import crd_schemas, kind_schemas, locations

OPENAPI: dict[str, Any] = {
    "definitions": {
        "io.k8s.api.apps.v1.Deployment": {
            "type": "object",
            "description": "long",
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"$ref": "#/definitions/ObjectMeta"},
                "spec": {"$ref": "#/definitions/Spec"},
            },
            "x-kubernetes-group-version-kind": [{"group": "apps", "kind": "Deployment", "version": "v1"}],
        },
        "io.k8s.api.core.v1.Pod": {
            "type": "object",
            "properties": {"metadata": {"$ref": "#/definitions/ObjectMeta"}},
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "Pod", "version": "v1"}],
        },
        "ObjectMeta": {
            "type": "object",
            "properties": {"labels": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
        "Spec": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer", "format": "int32"},
                "surge": {"type": "string", "format": "int-or-string"},
                "cpu": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"},
                "inner": {"$ref": "#/definitions/Spec"},
                "raw": {"type": "object"},
            },
        },
        "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
        "NotReached": {"type": "object"},
    }
}

CRDS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.slipway.dev}
spec:
  group: slipway.dev
  names: {kind: Thing}
  versions:
  - name: v1
    served: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [path, role]
            properties:
              path: {type: string, default: kubernetes}
              role: {type: string}
              weight: {anyOf: [{type: integer}, {type: string}], x-kubernetes-int-or-string: true}
              note: {type: string, nullable: true}
              match: {type: string, enum: [=, "!="]}
              steps: {type: array, items: {type: object, properties: {setWeight: {type: integer}}}}
              open: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {a: {type: string}}}
              choice: {type: object, properties: {a: {type: string}}, oneOf: [{properties: {a: {minLength: 2}}}]}
  - name: v1alpha1
    served: false
    schema: {openAPIV3Schema: {type: object}}
---
apiVersion: v1
kind: ConfigMap
"""


def judge(schemas: dict[str, Any], name: str, value: object) -> list[str]:
    """What JSON schema's reference validator says, as kubeconform reads them: draft 4."""
    return sorted(error.message for error in jsonschema.Draft4Validator(schemas[name]).iter_errors(value))


@pytest.fixture
def kinds() -> dict[str, Any]:
    """The schemas of the small OpenAPI document, by their files."""
    return dict(kind_schemas(OPENAPI))


@pytest.fixture
def things() -> dict[str, Any]:
    """The schemas of the CRD, by their files."""
    return dict(crd_schemas(CRDS))


def test_a_file_is_named_by_group_kind_and_version(kinds: dict[str, Any], things: dict[str, Any]) -> None:
    assert list(kinds) == ["apps/deployment_v1.json", "v1/pod_v1.json"]
    assert list(things) == ["slipway.dev/thing_v1.json"]


def test_schemas_are_schemas(kinds: dict[str, Any], things: dict[str, Any]) -> None:
    for schema in (*kinds.values(), *things.values()):
        jsonschema.Draft4Validator.check_schema(schema)

    assert "long" not in json.dumps(kinds)


def test_a_schema_holds_what_it_refers_to_and_no_more(kinds: dict[str, Any]) -> None:
    assert sorted(kinds["v1/pod_v1.json"]["definitions"]) == ["ObjectMeta"]
    assert "Spec" in kinds["apps/deployment_v1.json"]["definitions"]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"replicas": 2, "surge": "25%", "cpu": "500m", "inner": {"surge": 1, "cpu": 1}, "raw": {"a": 1}}, None),
        ({"replica": 2}, "Additional properties are not allowed ('replica' was unexpected)"),
        ({"inner": {"inner": {"replica": 2}}}, "Additional properties are not allowed ('replica' was unexpected)"),
        ({"replicas": "2"}, "'2' is not of type 'integer'"),
        ({"surge": 0.5}, "0.5 is not of type 'integer', 'string'"),
        ({"cpu": True}, "True is not of type 'string', 'number'"),
    ],
)
def test_a_kind_is_judged_as_strictly_as_an_api_server_does(
    kinds: dict[str, Any], spec: object, problem: str | None
) -> None:
    found = judge(kinds, "apps/deployment_v1.json", {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec})

    assert found == ([] if problem is None else [problem])


def test_labels_are_open_and_their_values_are_text(kinds: dict[str, Any]) -> None:
    assert judge(kinds, "v1/pod_v1.json", {"metadata": {"labels": {"anything": "yes"}}}) == []
    assert judge(kinds, "v1/pod_v1.json", {"metadata": {"labels": {"x": True}}}) == ["True is not of type 'string'"]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"role": "r", "weight": 10, "note": None, "match": "=", "open": {"b": 1}, "choice": {"a": "ab"}}, None),
        ({"role": "r", "weight": "10%", "steps": [{"setWeight": 1}]}, None),
        ({}, "'role' is a required property"),
        (
            {"role": "r", "steps": [{"setWeigt": 1}]},
            "Additional properties are not allowed ('setWeigt' was unexpected)",
        ),
        ({"role": "r", "match": "~"}, "'~' is not one of ['=', '!=']"),
    ],
)
def test_a_custom_kind_is_judged_after_its_defaults(things: dict[str, Any], spec: object, problem: str | None) -> None:
    thing = {"apiVersion": "slipway.dev/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec}

    assert judge(things, "slipway.dev/thing_v1.json", thing) == ([] if problem is None else [problem])


def test_locations_are_the_files_of_both_kinds() -> None:
    kubernetes, crds = locations(Path("/s"))

    assert kubernetes == (
        "/s/{{.NormalizedKubernetesVersion}}/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
    )
    assert crds == "/s/crds/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"


def test_crds_come_from_the_pinned_module(tmp_path: Path) -> None:
    module = tmp_path / "module" / "manifests" / "crds"
    module.mkdir(parents=True)
    (module / "rollout-crd.yaml").write_text("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n")
    (module / "other-crd.yaml").write_text("kind: ValidatingAdmissionPolicy\n")
    workshop = make_workshop(
        tmp_path, f'#!/bin/sh\necho "$@" >> {{log}}\necho \'{{{{"Dir": "{tmp_path}/module"}}}}\'\n'
    )
    (workshop.tools / "rollouts").mkdir()

    files = crd_files(["rollouts"], workshop=workshop)

    assert files == (module / "rollout-crd.yaml",)
    assert workshop.go.with_name("asked.log").read_text() == "mod download -json github.com/argoproj/argo-rollouts\n"


def test_a_module_that_has_no_crds_any_more_is_told(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path, f'#!/bin/sh\necho \'{{{{"Dir": "{tmp_path}"}}}}\'\n')
    (workshop.tools / "rollouts").mkdir()

    with pytest.raises(BuildError, match=r"no CRD in .*: expected manifests/crds/\*-crd\.yaml"):
        crd_files(["rollouts"], workshop=workshop)


def test_a_module_that_is_not_what_was_pinned_is_told(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path, '#!/bin/sh\necho \'{{"Dir": "/x", "Error": "checksum mismatch"}}\'\nexit 1\n')

    with pytest.raises(BuildError, match="x/y cannot be read: checksum mismatch") as caught:
        module_folder("pause", "x/y", workshop)

    assert caught.value.hint == "the same by hand: cd tools/pause && go mod download x/y"


def test_an_unknown_source_of_crds_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no CRDs of 'istio', expected one of rollouts, traefik"):
        crd_files(["istio"], workshop=make_workshop(tmp_path))
