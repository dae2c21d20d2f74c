"""What is refused, and how: bytes that are no picture, pictures that are too much, and every mode that is fine."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn_pages import LABEL, drawn, packed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from documents_service import pictures
from documents_service.drawing import draw
from documents_service.pictures import MAX_PIXELS, Sheet, kind_of, load
from slipway_serve import Problem

BOX = ((10.0, 10.0), (60.0, 10.0), (60.0, 30.0), (10.0, 30.0))
SMALL = packed(drawn(LABEL, 400, 120))
SMALL_JPEG = packed(drawn(LABEL, 400, 120), "JPEG")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is this large and has a few bytes of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def refusal(data: bytes) -> Problem:
    with pytest.raises(Problem) as refused:
        load(data)
    return refused.value


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a" + bytes(40),
        b"%PDF-1.7" + bytes(40),
        b"\0\0\0\x18ftypheic" + bytes(40),
        b"hello",
        b"\0",
        packed(Image.new("RGB", (20, 20)), "WEBP"),
        packed(Image.new("RGB", (20, 20)), "TIFF"),
    ],
    ids=["gif", "pdf", "heic", "text", "zero", "webp", "tiff"],
)
def test_another_type_is_refused_by_name(data: bytes) -> None:
    problem = refusal(data)

    assert (problem.status, problem.stable_code, problem.path) == (415, "picture_type", "$.image")
    assert "PNG or a JPEG" in problem.detail


@pytest.mark.parametrize("data", [SMALL, SMALL_JPEG], ids=["png", "jpeg"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.98])
def test_a_picture_that_is_cut_off_is_refused(data: bytes, kept: float) -> None:
    problem = refusal(data[: int(len(data) * kept)])

    assert (problem.status, problem.stable_code, problem.path) == (422, "picture_broken", "$.image")


@pytest.mark.parametrize(
    ("width", "height"),
    [(8_000, 5_001), (60_000, 60_000), (100_000, 1), (2**31 - 1, 2**31 - 1)],
    ids=["a little", "a bomb", "a line", "the format's limit"],
)
def test_a_bomb_is_refused_on_its_header(width: int, height: int) -> None:
    problem = refusal(png_header(width, height))

    assert (problem.status, problem.stable_code, problem.path) == (413, "picture_too_large", "$.image")


def test_the_largest_picture_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 400 * 120)

    assert load(SMALL).width == 400
    assert refusal(packed(Image.new("RGB", (401, 120)))).status == 413


def test_the_limit_holds_a_page_of_600_dpi() -> None:
    assert MAX_PIXELS > 8.27 * 600 * 11.69 * 600


def test_a_text_chunk_that_unpacks_to_a_gigabyte_is_refused() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64_000_000), 9))
    data = SMALL[:33] + bomb + SMALL[33:]

    assert refusal(data).status == 422


def test_a_picture_that_moves_is_refused() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "white")]
    data = packed(frames[0], save_all=True, append_images=frames[1:])

    assert (refusal(data).status, refusal(data).stable_code) == (422, "picture_animated")


def test_a_phone_s_jpeg_with_a_second_picture_behind_it_is_read() -> None:
    data = packed(drawn(LABEL, 400, 120), "MPO", save_all=True, append_images=[Image.new("RGB", (400, 120), "red")])

    assert np.abs(load(data).pixels.astype(int) - load(SMALL_JPEG).pixels).max() < 30
    assert kind_of(data) == "image/jpeg"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "RGB"])
def test_every_mode_of_a_png_looks_the_same(mode: str) -> None:
    grey = drawn(LABEL, 400, 120).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)

    pixels = load(packed(deep if mode == "I;16" else grey.convert(mode))).pixels

    assert pixels.shape == (120, 400, 3)
    assert np.abs(pixels.astype(int) - load(SMALL).pixels).mean() < 6


def test_sixteen_bits_keep_their_upper_eight() -> None:
    deep = np.array([[0x0000, 0x1234, 0x8000, 0xFFFF]], np.uint16)

    assert load(packed(Image.fromarray(deep))).pixels[0, :, 0].tolist() == [0x00, 0x12, 0x80, 0xFF]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_every_mode_of_a_jpeg_looks_the_same(mode: str) -> None:
    data = packed(drawn(LABEL, 400, 120).convert(mode), "JPEG", quality=95)

    assert np.abs(load(data).pixels.astype(int) - load(SMALL).pixels).mean() < 6


def test_what_is_transparent_is_white() -> None:
    page = Image.new("RGBA", (40, 20), (255, 0, 0, 0))

    assert (load(packed(page)).pixels == 255).all()


def test_colours_are_blue_green_red() -> None:
    assert load(packed(Image.new("RGB", (2, 2), (1, 2, 3)))).pixels[0, 0].tolist() == [3, 2, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_camera_ends_upright(orientation: int) -> None:
    from PIL import ImageOps  # the reference, nothing else here uses it

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = packed(drawn(LABEL, 400, 120), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))

    sheet = load(data)

    assert (sheet.height, sheet.width) == expected.shape[:2]
    assert (sheet.pixels[:, :, ::-1] == expected).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_exif() -> None:
    data = packed(drawn(LABEL, 400, 120), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + b"\xff" * 40)

    assert load(data).width == 400


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_picture_is_made_smaller_and_corners_find_their_way_back(kind: str) -> None:
    sheet = load(packed(Image.new("L", (5_000, 3_000), "white"), kind))

    assert sheet.pixels.shape == (1_200, 2_000, 3)
    assert sheet.corners(np.array([[[0, 0], [2_000, 0], [2_000, 1_200], [0, 1_200]]], np.float32)) == [
        ((0.0, 0.0), (5_000.0, 0.0), (5_000.0, 3_000.0), (0.0, 3_000.0))
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says what it makes of damaged parts
@settings(max_examples=150)
@given(
    st.sampled_from([SMALL, SMALL_JPEG]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), min_size=1, max_size=6),
)
def test_damaged_bytes_are_a_picture_or_a_problem_of_the_client(
    data: bytes, damages: list[tuple[float, bytes]]
) -> None:
    damaged = bytearray(data)
    for place, junk in damages:
        at = int(place * len(damaged))
        damaged[at : at + len(junk)] = junk

    try:
        answer: object = load(bytes(damaged))
    except Problem as problem:
        answer = problem

    assert isinstance(answer, Sheet) or (isinstance(answer, Problem) and answer.status in {413, 415, 422})


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_problem_of_the_client(junk: bytes) -> None:
    for begin in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"):
        assert refusal(begin + junk).status in {413, 415, 422}


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg"])
def test_a_picture_is_drawn_in_the_type_that_is_asked_for(kind: str) -> None:
    answer = draw(SMALL, [BOX], kind)

    drawn_picture = load(answer)
    assert kind_of(answer) == kind
    assert drawn_picture.pixels.shape == (120, 400, 3)
    assert (drawn_picture.pixels[20, 30] < load(SMALL).pixels[20, 30]).all()


def test_boxes_are_drawn_on_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    page = Image.new("RGB", (120, 400), "white")

    answer = load(draw(packed(page, exif=exif), [BOX], "image/png")).pixels

    assert answer.shape == (120, 400, 3)
    assert (answer[20, 30] < 255).all()
    assert (answer[100, 300] == 255).all()


def test_nothing_else_in_the_service_unpacks_a_picture() -> None:
    sources = Path(pictures.__file__).parent.glob("*.py")

    assert [path.name for path in sources if "Image.open" in path.read_text("utf-8")] == ["pictures.py"]
