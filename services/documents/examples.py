#!/usr/bin/env python3
"""Writes `golden.jsonl`: one small example for each model, with the answer that its weights give on this machine.

The pixels are written out, so that a replay needs no font. Run it only when an answer was meant to change, and read the
difference: `slipway bundle build` refuses models that do not give these answers. Needs `fetch.py` to have run.

    python examples.py
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from documents_service.service import service
from slipway_bundle import U8
from slipway_bundle.adapters import onnx
from slipway_bundle.config import load_config
from slipway_bundle.weights import WeightsFile

FOLDER: Final = Path(__file__).resolve().parent
TOLERANCE: Final = {"detect": 0.75, "orient": 0.02, "recognise": 0.02}
"""Pixels of a corner; probabilities. Another processor or a GPU adds in another order."""


def main(path: Path) -> None:
    """Writes the examples to `path`."""
    models = load_config(FOLDER).bundle.models
    lines = []
    for name, pixels in pictures().items():
        weights = onnx.load(WeightsFile.whole(FOLDER / models[name].file), models[name], ())
        compute = service.models[name].function
        if compute is None:
            raise SystemExit(f"model {name!r} has no `compute`, expected one")
        answers = compute(weights, {"pixels": pixels[None]})
        size = {"width": pixels.shape[2], "height": pixels.shape[1]} if name == "detect" else {}
        example = {
            "model": name,
            "input": {"pixels": pixels.tolist(), **size},
            "output": {field: rounded(values[0]) for field, values in answers.items()},
            "tolerance": {"absolute": TOLERANCE[name]},
        }
        lines.append(json.dumps(example, separators=(",", ":")) + "\n")
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    print(f"{len(lines)} examples are in {path}")


def pictures() -> dict[str, U8]:
    """Model → the pixels of its example, `[3, height, width]`."""
    return {
        "detect": written("Harbour", 26, width=128, height=32),
        "orient": written("Harbour Ltd.", 30, width=192, height=48)[:, ::-1, ::-1],
        "recognise": written("108.50", 30, width=96, height=48),
    }


def written(text: str, size: int, *, width: int, height: int) -> U8:
    """Text in the middle of a white picture."""
    picture = Image.new("L", (width, height), "white")
    drawing = ImageDraw.Draw(picture)
    drawing.text((width / 2, height / 2), text, "black", ImageFont.load_default(size), anchor="mm")
    return np.repeat(np.asarray(picture)[None], 3, axis=0)


def rounded(value: Any) -> Any:  # a value of an answer, as JSON builtins
    """Fractions to four digits after the point; text and whole numbers as they are."""
    if isinstance(value, np.integer):
        return int(value)
    return value if isinstance(value, str) else np.asarray(value, np.float64).round(4).tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "golden.jsonl")
