"""Documents: reads the text in a picture.

Send a PNG or a JPEG; `/infer` answers the lines it finds, in reading order, and `/render` the picture with their boxes
drawn in. Upside-down lines are read too. The models are PP-OCRv4 mobile: printed English and Chinese.
"""

from typing import Annotated

from msgspec import Meta, Struct

from documents_service.crops import cut_out
from documents_service.detection import boxes_of, normalised, prepared
from documents_service.drawing import draw
from documents_service.pictures import Quadrangle
from documents_service.recognition import texts_of
from documents_service.rows import Boxes, Crop, Picture, Ratio, Slip, Text, Turn
from slipway_serve import Arrays, Call, Service, Weights, gather, offload

MIN_SCORE = 0.5  # a line of which the recogniser is less sure is dropped: most are no text
UPSIDE_DOWN = 0.9  # a line of which the direction model is surer is read the other way round, too


class Page(Struct, frozen=True):
    """A picture to read."""

    image: Annotated[bytes, Meta(min_length=1, max_length=10_000_000)]
    """PNG or JPEG, at most 40 million pixels."""


class Line(Struct, frozen=True):
    """One line of text."""

    text: str
    score: Ratio
    """How sure the recogniser is, on average over the characters."""
    box: Quadrangle
    """Corners (x, y) in pixels of the upright picture, clockwise from the top left."""


class Document(Struct, frozen=True):
    """What is written in a picture."""

    lines: tuple[Line, ...]
    """In reading order."""
    width: int
    """Of the picture, upright, in pixels."""
    height: int


service = Service("documents")
detect = service.model("detect", Picture, Boxes)
orient = service.model("orient", Slip, Turn)
recognise = service.model("recognise", Crop, Text)


@detect.compute
def find(weights: Weights, batch: Arrays) -> Arrays:
    """The map of probabilities stays here: its boxes are a thousandth of it."""
    return boxes_of(weights({"x": normalised(batch["pixels"])})["sigmoid_0.tmp_0"][:, 0])


@orient.compute
def direction(weights: Weights, batch: Arrays) -> Arrays:
    """The second class is the line turned by half."""
    return {"upside_down": weights({"x": normalised(batch["pixels"])})["save_infer_model/scale_0.tmp_1"][:, 1]}


@recognise.compute
def read(weights: Weights, batch: Arrays) -> Arrays:
    """The 6625 probabilities of each step stay here, the text travels."""
    return texts_of(lambda crops: weights({"x": crops})["softmax_11.tmp_0"], batch["pixels"])


@service.endpoint("/infer", slo="interactive")
async def infer(page: Page) -> Document:
    """Reads the text in a picture."""
    sheet, view = await offload(prepared, page.image)
    found = await detect(Picture(view.pixels, sheet.width, sheet.height))
    boxes = view.boxes(found.corners[: found.count], sheet.pixels)
    cuts = await offload(cut_out, sheet.pixels, boxes)
    turns, texts = await gather(  # most lines are upright: they are read while that is checked
        orient.map([Slip(cut.slip) for cut in cuts]), recognise.map([Crop(cut.crop) for cut in cuts])
    )
    doubted = [i for i, turn in enumerate(turns) if turn.upside_down > UPSIDE_DOWN]
    for i, again in zip(doubted, await recognise.map([Crop(cuts[i].turned()) for i in doubted]), strict=True):
        texts[i] = max(texts[i], again, key=lambda text: text.score)  # the direction model is sometimes sure and wrong
    lines = [
        Line(text.text, text.score, corners)
        for text, corners in zip(texts, sheet.corners(boxes), strict=True)
        if text.text and text.score >= MIN_SCORE
    ]
    return Document(tuple(lines), sheet.width, sheet.height)


@service.endpoint("/render", slo="interactive", produces=("image/png", "image/jpeg"))
async def render(page: Page, call: Call) -> bytes:
    """Draws the boxes of the lines into the picture: PNG, or JPEG when the request accepts that only."""
    document = await infer(page)
    return await offload(draw, page.image, [line.box for line in document.lines], call.produces)
