"""What the documents service promises to those who send it a picture."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_pages import INVOICE, LABEL, Words, drawn, letters, packed
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from documents_service import service
from documents_service.service import Document, Page, infer, render
from slipway_serve.local import Local

NEAR_PIXELS = 6.0
"""RapidOCR rounds corners to whole pixels of a picture that it stretched differently."""

PAGES = {
    "invoice": (INVOICE, 640, 480),
    "label": (LABEL, 900, 520),
    "large": (tuple(Words(w.text, 2 * w.x, 2 * w.y, 2 * w.size) for w in INVOICE), 2300, 1100),
    "small": ((Words("Boarding pass", 10, 8, 24), Words("Gate 14 Seat 7C", 10, 48, 18)), 320, 90),
    "strip": ((Words("one long strip of text, not high at all", 6, 0, 22),), 900, 36),
}


@pytest.fixture(scope="module")
def reference() -> Any:
    """RapidOCR's own pipeline over the same models, as its wheel configures it."""
    rapidocr = pytest.importorskip("rapidocr_onnxruntime", reason="its last release knows Python up to 3.12")
    return rapidocr.RapidOCR(intra_op_num_threads=1)


def boxes_of(document: Document) -> NDArray[np.float64]:
    return np.array([line.box for line in document.lines]).reshape(-1, 4, 2)


@pytest.mark.parametrize("name", PAGES)
def test_the_lines_are_those_of_rapidocr_and_the_boxes_lie_on_its_boxes(app: Local, reference: Any, name: str) -> None:
    picture = packed(drawn(*PAGES[name]))
    expected, _ = reference(picture)

    document = app.call(infer, Page(picture))

    by_place = sorted(expected, key=lambda line: letters(line[1]))
    found = sorted(document.lines, key=lambda line: letters(line.text))
    assert [letters(line.text) for line in found] == [letters(text) for _, text, _ in by_place]
    corners = np.array([line.box for line in found]) - np.array([box for box, _, _ in by_place])
    assert np.abs(corners).max() <= NEAR_PIXELS


@pytest.mark.parametrize("name", PAGES)
def test_every_line_that_was_written_is_read_in_reading_order(app: Local, name: str) -> None:
    words, width, height = PAGES[name]

    document = app.call(infer, Page(packed(drawn(words, width, height))))

    in_order = sorted(words, key=lambda line: (line.y // 12, line.x))
    assert [letters(line.text) for line in document.lines] == [letters(line.text) for line in in_order]
    assert (document.width, document.height) == (width, height)
    assert all(line.score > 0.9 for line in document.lines)


def test_boxes_lie_where_the_words_were_written(app: Local) -> None:
    document = app.call(infer, Page(packed(drawn(LABEL, 900, 520))))

    for line, words in zip(document.lines, LABEL, strict=True):
        left, top = np.min(line.box, axis=0)
        assert words.x - 4 <= left <= words.x + 12
        assert words.y - 4 <= top <= words.y + 24


def test_long_lines_that_the_direction_model_gets_wrong_are_still_read(app: Local) -> None:
    """RapidOCR turns some of these upside down and loses them."""
    words = tuple(
        Words(f"Line {n}: the quick brown fox jumps over the lazy dog", 60, 30 + 40 * n, 24) for n in range(1, 9)
    )

    document = app.call(infer, Page(packed(drawn(words, 800, 420))))

    assert [letters(line.text) for line in document.lines] == [letters(line.text) for line in words]


def test_a_line_that_runs_upwards_is_read(app: Local) -> None:
    page = drawn((Words("Terms on the back", 40, 60, 36),), 480, 180).rotate(90, expand=True)

    document = app.call(infer, Page(packed(page)))

    assert [letters(line.text) for line in document.lines] == ["Termsontheback"]


def test_lines_of_which_the_recogniser_is_unsure_are_dropped(app: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Image.new("RGB", (400, 200), "white")
    zigzag = [(60 + 14 * step, 80 + 30 * (step % 2)) for step in range(18)]
    ImageDraw.Draw(page).line(zigzag, "black", 3)
    (doubtful,) = app.call(infer, Page(packed(page))).lines

    monkeypatch.setattr(service, "MIN_SCORE", doubtful.score + 0.01)

    assert app.call(infer, Page(packed(page))).lines == ()


def test_an_empty_page_has_no_lines(app: Local) -> None:
    document = app.call(infer, Page(packed(Image.new("RGB", (300, 200), "white"))))

    assert document == Document(lines=(), width=300, height=200)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (2000, 2), (33, 31)])
def test_tiny_and_thin_pictures_are_answered(app: Local, size: tuple[int, int]) -> None:
    document = app.call(infer, Page(packed(Image.new("RGB", size, "white"))))

    assert (document.width, document.height) == size


def test_a_photo_held_sideways_is_read_like_the_upright_one(app: Local) -> None:
    upright = drawn(LABEL, 900, 520)
    sideways = upright.rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # the right side of the stored pixels is the top

    document = app.call(infer, Page(packed(sideways, "JPEG", quality=95, exif=exif)))

    assert (document.width, document.height) == (900, 520)
    assert [letters(line.text) for line in document.lines] == [letters(line.text) for line in LABEL]
    difference = boxes_of(document) - boxes_of(app.call(infer, Page(packed(upright))))
    assert np.abs(difference).max() <= NEAR_PIXELS


def test_the_drawn_picture_has_the_size_of_the_one_that_was_sent_and_ink_on_its_lines(app: Local) -> None:
    page = drawn(INVOICE)

    answer = Image.open(io.BytesIO(app.call(render, Page(packed(page)))))

    assert (answer.format, answer.size, answer.mode) == ("PNG", page.size, "RGB")
    changed = np.abs(np.asarray(answer).astype(int) - np.asarray(page).astype(int)).max(axis=2) > 20
    assert changed[35:70, 45:300].mean() > 0.5  # the headline is washed in ink
    assert not changed[400:, :].any()  # and where nothing is written, nothing is drawn


def test_the_golden_examples_are_one_of_each_model(folder: Path) -> None:
    lines = (folder / "golden.jsonl").read_text("utf-8").splitlines()

    assert [line[: line.index(",")] for line in lines] == [
        '{"model":"detect"',
        '{"model":"orient"',
        '{"model":"recognise"',
    ]
