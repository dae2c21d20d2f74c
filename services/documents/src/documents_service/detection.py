"""Where text is: the picture as the detector takes it, and its map of probabilities as boxes.

It reads no text. The invariant: a picture's sides are one of `SIDES`, so that a GPU plans few shapes and equal pages
share a batch; the picture is stretched to them and never padded, because padding is computed too.
Sources: Real-time Scene Text Detection with Differentiable Binarization (https://arxiv.org/abs/1911.08947, sections
3.3 and 3.5) and the post-processing of PaddleOCR and RapidOCR, whose thresholds these are.
"""

from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from documents_service.pictures import Sheet, load
from slipway_serve import F32, U8, Arrays

SIDES: Final[tuple[int, ...]] = (*range(32, 320, 32), *range(320, 736, 64), *range(736, 1889, 128))
"""All are multiples of 32, the network's stride; two neighbours are near enough to stretch a page to one of them."""
SHORT: Final = 736
"""A smaller picture is enlarged until its short side has so many pixels (RapidOCR's `limit_side_len`) …"""
LONG: Final = 1_248
"""… or its long side so many: a label of 400 x 100 needs no 3000 pixels."""
STRIP: Final = 8
"""A picture that is more times as wide as high gets a margin above and below: text at the edge is not found."""
GREY: Final = 127.5

INSIDE: Final = 0.3
"""A pixel with more belongs to text."""
SCORE: Final = 0.5
"""A box whose pixels have less on average is dropped."""
GROWTH: Final = 1.6
"""The network is trained on text that was shrunk; boxes grow by area x this / perimeter."""
SMALLEST: Final = 3.0
"""Pixels of a box's short side before it grows."""
MAX_BOXES: Final = 1_000
_PEN: Final = np.ones((2, 2), np.uint8)

Pixels = NDArray[np.uint8]


class View(NamedTuple):
    """A picture as the detector takes it, and the way back."""

    pixels: U8
    """`[3, height, width]`."""
    scale: tuple[float, float]
    """Of x and y: pixels of the sheet in one of these."""
    top: int
    """Rows of margin above the sheet, in pixels of the sheet."""

    def boxes(self, corners: F32, sheet: Pixels) -> F32:
        """Boxes `[n, 4, 2]` that were found on this view, on the sheet it shows, in reading order."""
        found = corners * np.array(self.scale, np.float32) - np.array([0, self.top], np.float32)
        return in_reading_order(np.clip(found, 0, np.array(sheet.shape[1::-1], np.float32) - 1))


def prepared(data: bytes) -> tuple[Sheet, View]:
    """A picture that was sent, unpacked and as the detector takes it. Raises Problem as `load` does."""
    sheet = load(data)
    return sheet, view_of(sheet.pixels)


def view_of(sheet: Pixels) -> View:
    """Stretch a sheet `[height, width, 3]` to the detector's sides. Blocks for about 2 ms."""
    height, width = sheet.shape[:2]
    top = 0
    if width > STRIP * height:
        top = (2 * width // STRIP - height) // 2
        sheet = cv2.copyMakeBorder(sheet, top, top, 0, 0, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
        height += 2 * top
    grown = max(1.0, min(SHORT / min(width, height), LONG / max(width, height)))
    wide, high = _side(width * grown), _side(height * grown)
    stretched = cv2.resize(sheet, (wide, high), interpolation=cv2.INTER_LINEAR)
    return View(np.ascontiguousarray(stretched.transpose(2, 0, 1)), (width / wide, height / high), top)


def normalised(pixels: Pixels) -> F32:
    """Bytes as the networks take them: -1 to 1."""
    found: F32 = pixels.astype(np.float32)
    found *= 1 / GREY
    found -= 1
    return found


def boxes_of(maps: F32) -> Arrays:
    """The boxes of a batch of maps `[n, height, width]`.

    Returns:
        `corners` `[n, boxes, 4, 2]` (x, y; clockwise from the top left), `scores` `[n, boxes]` and `count` `[n]`; rows
        with fewer boxes than another are filled up with zeros.
    """
    found = [_boxes(one) for one in maps]
    places = max((len(row) for row in found), default=0)
    corners = np.zeros((len(found), places, 4, 2), np.float32)
    scores = np.zeros((len(found), places), np.float32)
    for row, boxes in enumerate(found):
        for place, (points, score) in enumerate(boxes):
            corners[row, place] = points
            scores[row, place] = score
    return {"corners": corners, "scores": scores, "count": np.array([len(row) for row in found], np.int64)}


def in_reading_order(corners: F32) -> F32:
    """Top to bottom, and left to right where the tops are less than half a line apart."""
    order = sorted(range(len(corners)), key=lambda box: (corners[box, 0, 1], corners[box, 0, 0]))
    heights = np.linalg.norm(corners[:, 3] - corners[:, 0], axis=1)
    for first in range(1, len(order)):
        for place in range(first, 0, -1):
            left, right = order[place - 1], order[place]
            apart = abs(corners[left, 0, 1] - corners[right, 0, 1])
            if apart >= min(heights[left], heights[right]) / 2 or corners[right, 0, 0] >= corners[left, 0, 0]:
                break
            order[place - 1], order[place] = right, left
    return corners[order]


def _side(wanted: float) -> int:
    return min(SIDES, key=lambda side: abs(side - wanted))


def _boxes(one: NDArray[np.float32]) -> list[tuple[NDArray[Any], float]]:
    mask = cv2.dilate((one > INSIDE).astype(np.uint8), _PEN)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours[:MAX_BOXES]:
        middle, (width, height), angle = cv2.minAreaRect(contour)
        if min(width, height) < SMALLEST:
            continue
        score = _score(one, cv2.boxPoints((middle, (width, height), angle)))
        if score < SCORE:
            continue
        more = GROWTH * width * height / (width + height)  # on both sides
        found.append((_clockwise(cv2.boxPoints((middle, (width + more, height + more), angle))), score))
    return found


def _score(one: NDArray[np.float32], points: NDArray[Any]) -> float:
    """Mean of the map inside a box."""
    high, wide = one.shape
    left, up = np.clip(np.floor(points.min(axis=0)).astype(int), 0, (wide - 1, high - 1))
    right, down = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, (wide - 1, high - 1))
    mask = np.zeros((down - up + 1, right - left + 1), np.uint8)
    cv2.fillPoly(mask, [(points - (left, up)).astype(np.int32)], 1.0)
    return float(cv2.mean(one[up : down + 1, left : right + 1], mask)[0])


def _clockwise(points: NDArray[Any]) -> NDArray[Any]:
    """Top left, top right, bottom right, bottom left."""
    by_x = points[np.argsort(points[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    (top_left, bottom_left) = left[np.argsort(left[:, 1], kind="stable")]
    (top_right, bottom_right) = right[np.argsort(right[:, 1], kind="stable")]
    return np.array([top_left, top_right, bottom_right, bottom_left])
