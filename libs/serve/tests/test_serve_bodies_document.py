"""The document says which bodies and streams a path has, and a generated client sends every form of them."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_serve_bodies import LIMIT, routes, service
from web_routes import running_routes
from web_streams import service as talk

from slipway_serve.config import LimitsConfig, RuntimeConfig
from slipway_serve.engine import Engine
from slipway_serve.openapi import document_of

GENERATOR = Path(sys.executable).parent / "openapi-python-client"

CALLER = """
import io, sys
from generated import Client
from generated.api.bodies import page
from generated.models import Page, PageForm, ProblemBody, Told
from generated.types import File

client = Client(base_url=sys.argv[1])
picture = lambda data: File(payload=io.BytesIO(data), file_name="a.png")
for body in (Page(image="YWJj", dpi=100), PageForm(image=picture(b"abc"), dpi=100)):
    told = page.sync(client=client, body=body)
    assert isinstance(told, Told) and (told.size, told.words) == (3, "100"), told
told = page.sync(client=client, body=picture(b"abc"))
assert isinstance(told, Told) and told.size == 3, told
problem = page.sync(client=client, body=PageForm(image=picture(b"a"), dpi=100))
assert isinstance(problem, ProblemBody) and problem.path == "$.image", problem
"""


def engine_of(declared: Any) -> Engine:
    """An engine as far as a document needs one."""
    view = SimpleNamespace(entry="none:none", golden=(), version="1", digest=None, content_digest=None, manifest=None)
    return cast("Engine", SimpleNamespace(service=declared, examples={}, view=view, config=RuntimeConfig()))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of both services, each on its own."""
    return {"bodies": document_of([engine_of(service)]), "talk": document_of([engine_of(talk)])}


def test_the_document_lists_every_media_type_with_its_schema(document: dict[str, Any]) -> None:
    paths = document["bodies"]["paths"]
    contents = {path: paths[path]["post"]["requestBody"]["content"] for path in ("/page", "/upload", "/plain")}

    assert list(contents["/page"]) == [
        "application/json",
        "multipart/form-data",
        "application/octet-stream",
        "image/*",
        "application/pdf",
    ]
    assert list(contents["/upload"]) == ["application/json", "multipart/form-data"]
    assert list(contents["/plain"]) == ["application/json"]
    form = document["bodies"]["components"]["schemas"]["PageForm"]
    assert form["properties"]["image"] == {"type": "string", "format": "binary", "minLength": 2, "maxLength": 600_000}
    assert form["required"] == ["image"]
    assert contents["/page"]["image/*"]["schema"] == form["properties"]["image"]
    many = document["bodies"]["components"]["schemas"]["UploadForm"]["properties"]["extra"]
    assert (many["type"], many["items"]) == ("array", {"type": "string", "format": "binary"})


@pytest.mark.parametrize("path", ["/chat", "/loudly"])
def test_the_document_says_what_a_stream_is(document: dict[str, Any], path: str) -> None:
    answer = document["talk"]["paths"][path]["post"]["responses"]["200"]["content"]

    assert list(answer) == ["text/event-stream", "application/x-ndjson"]
    assert {form["schema"]["x-slipway-item"]["$ref"] for form in answer.values()} == {"#/components/schemas/Token"}


def test_a_generated_client_sends_every_form(document: dict[str, Any], tmp_path: Path) -> None:
    written = tmp_path / "openapi.json"
    written.write_text(json.dumps(document["bodies"]))
    command = [
        str(GENERATOR),
        "generate",
        "--path",
        str(written),
        "--output-path",
        str(tmp_path / "generated"),
        "--meta",
        "none",
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode == 0, made.stdout + made.stderr

    with running_routes(routes, LimitsConfig(body_bytes=LIMIT)) as running:
        called = subprocess.run(
            [sys.executable, "-c", CALLER, running.url],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=60,
        )

    assert called.returncode == 0, called.stderr
