"""Pictures with text in them, drawn with the font that Pillow carries."""

import io
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont


class Words(NamedTuple):
    """One line of text on a page."""

    text: str
    x: int
    y: int
    size: int
    is_upside_down: bool = False


LABEL = (
    Words("Keep this side up", 50, 50, 40),
    Words("Fragile: handle with care", 80, 200, 34, is_upside_down=True),
    Words("Serial 8841-AX", 80, 320, 28, is_upside_down=True),
    Words("MADE IN NORWAY", 60, 420, 50),
)
INVOICE = (
    Words("Invoice 2024-117", 40, 30, 36),
    Words("Harbour Chandlery Ltd.", 40, 100, 22),
    Words("14 Quay Street, Bristol", 40, 140, 18),
    Words("Date: 12 March 2024", 400, 100, 18),
    Words("Rope, 12 mm, 40 m", 40, 220, 20),
    Words("96.00", 480, 220, 20),
    Words("Total 108.50 EUR", 40, 340, 28),
)


def drawn(words: tuple[Words, ...], width: int = 640, height: int = 480) -> Image.Image:
    """A white page with black words; a line's `x` and `y` are the top left of its ink's box."""
    page = Image.new("RGB", (width, height), "white")
    for line in words:
        font = ImageFont.load_default(line.size)
        _, _, right, bottom = font.getbbox(line.text)
        tile = Image.new("RGB", (round(right) + 8, round(bottom) + 8), "white")
        ImageDraw.Draw(tile).text((4, 4), line.text, "black", font)
        page.paste(tile.rotate(180) if line.is_upside_down else tile, (line.x, line.y))
    return page


def packed(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def letters(text: str) -> str:
    """Without spaces: whether a gap is a space is what the recogniser knows least, and padding decides it."""
    return text.replace(" ", "")
