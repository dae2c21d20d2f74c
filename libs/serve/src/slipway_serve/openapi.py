"""The OpenAPI 3.1 document of a server: its services' own paths, the probes, and the Open Inference Protocol.

Everything in it comes from somewhere else: schemas from the Structs, words from docstrings, examples from the golden
examples. It serves nothing (pages.py does). The invariant: what a path answers, success or problem, is in the document,
and the document is fit for client generators (openapi-python-client) and testers (schemathesis).
"""

import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from slipway_serve import protocol
from slipway_serve.engine import Engine
from slipway_serve.examples import ExampleError, example_of
from slipway_serve.health import Readiness
from slipway_serve.inference import published_models, version_of
from slipway_serve.openapi_bodies import answer_content, request_content
from slipway_serve.problems import TITLES, ProblemBody
from slipway_serve.schemas import JsonSchema, components_of
from slipway_serve.service import Declared, Model, StreamModel, types_of

Json = dict[str, Any]

TIMEOUT: Final = {"$ref": "#/components/parameters/TimeoutMs"}
PROBLEMS: Final = (400, 413, 415, 422, 500, 503, 504)
"""What a path that takes a body may answer instead of its answer."""
PROTOCOL_TAG: Final = "open_inference_protocol"
PROBES_TAG: Final = "probes"
MODEL_NAME: Final = "V2ModelName"
MODEL_VERSION: Final = "V2ModelVersion"
SHARED_KINDS: Final[tuple[Any, ...]] = (
    ProblemBody,
    protocol.ProtocolProblem,
    Readiness,
    protocol.ServerMetadata,
    protocol.ServerLive,
    protocol.ServerReady,
    protocol.ModelMetadata,
    protocol.ModelReady,
    protocol.InferRequest,
    protocol.InferResponse,
)


def document_of(engines: Sequence[Engine]) -> dict[str, object]:
    """The document as JSON builtins; pure, costs some milliseconds, made once at start-up."""
    operations = [(engine, declared) for engine in engines for declared in declared_of(engine)]
    kinds = [kind for _, declared in operations for kind in types_of(declared)]
    schemas, components = components_of([*kinds, *SHARED_KINDS])
    shared = dict(zip(SHARED_KINDS, schemas[len(kinds) :], strict=True))
    paths: dict[str, Json] = {}
    for index, (engine, declared) in enumerate(operations):
        prefix = "" if len(engines) == 1 else f"/{engine.service.name}"
        path = f"{prefix}{declared.path}"
        takes, gives = schemas[2 * index : 2 * index + 2]
        content = request_content(declared, takes, components, request_example(engine, declared))
        paths[path] = {"post": _operation(engine, declared, path, content, gives)}
    _name_operations(paths)
    paths |= _probes(shared)
    paths |= _protocol(engines, shared)
    components |= _model_names(engines)
    return {
        "openapi": "3.1.0",
        "info": _info(engines),
        "tags": _tags(engines),
        "paths": paths,
        "components": {
            "schemas": components,
            "parameters": {"TimeoutMs": _timeout()},
            "responses": _responses(shared),
        },
        "x-slipway": {
            "services": [
                {
                    "name": engine.service.name,
                    "version": engine.view.version,
                    "digest": engine.view.digest,
                    "contentDigest": engine.view.content_digest,
                }
                for engine in engines
            ]
        },
    }


def declared_of(engine: Engine) -> list[Declared]:
    """What a service serves under paths of its own, in declaration order."""
    return engine.service.declared


def words_of(engine: Engine) -> str:
    """What a service says about itself: the docstring of its entry module, or nothing."""
    module = sys.modules.get(engine.view.entry.partition(":")[0])
    return inspect.cleandoc(module.__doc__) if module is not None and module.__doc__ else ""


def request_example(engine: Engine, declared: Declared) -> Any:  # JSON builtins
    """A request to show: the first golden example of a model, one made from the schema of an endpoint; or None."""
    if isinstance(declared, Model):
        return engine.examples.get(declared.name)
    try:
        return example_of(types_of(declared)[0])
    except ExampleError:
        return None


def _operation(engine: Engine, declared: Declared, path: str, content: Json, gives: JsonSchema) -> Json:
    """One `POST` of a service; its name is given when all paths are known."""
    summary, description = _words(declared)
    golden = _golden_answer(engine, declared) if isinstance(declared, Model) else None
    answer = {"description": "The answer", "content": answer_content(declared, gives, golden)}
    return {
        "operationId": path,
        "tags": [engine.service.name],
        "summary": summary,
        **({"description": description} if description else {}),
        "parameters": [TIMEOUT],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answer, **_problems()},
    }


def _words(declared: Declared) -> tuple[str, str]:
    """Summary and description: an endpoint's docstring; of a model what it maps, and its row's docstring."""
    if isinstance(declared, Model | StreamModel):
        words = inspect.getdoc(declared.row) if "__doc__" in vars(declared.row) else None
        gives = f"{'a stream of ' if isinstance(declared, StreamModel) else ''}{declared.answer.__name__}"
        return f"{declared.row.__name__} to {gives}, by model {declared.name!r}", words or ""
    words = inspect.cleandoc(declared.__doc__ or "")
    summary, _, description = words.partition("\n\n")
    return " ".join(summary.split()) or declared.name, description.strip()


def _golden_answer(engine: Engine, model: Model[Any, Any]) -> Any:
    golden = next((golden for golden in engine.view.golden if golden.model == model.name), None)
    return None if golden is None else msgspec.json.decode(golden.output)


def _name_operations(paths: dict[str, Json]) -> None:
    """`operationId` out of the path, `/predict` → `predict`; a number keeps apart what reads the same."""
    taken: set[str] = set()
    for path, item in paths.items():
        base = name = re.sub(r"\W+", "_", path).strip("_").lower()
        while name in taken:
            name = f"{base}_{len(taken) + 1}"
        taken.add(name)
        item["post"]["operationId"] = name


def _info(engines: Sequence[Engine]) -> Json:
    names = ", ".join(engine.service.name for engine in engines)
    words = words_of(engines[0]) if len(engines) == 1 else f"Several services in one server: {names}."
    return {
        "title": names if len(engines) == 1 else protocol.SERVER_NAME,
        "version": engines[0].view.version if len(engines) == 1 else "1",
        **({"description": words} if words else {}),
    }


def _tags(engines: Sequence[Engine]) -> list[Json]:
    services = [
        {"name": engine.service.name, **({"description": words} if (words := words_of(engine)) else {})}
        for engine in engines
    ]
    return [
        *services,
        {"name": PROTOCOL_TAG, "description": "Open Inference Protocol v2, with the binary tensor data extension"},
        {"name": PROBES_TAG, "description": "Is this process alive, and can it answer?"},
    ]


def _timeout() -> Json:
    return {
        "name": "X-Slipway-Timeout-Ms",
        "in": "header",
        "required": False,
        "description": "Milliseconds after which you no longer wait. What cannot make it is refused at once.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }


def _responses(shared: dict[Any, JsonSchema]) -> dict[str, Json]:
    """`Problem422`, …, and `Error422`, … in the protocol's form."""
    forms = (("Problem", shared[ProblemBody]), ("Error", shared[protocol.ProtocolProblem]))
    responses: dict[str, Json] = {}
    for form, schema in forms:
        for status in (*PROBLEMS, 404):
            responses[f"{form}{status}"] = {
                "description": TITLES[status],
                "content": {"application/problem+json": {"schema": schema}},
                **({"headers": {"Retry-After": _retry_after()}} if status == 503 else {}),
            }
    return responses


def _retry_after() -> Json:
    return {"description": "Seconds until a retry can succeed", "schema": {"type": "integer"}}


def _problems(form: str = "Problem", statuses: Sequence[int] = PROBLEMS) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{form}{status}"} for status in statuses}


def _get(name: str, tag: str, summary: str, schema: JsonSchema, *, problems: Json | None = None) -> Json:
    answer = {"description": "The answer", "content": {"application/json": {"schema": schema}}}
    return {
        "get": {
            "operationId": name,
            "tags": [tag],
            "summary": summary,
            "responses": {"200": answer, **(problems or {})},
        }
    }


def _probes(shared: dict[Any, JsonSchema]) -> dict[str, Json]:
    alive = {"type": "object", "properties": {"alive": {"type": "boolean"}}, "required": ["alive"]}
    ready = shared[Readiness]
    not_ready = {"503": {"description": "Not ready", "content": {"application/json": {"schema": ready}}}}
    return {
        "/livez": _get("livez", PROBES_TAG, "Does the process answer?", alive),
        "/readyz": _get("readyz", PROBES_TAG, "Has every model answered a row here?", ready, problems=not_ready),
    }


def _protocol(engines: Sequence[Engine], shared: dict[Any, JsonSchema]) -> dict[str, Json]:
    """The paths under `/v2`, with the names of the published models as the values of `{name}`."""
    published = published_models(engines)
    ready = shared[protocol.ServerReady]
    not_ready = {"503": {"description": "Not ready", "content": {"application/json": {"schema": ready}}}}
    paths = {
        "/v2": _get("v2_server", PROTOCOL_TAG, "Name, version and extensions", shared[protocol.ServerMetadata]),
        "/v2/health/live": _get("v2_live", PROTOCOL_TAG, "Is the server alive?", shared[protocol.ServerLive]),
        "/v2/health/ready": _get("v2_ready", PROTOCOL_TAG, "Is every model ready?", ready, problems=not_ready),
    }
    if not published:
        return paths
    name, version = (
        {"name": word, "in": "path", "required": True, "schema": {"$ref": f"#/components/schemas/{kind}"}}
        for word, kind in (("name", MODEL_NAME), ("version", MODEL_VERSION))
    )
    unknown = _problems("Error", (404,))
    model_ready = shared[protocol.ModelReady]
    down = {"503": {"description": "Not ready", "content": {"application/json": {"schema": model_ready}}}, **unknown}
    for base, suffix, parameters in (
        ("/v2/models/{name}", "", [name]),
        ("/v2/models/{name}/versions/{version}", "_version", [name, version]),
    ):
        metadata = shared[protocol.ModelMetadata]
        paths[base] = _get(f"v2_model{suffix}", PROTOCOL_TAG, "The tensors of a model", metadata, problems=unknown)
        paths[f"{base}/ready"] = _get(
            f"v2_model_ready{suffix}", PROTOCOL_TAG, "Can this model answer?", model_ready, problems=down
        )
        paths[f"{base}/infer"] = {"post": _infer(f"v2_infer{suffix}", shared)}
        for path in (base, f"{base}/ready", f"{base}/infer"):
            paths[path]["parameters"] = parameters
    return paths


def _model_names(engines: Sequence[Engine]) -> dict[str, JsonSchema]:
    """The closed sets of the protocol's path parameters, once, so that a generated client has one enum of each."""
    published = published_models(engines)
    versions = sorted({version_of(engine) for engine, _ in published.values()})
    if not published:
        return {}
    return {
        MODEL_NAME: {"title": MODEL_NAME, "type": "string", "enum": list(published)},
        MODEL_VERSION: {"title": MODEL_VERSION, "type": "string", "enum": versions},
    }


def _infer(name: str, shared: dict[Any, JsonSchema]) -> Json:
    answer = {
        "description": "The output tensors",
        "content": {"application/json": {"schema": shared[protocol.InferResponse]}},
    }
    return {
        "operationId": name,
        "tags": [PROTOCOL_TAG],
        "summary": "Tensors in, tensors out",
        "description": (
            "Tensors may also follow the JSON as binary data: their `binary_data_size` stands in `parameters`, and the "
            "header `Inference-Header-Content-Length` gives the length of the JSON."
        ),
        "parameters": [TIMEOUT],
        "requestBody": {"required": True, "content": {"application/json": {"schema": shared[protocol.InferRequest]}}},
        "responses": {"200": answer, **_problems("Error", (404, *PROBLEMS))},
    }
