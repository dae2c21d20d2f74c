"""Dropping a picture on a service's page, in a real browser: each path that takes it answers, side by side."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chromium_pipe import Tab, browser
from serve_folders import train
from web_service import Running, running

UPLOADS = '''"""Uploads: paths that take the same picture, and one that takes more."""

from typing import Annotated

from msgspec import Meta, Struct
from slipway_serve import Problem, Service


class Row(Struct, frozen=True):
    tenure_days: float
    mean_charge: float | None


class Score(Struct, frozen=True):
    probability: float


class Page(Struct, frozen=True):
    image: Annotated[bytes, Meta(min_length=1, max_length=2_000_000)]


class Titled(Struct, frozen=True):
    image: bytes
    title: str
    copies: int


class Item(Struct, frozen=True):
    text: str
    score: float
    box: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


class Found(Struct, frozen=True):
    lines: tuple[Item, ...]
    size_bytes: int


class Told(Struct, frozen=True):
    words: str


service = Service("uploads")
score = service.model("uploads", Row, Score)


@service.endpoint("/find")
async def find(page: Page) -> Found:
    """Finds lines."""
    if not page.image.startswith(b"\\x89PNG"):
        raise Problem(415, "picture_type", "the picture is no PNG", path="$.image")
    box = ((2.0, 2.0), (30.0, 2.0), (30.0, 12.0))
    return Found((Item("first <b>line</b>", 0.5, box), Item("second", 1.0, box)), len(page.image))


@service.endpoint("/paint", produces="image/png")
async def paint(page: Page) -> bytes:
    """Gives the picture back."""
    if not page.image.startswith(b"\\x89PNG"):
        raise Problem(415, "picture_type", "the picture is no PNG", path="$.image")
    return page.image


@service.endpoint("/title")
async def title(titled: Titled) -> Told:
    """Tells what came."""
    return Told(f"{titled.title} x {titled.copies}: {len(titled.image)} bytes")
'''
BOTH_ANSWERED = "document.querySelectorAll('.answers .answer:not([hidden]) .status-line').length === 2"


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xb4" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("uploads")
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir()
    (folder / "src" / "uploads_service.py").write_text(UPLOADS)
    model = '[bundle.models.uploads]\nfile = "model/model.ubj"\nformat = "xgboost"\n'
    (folder / "slipway.toml").write_text(f'entry = "uploads_service:service"\n\n{model}')
    with running(folder) as served:
        yield served


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "page.png"
    path.write_bytes(png(64, 32))
    return path


def test_paths_that_take_the_same_file_share_a_form(server: Running) -> None:
    with server.client() as client:
        html = client.get("/").text

    assert html.count("<form") == 2
    assert 'data-try="/find /paint"' in html
    assert "Try /find and /paint" in html
    assert "at most 2 MB" in html


def test_the_reference_says_how_a_file_is_sent(server: Running) -> None:
    with server.client() as client:
        html = client.get("/docs").text

    assert "curl -s $HOST/find -F image=@FILE" in html
    assert "curl -s $HOST/find -H &#x27;content-type: application/octet-stream&#x27; --data-binary @FILE" in html
    assert "curl -s $HOST/title -F image=@FILE -F title=… -F copies=…" in html


@pytest.mark.slow
@pytest.mark.needs("chromium")
class TestInABrowser:
    def test_choosing_one_picture_shows_both_answers(self, server: Running, tab: Tab, picture: Path) -> None:
        tab.open(f"{server.url}/")
        tab.choose("form[data-try^='/find'] input[type=file]", picture)
        tab.wait(BOTH_ANSWERED)

        assert tab.run("[...document.querySelectorAll('.items li .said')].map((line) => line.textContent)") == [
            "first <b>line</b>",
            "second",
        ]
        assert tab.run("document.querySelector('.items li .measured').textContent") == "50.0 %"
        assert tab.run("document.querySelector('.picture img').decode().then(() => true)") is True
        assert tab.run("document.querySelector('.picture img').naturalWidth") == 64
        lefts = tab.run(
            "[...document.querySelectorAll('.answers .answer')].map((box) => box.getBoundingClientRect().x)"
        )
        assert tab.run("document.querySelector('.answers .answer').dataset.answer") == "/paint"
        assert lefts[0] < lefts[1]  # the picture on the left, its lines on the right
        assert tab.complaints == []

    def test_dropping_a_picture_is_choosing_it(self, server: Running, tab: Tab) -> None:
        tab.open(f"{server.url}/")
        tab.run(
            f"(() => {{ const files = new DataTransfer(); files.items.add(new File([Uint8Array.from("
            f"{list(png(8, 8))})], 'dropped.png', {{type: 'image/png'}}));"
            "const zone = document.querySelector('[data-drop]');"
            "for (const name of ['dragenter', 'dragover', 'drop']) zone.dispatchEvent("
            "new DragEvent(name, {dataTransfer: files, bubbles: true, cancelable: true})); })()"
        )
        tab.wait(BOTH_ANSWERED)

        assert tab.run("document.querySelector('.picture img').naturalWidth") == 8
        assert tab.run("document.querySelector('input[type=file]').files[0].name") == "dropped.png"
        tab.wait("document.querySelector('.drop img')")
        assert not tab.run("document.querySelector('.drop').classList.contains('over')")

    def test_a_line_under_the_focus_is_outlined_on_the_picture(self, server: Running, tab: Tab, picture: Path) -> None:
        tab.open(f"{server.url}/")
        tab.choose("form[data-try^='/find'] input[type=file]", picture)
        tab.wait(BOTH_ANSWERED)
        tab.run("document.querySelector('.picture img').decode()")

        tab.run("document.querySelector('.items li').focus()")
        outlined = tab.run("document.querySelector('.picture polygon').getAttribute('points')")
        tab.run("document.querySelector('.items li').blur()")

        assert outlined == "2,2 30,2 30,12"
        assert tab.run("document.querySelector('.picture svg')") is None

    def test_a_refused_file_is_told_once_and_at_its_field(self, server: Running, tab: Tab, tmp_path: Path) -> None:
        path = tmp_path / "words.txt"
        path.write_text("no picture")

        tab.open(f"{server.url}/")
        tab.choose("form[data-try^='/find'] input[type=file]", path)
        tab.wait("!document.querySelector('button[aria-busy]') && document.querySelector('.answer.bad .status-line')")

        said = tab.run(
            "[...document.querySelectorAll('.answer')].filter((box) => !box.hidden).map((box) => box.innerText)"
        )
        assert len(said) == 1
        assert "the picture is no PNG" in said[0]
        assert tab.run("document.activeElement.type") == "file"
        assert tab.run("document.activeElement.getAttribute('aria-invalid')") == "true"
        assert all("415" in complaint for complaint in tab.complaints)  # Chromium writes each failed request down
        tab.complaints.clear()

    def test_a_form_with_more_fields_waits_for_send(self, server: Running, tab: Tab, picture: Path) -> None:
        tab.open(f"{server.url}/")
        tab.choose("form[data-try='/title'] input[type=file]", picture)
        tab.wait("document.querySelector(\"form[data-try='/title'] .drop img\")")
        assert tab.run("document.querySelector(\"[data-answer='/title']\").hidden") is True

        tab.run(
            "(() => { const form = document.querySelector(\"form[data-try='/title']\");"
            "form.querySelector('#title-title').value = 'It\\'s'; form.querySelector('#title-copies').value = '3';"
            "form.querySelector('#title-copies').dispatchEvent(new Event('input', {bubbles: true}));"
            "form.requestSubmit(); })()"
        )
        tab.wait("document.querySelector(\"[data-answer='/title'] .values\")")

        size = picture.stat().st_size
        assert tab.run("document.querySelector(\"[data-answer='/title'] dd\").textContent") == f"It's x 3: {size} bytes"
        command = tab.run("document.querySelector(\"form[data-try='/title'] [data-curl]\").textContent")
        assert command.endswith(
            f"{server.url}/title \\\n  -F 'image=@{picture.name}' -F 'title=It'\\''s' -F 'copies=3'"
        )

    def test_sending_without_a_file_asks_for_one(self, server: Running, tab: Tab) -> None:
        tab.open(f"{server.url}/")
        tab.run("document.querySelector('form').requestSubmit()")
        tab.wait("document.querySelector('[aria-invalid]')")

        assert tab.run("document.querySelector('.error:not([hidden])').textContent") == "Choose a file first."
        assert tab.run("document.activeElement.type") == "file"

    def test_a_reset_form_shows_no_picture_and_no_answer(self, server: Running, tab: Tab, picture: Path) -> None:
        tab.open(f"{server.url}/")
        tab.choose("form[data-try^='/find'] input[type=file]", picture)
        tab.wait(f"{BOTH_ANSWERED} && document.querySelector('.drop img')")
        tab.run("document.querySelector('button[type=reset]').click()")
        tab.wait("!document.querySelector('.drop img')")

        assert tab.run("[...document.querySelectorAll('.answer')].every((box) => box.hidden)") is True

    @pytest.mark.parametrize("width", [390, 1280])
    def test_nothing_is_wider_than_the_window(self, server: Running, tab: Tab, picture: Path, width: int) -> None:
        tab.open(f"{server.url}/", width=width)
        tab.choose("form[data-try^='/find'] input[type=file]", picture)
        tab.wait(BOTH_ANSWERED)

        assert tab.run("document.documentElement.scrollWidth") <= width
        tops = tab.run("[...document.querySelectorAll('.answers .answer')].map((box) => box.getBoundingClientRect().y)")
        assert (tops[0] < tops[1]) == (width == 390)  # a phone has them one under the other, the picture first

    def test_the_zone_is_reached_by_the_keyboard(self, server: Running, tab: Tab) -> None:
        tab.open(f"{server.url}/")
        for _ in range(12):
            tab.press("Tab")
            if tab.run("document.activeElement.type") == "file":
                break

        assert tab.run("document.activeElement.id") == "find-image"


def test_a_form_and_a_bare_body_are_the_same_request(server: Running) -> None:
    data = png(4, 4)
    with server.client() as client:
        form = client.post("/find", files={"image": ("page.png", data, "image/png")})
        bare = client.post("/find", content=data, headers={"content-type": "image/png"})

    assert form.status_code == bare.status_code == httpx.codes.OK
    assert form.json() == bare.json()
