#!/usr/bin/env python3
"""Copies the three models out of the installed `rapidocr-onnxruntime` wheel into `model/`, and checks every byte.

PP-OCRv4 (detection, recognition) and PP-OCR mobile v2 (direction), Apache-2.0, exported to ONNX by the RapidOCR
project. Nothing is downloaded here: installing the service's dependencies did that. Two runs write the same bytes, and
a wheel with other bytes than those pinned below is refused. Writes into the folder given as the argument, if any.

    python fetch.py
"""

import hashlib
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).resolve().parent
WHEEL: Final = "rapidocr-onnxruntime"
ALPHABET: Final = Path("src/documents_service/alphabet.txt")
"""Committed: API workers turn nothing into text, but a change of the alphabet must be seen in a review."""


class Source(NamedTuple):
    """One file of the wheel."""

    name: str
    sha256: str


MODELS: Final = {
    "detect": Source("ch_PP-OCRv4_det_infer.onnx", "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"),
    "orient": Source(
        "ch_ppocr_mobile_v2.0_cls_infer.onnx", "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
    ),
    "recognise": Source(
        "ch_PP-OCRv4_rec_infer.onnx", "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
    ),
}


def main(folder: Path) -> None:
    """Writes `model/*.onnx` and `model/lineage.json` into `folder`."""
    version, wheel = installed()
    into = folder / "model"
    into.mkdir(parents=True, exist_ok=True)
    origins = []
    for model, source in MODELS.items():
        data = (wheel / source.name).read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != source.sha256:
            raise SystemExit(
                f"{source.name!r} of {WHEEL} {version} is another file: expected sha256:{source.sha256}, "
                f"got sha256:{found}\nhint: read what changed, run the tests with it, then pin it in fetch.py"
            )
        put(into / f"{model}.onnx", data)
        origins.append({"uri": f"pypi:{WHEEL}=={version}/{source.name}", "digest": f"sha256:{found}"})
    lineage = json.dumps({"trainedFrom": origins}, indent=2, sort_keys=True) + "\n"
    put(into / "lineage.json", lineage.encode())
    print(f"{len(MODELS)} models out of {WHEEL} {version} are in {into}")


def installed() -> tuple[str, Path]:
    """Version of the wheel and the folder of its models. Importing it would load onnxruntime and OpenCV."""
    try:
        found = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(
            f"{WHEEL} is not installed in {sys.prefix}\nhint: its last release knows Python up to 3.12; with a newer "
            "one, run this file with an older Python once: the models run on any"
        ) from None
    return found.version, Path(str(found.locate_file("rapidocr_onnxruntime/models")))


def alphabet_of(model: Path) -> str:
    """The characters that a recognition model knows, one a line, out of its metadata."""
    import onnxruntime  # type: ignore[import-untyped]  # ships no types; only the tests ask

    characters: str = onnxruntime.InferenceSession(model).get_modelmeta().custom_metadata_map["character"]
    return "\n".join(characters.splitlines()) + "\n"


def put(path: Path, data: bytes) -> None:
    """Writes a file in one step. The same bytes again leave the old file, so a build may be reading it."""
    if path.exists() and path.read_bytes() == data:
        return
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    draft.write_bytes(data)
    draft.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
