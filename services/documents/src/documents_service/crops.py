"""One line of text cut out of a sheet, as the recogniser and the direction model take it.

It computes nothing with a network. The invariant: a crop's width depends on its own box alone, never on its batch
mates, so that the same line gives the same answer in every batch.

PaddleOCR and RapidOCR pad a crop to the longest of its batch, to 320 pixels at least. Here it is stretched to the
nearest of `WIDTHS`: the time that padding would take is saved (half of it on an invoice), and spaces are read better.
"""

import math
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_serve import F32, U8

HEIGHT: Final = 48
WIDTHS: Final[tuple[int, ...]] = (32, 48, 64, 96, 128, 192, 256, 320, 448, 640, 896, 1280, 1792, 2560)
"""Widths of a recogniser's crop; the time for one is proportional to it. Longer lines are squeezed into the last."""
SLIP: Final = 192
"""Width of what the direction model sees; longer lines are squeezed."""
TALL: Final = 1.5
"""A box that is more times as high as wide holds a line that runs downwards; or upwards, and is read upside down."""
GREY: Final = 128
"""Padding of a slip; 0 after normalising."""


class Cut(NamedTuple):
    """One line, in both forms."""

    crop: U8
    """`[3, 48, one of WIDTHS]`."""
    slip: U8
    """`[3, 48, 192]`: shorter lines are padded on the right, as the direction model was trained."""

    def turned(self) -> U8:
        """The crop, upside down."""
        return np.ascontiguousarray(self.crop[:, ::-1, ::-1])


def cut_out(sheet: NDArray[np.uint8], corners: F32) -> list[Cut]:
    """The lines inside boxes `[n, 4, 2]` of a sheet `[height, width, 3]`. Blocks for about 0.3 ms a box."""
    return [_cut(sheet, box) for box in corners]


def _cut(sheet: NDArray[np.uint8], box: NDArray[np.float32]) -> Cut:
    line = _straightened(sheet, box)
    wanted = HEIGHT * line.shape[1] / line.shape[0]
    width = min(WIDTHS, key=lambda width: abs(width - wanted))
    crop = np.ascontiguousarray(_resized(line, width).transpose(2, 0, 1))
    begun = _resized(line, min(math.ceil(wanted), SLIP))
    slip = np.full((3, HEIGHT, SLIP), GREY, np.uint8)
    slip[:, :, : begun.shape[1]] = begun.transpose(2, 0, 1)
    return Cut(crop, slip)


def _straightened(sheet: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    top_left, top_right, bottom_right, bottom_left = box
    width = max(1, int(max(np.linalg.norm(top_left - top_right), np.linalg.norm(bottom_right - bottom_left))))
    height = max(1, int(max(np.linalg.norm(top_left - bottom_left), np.linalg.norm(top_right - bottom_right))))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    way = cv2.getPerspectiveTransform(box.astype(np.float32), target)
    line = cv2.warpPerspective(sheet, way, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return (np.rot90(line) if height >= TALL * width else line).astype(np.uint8, copy=False)


def _resized(line: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    return cv2.resize(line, (width, HEIGHT), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
