"""What the three models take and give. Pixels travel as bytes: a quarter of what the networks' floats would take."""

from typing import Annotated

from msgspec import Meta, Struct

from documents_service.crops import HEIGHT, SLIP, WIDTHS
from documents_service.detection import SIDES
from slipway_serve import F32, U8, Shape

Ratio = Annotated[float, Meta(ge=0, le=1)]


class Picture(Struct, frozen=True, eq=False):
    """A picture as the detector takes it."""

    pixels: Annotated[U8, Shape(3, SIDES, SIDES)]
    """Blue, green, red; stretched to the sides."""
    width: int
    """Of the picture as it was sent, upright. The network does not see it: drift is watched by it."""
    height: int


class Boxes(Struct, frozen=True, eq=False):
    """Where text is."""

    corners: Annotated[F32, Shape("boxes", 4, 2)]
    """x and y in that picture, clockwise from the top left."""
    scores: Annotated[F32, Shape("boxes")]
    """How sure the detector is."""
    count: int
    """How many there are; the places after these are empty: rows of a batch have as many."""


class Slip(Struct, frozen=True, eq=False):
    """A line as the direction model takes it."""

    pixels: Annotated[U8, Shape(3, HEIGHT, SLIP)]
    """Blue, green, red; padded on the right with 128, or squeezed."""


class Turn(Struct, frozen=True):
    """Which way up a line is."""

    upside_down: Ratio
    """Probability that it is turned by half."""


class Crop(Struct, frozen=True, eq=False):
    """A line as the recogniser takes it."""

    pixels: Annotated[U8, Shape(3, HEIGHT, WIDTHS)]
    """Blue, green, red; stretched to the nearest of the widths."""


class Text(Struct, frozen=True):
    """What a line says."""

    text: str
    """Empty where nothing is written."""
    score: Ratio
    """How sure the recogniser is, on average over the characters."""
