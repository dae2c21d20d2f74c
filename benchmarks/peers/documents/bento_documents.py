"""The documents service in BentoML, both ways its page "Model composition" shows: `Together` runs the three models in one
service, one process a processor; `Composed` has a service of its own for each model, with adaptive batching where crops
of several pages can share a batch. Pictures, crops and text are made by the documents service's own code."""

import asyncio, os
from pathlib import Path
from typing import Annotated

import bentoml, numpy as np, onnxruntime
from bentoml.validators import ContentType
from documents_service.crops import cut_out
from documents_service.detection import boxes_of, normalised, prepared
from documents_service.recognition import texts_of

MODELS = Path(os.environ.get("BENCH_DIR", Path(__file__).parents[2] / ".bench")) / "documents" / "model"
WORKERS = len(os.sched_getaffinity(0))
MIN_SCORE, UPSIDE_DOWN = 0.5, 0.9  # the documents service's
Image = Annotated[Path, ContentType("image/png")]


class Network:
    """A graph with one input, as our adapter opens it: one thread."""

    def __init__(self, name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(MODELS / f"{name}.onnx", options, ["CPUExecutionProvider"])

    def __call__(self, x):
        return self.session.run(None, {"x": x})[0]


class Detector:
    def __init__(self):
        self.network = Network("detect")

    def run(self, pixels):
        found = boxes_of(self.network(normalised(pixels[None]))[:, 0])
        return found["corners"][0][found["scores"][0] > 0]


class Orienter:
    def __init__(self):
        self.network = Network("orient")

    def run(self, slips):
        return self.network(normalised(np.stack(slips)))[:, 1].tolist()


class Recogniser:
    def __init__(self):
        self.network = Network("recognise")

    def run(self, crops):
        """Crops of one width are a batch."""
        read = [None] * len(crops)
        for width in {crop.shape[2] for crop in crops}:
            places = [i for i, crop in enumerate(crops) if crop.shape[2] == width]
            answers = texts_of(self.network, np.stack([crops[i] for i in places]))
            for place, text, score in zip(places, answers["text"], answers["score"]):
                read[place] = (str(text), float(score))
        return read


def lines(sheet, boxes, best):
    corners = sheet.corners(boxes)
    kept = [{"text": t, "score": s, "box": c} for (t, s), c in zip(best, corners) if t and s >= MIN_SCORE]
    return {"lines": kept, "width": sheet.width, "height": sheet.height}


def doubted(turns):
    return [i for i, turn in enumerate(turns) if turn > UPSIDE_DOWN]


@bentoml.service(workers=WORKERS, traffic={"timeout": 60})
class Together:
    def __init__(self):
        self.detector, self.orienter, self.recogniser = Detector(), Orienter(), Recogniser()

    @bentoml.api(route="/infer")
    def infer(self, image: Image, /) -> dict:
        sheet, view = prepared(image.read_bytes())
        boxes = view.boxes(self.detector.run(view.pixels), sheet.pixels)
        cuts = cut_out(sheet.pixels, boxes)
        if not cuts:
            return lines(sheet, boxes, [])
        again = doubted(self.orienter.run([cut.slip for cut in cuts]))
        best = self.recogniser.run([cut.crop for cut in cuts])
        for i, answer in zip(again, self.recogniser.run([cuts[i].turned() for i in again])):
            best[i] = max(best[i], answer, key=lambda pair: pair[1])
        return lines(sheet, boxes, best)


@bentoml.service(workers=1, traffic={"timeout": 60})
class Detect:
    def __init__(self):
        self.model = Detector()

    @bentoml.api
    def run(self, pixels: np.ndarray) -> np.ndarray:
        return self.model.run(pixels)


@bentoml.service(workers=1, traffic={"timeout": 60})
class Orient:
    def __init__(self):
        self.model = Orienter()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=10_000)
    def run(self, slips: list[np.ndarray]) -> list[float]:
        return self.model.run(slips)


@bentoml.service(workers=1, traffic={"timeout": 60})
class Recognise:
    def __init__(self):
        self.model = Recogniser()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=10_000)
    def run(self, crops: list[np.ndarray]) -> list[list]:
        return [list(pair) for pair in self.model.run(crops)]


@bentoml.service(workers=1, traffic={"timeout": 60})
class Composed:
    detect, orient, recognise = bentoml.depends(Detect), bentoml.depends(Orient), bentoml.depends(Recognise)

    @bentoml.api(route="/infer")
    async def infer(self, image: Image, /) -> dict:
        sheet, view = await asyncio.to_thread(prepared, image.read_bytes())
        boxes = view.boxes(await self.detect.to_async.run(view.pixels), sheet.pixels)
        cuts = await asyncio.to_thread(cut_out, sheet.pixels, boxes)
        if not cuts:
            return lines(sheet, boxes, [])
        turns, best = await asyncio.gather(
            self.orient.to_async.run([cut.slip for cut in cuts]), self.recognise.to_async.run([cut.crop for cut in cuts])
        )
        again = doubted(turns)
        if again:
            for i, answer in zip(again, await self.recognise.to_async.run([cuts[i].turned() for i in again])):
                best[i] = max(best[i], answer, key=lambda pair: pair[1])
        return lines(sheet, boxes, best)
