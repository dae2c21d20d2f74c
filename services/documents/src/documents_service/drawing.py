"""The picture with its lines drawn in, as a PNG or a JPEG.

It decides nothing about what is a line. The invariant: the answer has the size of the picture that was sent, upright.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import cv2
import numpy as np

from documents_service.pictures import MAX_SIDE, load

INK: Final = (114, 104, 12)
"""Blue, green, red: the accent of slipway's own pages."""
WASH: Final = 0.18
"""How much ink lies inside a box: text stays readable."""
QUALITY: Final = 88
ENDINGS: Final = {"image/jpeg": ".jpg", "image/png": ".png"}


def draw(data: bytes, boxes: Iterable[Sequence[tuple[float, float]]], kind: str) -> bytes:
    """The picture in `data` with boxes drawn, packed as `kind`. Blocks for some 30 ms a million pixels.

    Args:
        data: what `pictures.load` takes.
        boxes: the corners of each, in pixels of the upright picture.
        kind: media type of the answer, a key of `ENDINGS`.

    Raises:
        Problem: as `pictures.load` does.
    """
    pixels = load(data, MAX_SIDE).pixels
    outlines = [np.array(box, np.float32).round().astype(np.int32) for box in boxes]
    washed = pixels.copy()
    cv2.fillPoly(washed, outlines, INK)
    cv2.addWeighted(washed, WASH, pixels, 1 - WASH, 0, dst=pixels)
    pen = max(1, round(max(pixels.shape) / 700))
    cv2.polylines(pixels, outlines, True, INK, pen, cv2.LINE_AA)  # noqa: FBT003  # OpenCV's positional `isClosed`
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if kind == "image/jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 2]
    _, packed = cv2.imencode(ENDINGS[kind], pixels, options)
    return packed.tobytes()
