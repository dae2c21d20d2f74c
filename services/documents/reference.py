#!/usr/bin/env python3
"""Writes `reference/*.json`: what the pictures and the answers of this service look like, for drift to be measured by.

    python reference.py FOLDER       of your own pictures: every PNG and JPEG in it, some hundreds of an ordinary week
    python reference.py              of SYNTHETIC pages, drawn here: letters, receipts, labels and empty sheets

Watched are the size of a picture and how many boxes it has (`detect`), and how sure the recogniser is of each line
(`recognise`; 0 where nothing is written). Of pictures and texts themselves nothing is kept. Needs `fetch.py` to have
run. Two runs on one machine write the same bytes.
"""

import io
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FOLDER: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER / "src"))  # it works where the service is not installed, too

from documents_service.crops import cut_out  # noqa: E402  # found through the line above
from documents_service.detection import prepared  # noqa: E402
from documents_service.service import UPSIDE_DOWN, detect, orient, recognise, service  # noqa: E402
from slipway_bundle.adapters import onnx  # noqa: E402
from slipway_bundle.config import load_config  # noqa: E402
from slipway_bundle.description import codecs  # noqa: E402
from slipway_bundle.weights import WeightsFile  # noqa: E402
from slipway_signals.drift import build_profile, encode_profile  # noqa: E402

SEED: Final = 20_240_229
PAGES: Final = 240
KINDS: Final = (  # how often, width, height, lines, height of a letter
    (0.55, (900, 1300), (1200, 1700), (4, 14), (22, 40)),  # a letter
    (0.25, (380, 620), (600, 1300), (4, 12), (18, 30)),  # a receipt
    (0.15, (500, 1000), (250, 600), (1, 4), (26, 60)),  # a label
    (0.05, (900, 1300), (1200, 1700), (0, 0), (20, 20)),  # an empty sheet
)
WORDS: Final = (
    "Invoice", "Total", "Harbour", "Chandlery", "Ltd.", "Date:", "12 March", "Rope,", "12 mm", "40 m", "96.00",
    "108.50 EUR", "Serial 8841-AX", "Fragile:", "handle with care", "MADE IN NORWAY", "14 Quay Street,", "Bristol",
    "Thank you", "VAT 20 %", "No. 2024-117", "Order", "received", "by", "the", "warehouse", "on Friday",
)  # fmt: skip

Example = tuple[int, int, int, list[float]]
"""Width, height, boxes, and the score of each line that was read."""


def main(pictures: Path | None, folder: Path = FOLDER / "reference") -> None:
    """Writes the profiles of `detect` and `recognise` into `folder`."""
    models = load_config(FOLDER).bundle.models
    read = _Reader(
        {name: onnx.load(WeightsFile.whole(FOLDER / models[name].file), models[name], ()) for name in models}
    )
    examples = [read(data) for data in (drawn() if pictures is None else files(pictures))]
    if not examples:
        raise SystemExit(f"no picture is in {str(pictures)!r}, expected PNG and JPEG files")
    widths, heights, boxes, scores = zip(*examples, strict=True)
    inputs, outputs = codecs(detect, models["detect"].format)
    sizes = {"width": widths, "height": heights}
    found = {
        "detect": build_profile(
            "detect", inputs.specs, sizes, outputs=outputs.specs, prediction="count", predictions=boxes
        )
    }
    inputs, outputs = codecs(recognise, models["recognise"].format)
    lines = [score for page in scores for score in page]
    found["recognise"] = build_profile(
        "recognise", inputs.specs, {}, outputs=outputs.specs, prediction="score", predictions=lines
    )
    for name, profile in found.items():
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_bytes(encode_profile(profile))
    print(f"{len(examples)} pictures with {len(lines)} lines are the reference")


class _Reader:
    """One picture through the three models, as `/infer` does."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self._weights = weights

    def __call__(self, data: bytes) -> Example:
        sheet, view = prepared(data)
        found = self._ask(detect, view.pixels)
        count = int(found["count"][0])
        cuts = cut_out(sheet.pixels, view.boxes(found["corners"][0, :count], sheet.pixels))
        scores = [self._score(cut.crop) for cut in cuts]
        doubted = [cut for cut in cuts if self._ask(orient, cut.slip)["upside_down"][0] > UPSIDE_DOWN]
        return sheet.width, sheet.height, count, scores + [self._score(cut.turned()) for cut in doubted]

    def _score(self, crop: Any) -> float:
        return float(self._ask(recognise, crop)["score"][0])

    def _ask(self, model: Any, pixels: Any) -> Any:
        compute = service.models[model.name].function
        if compute is None:
            raise SystemExit(f"model {model.name!r} has no `compute`, expected one")
        return compute(self._weights[model.name], {"pixels": pixels[None]})


def files(folder: Path) -> Iterator[bytes]:
    """The pictures in a folder, by name."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in {".png", ".jpg", ".jpeg"}:
            yield path.read_bytes()


def drawn(pages: int = PAGES) -> Iterator[bytes]:
    """Synthetic pages as a scanner or a phone would send them: grey, not quite straight, a little noise."""
    draw = random.Random(SEED)  # noqa: S311  # a sample, no secret
    grain = np.random.default_rng(SEED)
    for _ in range(pages):
        _, widths, heights, lines, sizes = draw.choices(KINDS, [kind[0] for kind in KINDS])[0]
        page = Image.new("L", (draw.randint(*widths), draw.randint(*heights)), draw.randint(225, 255))
        size = draw.randint(*sizes)
        top = draw.randint(20, 80)
        for _ in range(draw.randint(*lines)):
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))
            left = draw.randint(10, max(11, page.width // 5))
            ImageDraw.Draw(page).text((left, top), text, draw.randint(0, 90), ImageFont.load_default(size))
            top += round(size * draw.uniform(1.5, 2.6))
        page = page.rotate(draw.uniform(-1.2, 1.2), Image.Resampling.BICUBIC, fillcolor=240)
        noise = grain.normal(0.0, 6.0, (page.height, page.width))
        page = Image.fromarray((np.asarray(page) + noise).clip(0, 255).astype(np.uint8))
        stream = io.BytesIO()
        page.save(stream, "JPEG", quality=draw.randint(60, 92))
        yield stream.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
