"""The OpenAPI document: valid, complete, exact, and good enough for a tester to find no 5xx with it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from web_service import ROW, Running, running, write_wide

from slipway_serve.openapi import _name_operations, document_of

NAME = "documented"
SERVICE_PATHS = ("/wide", "/shout", "/pixel")
V2_PATHS = (
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{name}",
    "/v2/models/{name}/ready",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}",
    "/v2/models/{name}/versions/{version}/ready",
    "/v2/models/{name}/versions/{version}/infer",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_wide(tmp_path_factory.mktemp("wide"), NAME)) as served:
        yield served


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    with server.client() as client:
        return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def api(server: Running, document: Any) -> Any:
    """The document as the tester wants it, with where the server is."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    return schema


def component(document: Any, name: str) -> Any:
    return document["components"]["schemas"][name]


def validator(document: Any, name: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


def test_the_document_is_valid_openapi_3_1(document: Any) -> None:
    schemathesis.openapi.from_dict(document).validate()

    assert document["openapi"] == "3.1.0"


def test_every_path_is_in_it_once_with_a_name_and_words(document: Any) -> None:
    operations = [item[method] for item in document["paths"].values() for method in ("get", "post") if method in item]

    assert set(document["paths"]) == {*SERVICE_PATHS, "/livez", "/readyz", *V2_PATHS}
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert document["paths"]["/shout"]["post"]["summary"] == "Say it louder."
    assert "<i>markup</i>" in document["paths"]["/shout"]["post"]["description"]


def test_schemas_carry_the_exact_constraints_of_the_structs(document: Any) -> None:
    wide = component(document, "Wide")["properties"]

    assert wide["ratio"] == {"type": "number", "minimum": 0, "maximum": 1, "description": "Of something <b>bold</b>."}
    assert wide["income"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert wide["count"] == {"type": "integer", "minimum": 0, "maximum": 1000}
    assert wide["word"] == {"type": "string", "maxLength": 20}
    assert wide["blob"] == {"type": "string", "contentEncoding": "base64"}
    assert wide["kind"] == {"type": "string", "enum": ["large", "small"]}
    assert sorted(component(document, "Colour")["enum"]) == ["blue", "red"]
    row = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
    assert wide["grid"] == {"type": "array", "items": row, "minItems": 2, "maxItems": 2}
    assert component(document, "Wide")["additionalProperties"] is False
    assert set(component(document, "Wide")["required"]) == set(ROW)


def test_examples_fit_their_schemas_and_are_answered(document: Any, server: Running) -> None:
    with server.client() as client:
        for path, name in (("/wide", "Wide"), ("/shout", "Loud")):
            example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
            validator(document, name).validate(example)
            assert client.post(path, json=example).status_code == 200


def test_what_the_schema_says_of_an_answer_is_what_is_answered(document: Any, server: Running) -> None:
    with server.client() as client:
        answer = client.post("/wide", json=ROW).json()

    assert list(validator(document, "Out").iter_errors(answer)) == []


def test_problems_are_documented_where_they_happen(document: Any, server: Running) -> None:
    for path in SERVICE_PATHS:
        responses = document["paths"][path]["post"]["responses"]
        assert set(responses) == {"200", "400", "413", "415", "422", "500", "503", "504"}
    with server.client() as client:
        problem = client.post("/wide", json={**ROW, "ratio": 2})
    validator(document, "ProblemBody").validate(problem.json())
    said = document["components"]["responses"]["Problem422"]["content"]
    assert list(said) == [problem.headers["content-type"]]


def test_the_deadline_header_is_a_parameter_of_every_path_that_computes(document: Any) -> None:
    for path in (*SERVICE_PATHS, "/v2/models/{name}/infer"):
        assert {"$ref": "#/components/parameters/TimeoutMs"} in document["paths"][path]["post"]["parameters"]
    assert document["components"]["parameters"]["TimeoutMs"]["name"] == "X-Slipway-Timeout-Ms"


def test_the_document_names_the_bundle(document: Any) -> None:
    assert document["x-slipway"]["services"] == [
        {"name": NAME, "version": "unbuilt", "digest": None, "contentDigest": None}
    ]


def test_several_services_are_one_document_with_their_own_paths_and_names(
    server: Running, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(write_wide(tmp_path_factory.mktemp("second"), "second")) as other:
        document: Any = document_of([server.engines[0], other.engines[0]])

    schemathesis.openapi.from_dict(document).validate()
    assert {f"/{NAME}/wide", "/second/wide"} <= set(document["paths"])
    assert document["components"]["schemas"]["V2ModelName"]["enum"] == [NAME, "second"]


def test_paths_that_read_alike_have_different_names() -> None:
    paths: dict[str, Any] = {path: {"post": {}} for path in ("/a-b", "/a_b", "/a/b")}

    _name_operations(paths)

    names = [item["post"]["operationId"] for item in paths.values()]
    assert names[0] == "a_b"
    assert len(set(names)) == 3


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_a_tester_with_the_document_finds_no_5xx(api: Any, mode: GenerationMode) -> None:
    """Schemathesis without its pytest plugin, which pytest 9 has outrun."""
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.method == "get" and mode is GenerationMode.NEGATIVE:
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            case.headers.pop("X-Slipway-Timeout-Ms", None)  # a random timeout of nanoseconds is rightly a 503

            response = case.call(timeout=20)

            assert response.status_code < 500, (case.path, response.status_code, response.text)
            assert response.status_code < 400 or response.json()["detail"]

        ask()
