"""From the bytes of a picture to pixels, within limits; nothing else in the service reads bytes that a client sent.

It finds no text. The invariant: whatever the bytes are, the result is upright 8-bit pixels of a bounded size, or a
`Problem` that names the field; the size is checked on the header, before a pixel is unpacked.
Sources: https://pillow.readthedocs.io/en/stable/reference/Image.html (decompression bombs, draft), EXIF 2.32.
"""

import io
import struct
import zlib
from typing import Any, Final, Literal, NoReturn

import numpy as np
from msgspec import Struct
from PIL import Image, UnidentifiedImageError

from slipway_serve import F32, U8, Problem

PATH: Final = "$.image"
KINDS: Final[dict[str | None, Literal["image/jpeg", "image/png"]]] = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # what some phones write: a JPEG with more pictures behind the first
    "PNG": "image/png",
}
MAX_PIXELS: Final = 40_000_000
"""A page of 600 dpi has 35 million. Three bytes each are unpacked: 120 MB."""
MAX_SIDE: Final = 65_500
"""The longest side that JPEG itself knows."""
SHEET_SIDE: Final = 2_000
"""Text is looked for on at most so many pixels a side, as in RapidOCR's `max_side_len`."""

ORIENTATION: Final = 0x0112
"""The EXIF tag that says how the camera was held."""
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS: Final = frozenset(TURNS[held] for held in (5, 6, 7, 8))
"""Width and height change places."""

BROKEN: Final = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    ZeroDivisionError, MemoryError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's readers raise for bytes that are no picture; they share no class but Exception."""

Point = tuple[float, float]
Quadrangle = tuple[Point, Point, Point, Point]


class Sheet(Struct, frozen=True, eq=False):
    """A picture, upright and small enough to look for text on."""

    pixels: U8
    """`[height, width, 3]`, blue, green, red: the order that the models were trained on."""

    width: int
    """Of the picture as it was sent, upright, in pixels."""
    height: int

    def corners(self, boxes: F32) -> list[Quadrangle]:
        """Boxes `[n, 4, 2]` on `pixels` as corners in the picture as it was sent, to a tenth of a pixel."""
        scale = np.array([self.width, self.height]) / self.pixels.shape[1::-1]
        return [tuple(map(tuple, box)) for box in (boxes * scale).round(1).tolist()]  # type: ignore[misc]  # 4 of 2


def load(data: bytes, longest: int = SHEET_SIDE) -> Sheet:
    """Unpack a picture. Blocks for some 5 ms a million pixels.

    Args:
        data: PNG or JPEG, of any mode: grey, palette, CMYK, 16 bits, with transparency (shown on white).
        longest: a picture with a longer side is made smaller.

    Raises:
        Problem: 415 for another format, 413 for too many pixels, 422 for a picture that is broken or that moves.
    """
    with opened(data) as picture:
        size = picture.size
        if picture.mode in {"L", "RGB"}:
            picture.draft(picture.mode, (longest, longest))  # a JPEG is unpacked at 1/2, 1/4 or 1/8: less to do
        try:
            picture.load()
            turn = _turn(picture)
            found = _rgb(picture)
            found.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
            if turn is not None:
                found = found.transpose(turn)
        except BROKEN as error:
            _refuse_broken(error)
    width, height = size[::-1] if turn in SIDEWAYS else size
    return Sheet(np.ascontiguousarray(np.asarray(found)[:, :, ::-1]), width, height)


def kind_of(data: bytes) -> Literal["image/jpeg", "image/png"]:
    """The media type that the bytes are, whatever the client called them. Raises Problem as `load` does."""
    with opened(data) as picture:
        return KINDS[picture.format]


def opened(data: bytes) -> Image.Image:
    """The picture with its header read and checked, and no pixel unpacked. Raises Problem as `load` does."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many("more") from error
    except UnidentifiedImageError as error:
        raise Problem(
            415,
            "picture_type",
            f"the picture begins with {data[:8]!r}, expected a PNG or a JPEG",
            hint="convert it; a HEIC of an iPhone is sent as JPEG by its browser",
            path=PATH,
        ) from error
    except BROKEN as error:
        _refuse_broken(error)
    width, height = picture.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        picture.close()
        raise _too_many(f"{width} x {height}")
    if picture.format == "PNG" and getattr(picture, "is_animated", False):
        picture.close()
        raise Problem(
            422, "picture_animated", "the picture moves, expected one that stands still", hint="send a frame", path=PATH
        )
    return picture


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How to set the picture upright, as its camera says; broken EXIF is no EXIF."""
    try:
        return TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except BROKEN:
        return None


def _rgb(picture: Image.Image) -> Image.Image:
    """Three channels of 8 bits, on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _eight_bits(np.asarray(picture)).convert("RGB")
    if picture.has_transparency_data:
        drawn = picture.convert("RGBA")
        white = Image.new("RGBA", drawn.size, "white")
        white.alpha_composite(drawn)
        return white.convert("RGB")
    return picture.convert("RGB")


def _eight_bits(deep: "np.ndarray[Any, np.dtype[Any]]") -> Image.Image:
    """The high byte of 16 bits: Pillow's own conversion cuts everything above 255 off."""
    return Image.fromarray((deep.astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))


def _too_many(size: str) -> Problem:
    return Problem(
        413,
        "picture_too_large",
        f"the picture has {size} pixels, expected at most {MAX_PIXELS} and no side above {MAX_SIDE}",
        hint="send it smaller: text of 20 pixels is read as well as text of 200",
        path=PATH,
    )


def _refuse_broken(error: BaseException) -> NoReturn:
    raise Problem(
        422, "picture_broken", "the picture cannot be unpacked: its bytes are cut off or damaged", path=PATH
    ) from error
