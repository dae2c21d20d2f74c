"""Requests with bytes: JSON, forms and bare bodies give the same value, pass the same checks, name the same field."""

import base64
import enum
import json
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct
from web_routes import HandMade, Running, running_routes

from slipway_serve import Endpoint, Service
from slipway_serve.bodies import MAX_HEADER_BYTES, MAX_PARTS, OFFLOAD_BYTES
from slipway_serve.config import LimitsConfig
from slipway_serve.handlers import EndpointHandler
from slipway_serve.routes import Route, ServerState

LIMIT = 1024 * 1024


class Page(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture, and how to read it."""

    image: Annotated[bytes, Meta(min_length=2, max_length=600_000)]
    dpi: Annotated[int, Meta(ge=50, le=1200)] = 300


class Kind(enum.Enum):
    SCAN = "scan"
    PHOTO = "photo"


class Corner(Struct, frozen=True):
    x: float
    y: float


class Upload(Struct, frozen=True):
    """One field of every kind that a part can be."""

    file: bytes
    name: Annotated[str, Meta(min_length=1)]
    kind: Kind
    scale: float
    note: str | None = None
    is_double_sided: bool = False
    corner: Corner | None = None
    tags: list[str] = []
    extra: list[bytes] = []
    counts: list[int] = []


class Told(Struct, frozen=True):
    """What an endpoint understood."""

    size: int
    words: str
    thread: bool


service = Service("bodies")


@service.endpoint("/page")
async def page(request: Page) -> Told:
    """Sizes a page."""
    return Told(len(request.image), f"{request.dpi}", threading.current_thread() is threading.main_thread())


@service.endpoint("/upload")
async def upload(request: Upload) -> Told:
    """Says what came."""
    return Told(len(request.file), json.dumps(said(request)), thread=True)


@service.endpoint("/plain")
async def plain(request: Corner) -> Corner:
    """JSON only."""
    return request


def said(request: Upload) -> list[Any]:
    """An upload without its file."""
    extra = [part.decode() for part in request.extra]
    corner = None if request.corner is None else [request.corner.x, request.corner.y]
    return [
        request.name,
        request.kind.value,
        request.scale,
        request.note,
        request.is_double_sided,
        corner,
        request.tags,
        extra,
        request.counts,
    ]


def routes(state: ServerState) -> list[Route]:
    """The service's endpoints."""
    engine = HandMade()
    endpoints: tuple[Endpoint[Any, Any], ...] = (page, upload, plain)
    handlers = [(endpoint.path, EndpointHandler(engine, endpoint)) for endpoint in endpoints]
    return [Route(path, handler, state, 5.0, accepts=handler.accepts) for path, handler in handlers]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """The three endpoints."""
    with running_routes(routes, LimitsConfig(body_bytes=LIMIT)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    """One client for all examples."""
    with server.client() as client:
        yield client


IMAGE = b"\x89PNG\r\n--\x00\xff"


@pytest.mark.parametrize(
    "request_of",
    [
        lambda image: {"json": {"image": base64.b64encode(image).decode()}},
        lambda image: {"files": {"image": ("page.png", image, "image/png")}},
        lambda image: {"files": {"image": (None, image)}},
        lambda image: {"content": image, "headers": {"content-type": "application/octet-stream"}},
        lambda image: {"content": image, "headers": {"content-type": "image/png"}},
        lambda image: {"content": image, "headers": {"content-type": "Image/JPEG; q=1"}},
        lambda image: {"content": image, "headers": {"content-type": "application/pdf"}},
    ],
    ids=["json", "file", "field", "octets", "png", "jpeg", "pdf"],
)
def test_every_form_of_a_page_is_the_same_page(server: Running, request_of: Any) -> None:
    with server.client() as client:
        good = client.post("/page", **request_of(IMAGE))
        short = client.post("/page", **request_of(b"x"))
        long = client.post("/page", **request_of(b"x" * 600_001))

    assert (good.status_code, good.json()["size"], good.json()["words"]) == (200, len(IMAGE), "300")
    for answer, words in ((short, "length >= 2"), (long, "length <= 600000")):
        assert (answer.status_code, answer.json()["code"]) == (422, "schema_mismatch")
        assert answer.json()["path"] == "$.image"
        assert words in answer.json()["detail"]


def test_a_form_gives_every_kind_of_field(server: Running) -> None:
    parts: list[Any] = [
        ("file", ("a.bin", b"abc", "application/octet-stream")),
        ("name", (None, "Zoë")),
        ("kind", (None, "photo")),
        ("scale", (None, "2.5")),
        ("is_double_sided", (None, "true")),
        ("corner", (None, '{"x": 1, "y": 2}', "application/json")),
        ("tags", (None, "a")),
        ("tags", (None, "b")),
        ("extra", ("x", b"one")),
        ("extra", ("y", b"two")),
        ("counts", (None, "[1, 2, 3]", "application/json")),
    ]

    with server.client() as client:
        answer = client.post("/upload", files=parts)

    assert answer.status_code == 200, answer.text
    expected = ["Zoë", "photo", 2.5, None, True, [1.0, 2.0], ["a", "b"], ["one", "two"], [1, 2, 3]]
    assert json.loads(answer.json()["words"]) == expected


REQUIRED: dict[str, tuple[Any, ...]] = {
    "file": ("f", b"abc"),
    "name": (None, "n"),
    "kind": (None, "scan"),
    "scale": (None, "1"),
}


@pytest.mark.parametrize(
    ("parts", "path", "words"),
    [
        ({"kind": (None, "fax")}, "$.kind", "Invalid enum value"),
        ({"scale": (None, "wide")}, "$.scale", "Expected `float`"),
        ({"scale": (None, "nan")}, "$.scale", "finite number"),
        ({"scale": (None, " -Infinity ")}, "$.scale", "finite number"),
        ({"name": (None, "")}, "$.name", "length >= 1"),
        ({"name": (None, b"\xff\xfe")}, "$.name", "UTF-8"),
        ({"name": (None, "n", "text/plain; charset=idna")}, "$.name", "UTF-8"),
        ({"corner": (None, "{", "application/json")}, "$.corner", "JSON"),
        ({"corner": (None, '{"x": 1}')}, "$.corner", "missing required field `y`"),
        ({"counts": (None, "one")}, "$.counts[0]", "Expected `int`"),
    ],
)
def test_an_error_in_a_form_names_the_field(
    server: Running, parts: dict[str, tuple[Any, ...]], path: str, words: str
) -> None:
    with server.client() as client:
        answer = client.post("/upload", files={**REQUIRED, **parts})

    assert (answer.status_code, answer.json()["code"], answer.json()["path"]) == (422, "schema_mismatch", path)
    assert words in answer.json()["detail"]


def test_a_doubled_part_and_an_unknown_part_are_refused(server: Running) -> None:
    with server.client() as client:
        doubled = client.post("/page", files=[("image", ("a", b"abc")), ("image", ("b", b"abc"))])
        unknown = client.post("/page", files={"image": ("a", b"abc"), "colour": (None, "red")})

    assert (doubled.status_code, doubled.json()["path"]) == (422, "$.image")
    assert "got 2" in doubled.json()["detail"]
    assert (unknown.status_code, unknown.json()["detail"]) == (422, "Object contains unknown field `colour`")


@pytest.mark.parametrize("path", ["/page", "/upload", "/plain"])
def test_another_media_type_is_told_what_is_accepted(server: Running, path: str) -> None:
    with server.client() as client:
        answer = client.post(path, content=b"abc", headers={"content-type": "text/csv"})

    detail = answer.json()["detail"]
    assert (answer.status_code, answer.json()["code"]) == (415, "media_type")
    assert "application/json" in detail
    assert ("multipart/form-data" in detail) == (path != "/plain")
    assert ("image/*" in detail) == (path == "/page")


def form(*lines: bytes) -> bytes:
    """A form with the boundary `b`, by hand."""
    return b"\r\n".join(lines)


HEAD = b'Content-Disposition: form-data; name="image"'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        (b"multipart/form-data", b"", 400, "form_invalid"),
        (b"multipart/form-data; boundary=" + b"b" * 71, b"", 400, "form_invalid"),
        (
            b"multipart/form-data; boundary=b" + b'; x="' * 2_000,
            form(b"--b", HEAD, b"", b"abc", b"--b--"),
            400,
            "form_invalid",
        ),
        (b"multipart/form-data; boundary=b", b"", 400, "form_invalid"),
        (b"multipart/form-data; boundary=b", form(b"--b", HEAD, b"", b"abc"), 400, "form_invalid"),
        (b"multipart/form-data; boundary=b", form(b"--b", b"No-Header", b"", b"abc", b"--b--"), 400, "form_invalid"),
        (
            b"multipart/form-data; boundary=b",
            form(b"--b", HEAD, b"Content-Transfer-Encoding: base64", b"", b"YWJj", b"--b--"),
            400,
            "form_invalid",
        ),
        (
            b"multipart/form-data; boundary=b",
            form(b"--b", HEAD + b"; x=" + b"x" * MAX_HEADER_BYTES, b"", b"abc", b"--b--"),
            413,
            "form_too_large",
        ),
        (
            b"multipart/form-data; boundary=b",
            form(*(b"--b", HEAD, b"", b"abc") * (MAX_PARTS + 1), b"--b--"),
            413,
            "form_too_large",
        ),
        (b"multipart/form-data; boundary=b", b"x" * (LIMIT + 1), 413, "body_too_large"),
    ],
)
def test_a_malformed_form_is_refused(server: Running, content_type: bytes, body: bytes, status: int, code: str) -> None:
    with server.client() as client:
        answer = client.post("/page", content=body, headers={b"content-type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_a_big_form_is_parsed_beside_the_event_loop() -> None:
    threads: list[str] = []

    def watching(state: ServerState) -> list[Route]:
        engine = HandMade()
        run = engine.offloader.run

        async def seen(function: Any, *args: Any, **kwargs: Any) -> Any:
            threads.append(function.__name__)
            return await run(function, *args, **kwargs)

        engine.offloader.run = seen  # type: ignore[method-assign]  # the real one, watched
        handler = EndpointHandler(engine, page)
        return [Route("/page", handler, state, 5.0, accepts=handler.accepts)]

    with running_routes(watching) as running, running.client() as client:
        small = client.post("/page", files={"image": ("a", b"x" * 1_000)})
        assert threads == []
        big = client.post("/page", files={"image": ("a", b"x" * OFFLOAD_BYTES)})

    assert (small.status_code, big.status_code, big.json()["size"]) == (200, 200, OFFLOAD_BYTES)
    assert threads == ["decode"]


def test_a_file_input_without_a_file_is_no_file(server: Running) -> None:
    """Browsers send an empty part with an empty file name for it."""
    body = form(b"--b", HEAD + b'; filename=""', b"Content-Type: application/octet-stream", b"", b"", b"--b--")

    with server.client() as client:
        answer = client.post("/page", content=body, headers={"content-type": "multipart/form-data; boundary=b"})

    assert (answer.status_code, answer.json()["detail"]) == (422, "Object missing required field `image`")


LINES = st.sampled_from(
    [
        b"--b",
        b"--b--",
        b"",
        b"--",
        b"\r",
        HEAD,
        b'Content-Disposition: form-data; name="dpi"',
        b'Content-Disposition: form-data; name="file"; filename=""',
        b'Content-Disposition: form-data; name="%22\\"',
        b"Content-Disposition: attachment",
        b"Content-Length: 3",
        b"Content-Length: -1",
        b"Content-Type: application/json; charset=utf-16",
        b"Content-Type: ;;;",
        b"Content-Transfer-Encoding: quoted-printable",
        b" folded",
        b"abc",
        b"[[[[",
        b"\xff\xfe",
    ]
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.lists(LINES | st.binary(max_size=20), max_size=14).map(b"\r\n".join),
    content_type=st.sampled_from([b"multipart/form-data; boundary=b", b'Multipart/Form-Data;boundary="b"'])
    | st.binary(max_size=20).map(
        lambda tail: b"multipart/form-data;" + tail.translate(None, bytes(range(33)) + b"\x7f")
    ),
)
def test_no_form_gives_a_server_error(client: httpx.Client, body: bytes, content_type: bytes) -> None:
    for path in ("/page", "/upload"):
        answer = client.post(path, content=body, headers={b"content-type": content_type})
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
