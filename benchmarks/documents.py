#!/usr/bin/env python3
"""Pages a second of the documents service, beside the same three models called in a plain loop.

    python benchmarks/documents.py                        # the plain loop, in this process
    python benchmarks/documents.py --url http://127.0.0.1:8000 --clients 8

The loop is the honest rival: the service's own decoding, cutting and text-making, the same weights through the same
adapter with the same threads, one page after another, its crops grouped by width as a batch. `--threads` must be what
the served pools have in sum: on two processors `--threads 2` here, two runners of one thread there.
"""

import argparse
import asyncio
import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "services" / "documents"
sys.path.insert(0, str(FOLDER / "src"))

import documents_service.service as documents  # noqa: E402  # found through the line above
from documents_service.crops import cut_out  # noqa: E402
from documents_service.detection import prepared  # noqa: E402
from slipway_bundle import U8, Arrays  # noqa: E402
from slipway_bundle.adapters import onnx  # noqa: E402
from slipway_bundle.config import load_config  # noqa: E402
from slipway_bundle.weights import WeightsFile  # noqa: E402

WORDS = ("invoice", "harbour", "rope", "shackle", "total", "date", "gate", "seat", "serial", "street", "quay", "queue")
Compute = Callable[[U8], Arrays]


def main() -> None:
    """Prints one line."""
    options = parse()
    pages = [page(seed, options.lines) for seed in range(8)]
    if options.url:
        seconds, latencies = asyncio.run(served(options.url, pages, options.clients, options.seconds))
        who = f"served, {options.clients} clients"
    else:
        seconds, latencies = looped(pages, options.threads, options.seconds)
        who = f"plain loop, {options.threads} threads"
    rate = len(latencies) / seconds
    p50, p95 = np.percentile(np.array(latencies) * 1e3, [50, 95])
    print(f"{who}: {rate:.2f} pages/s, {options.lines} lines each; p50 {p50:.0f} ms, p95 {p95:.0f} ms")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a running service; without it the plain loop runs here")
    parser.add_argument("--clients", type=int, default=8, help="requests under way at once")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime, in the plain loop")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured, after a second of warm-up")
    parser.add_argument("--lines", type=int, default=8, help="of text on each page")
    return parser.parse_args()


def page(seed: int, lines: int) -> bytes:
    """A PNG of 800 x 600 with so many lines of one to six words."""
    draw = np.random.default_rng(seed)
    sheet = Image.new("RGB", (800, 600), "white")
    drawing = ImageDraw.Draw(sheet)
    for line in range(lines):
        text = " ".join(draw.choice(WORDS, size=draw.integers(1, 7)))
        drawing.text((40, 20 + line * 560 / lines), text, "black", ImageFont.load_default(int(draw.integers(18, 28))))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def looped(pages: list[bytes], threads: int, seconds: float) -> tuple[float, list[float]]:
    """One page after another through the three models."""
    detect, orient, recognise = (computer(name, threads) for name in ("detect", "orient", "recognise"))
    for one in pages:
        read(one, detect, orient, recognise)
    latencies: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        began = time.perf_counter()
        read(pages[len(latencies) % len(pages)], detect, orient, recognise)
        latencies.append(time.perf_counter() - began)
    return time.perf_counter() - started, latencies


def computer(name: str, threads: int) -> Compute:
    """The service's own `compute` of a model, on weights loaded here."""
    config = load_config(FOLDER).bundle.models[name]
    weights = onnx.load(WeightsFile.whole(FOLDER / config.file), config, (), threads=threads)
    compute = documents.service.models[name].function
    if compute is None:
        raise SystemExit(f"model {name!r} has no `compute`, expected one")
    return lambda pixels: compute(weights, {"pixels": pixels})


def read(data: bytes, detect: Compute, orient: Compute, recognise: Compute) -> list[str]:
    """What `/infer` does, without a server."""
    sheet, view = prepared(data)
    found = detect(view.pixels[None])
    boxes = view.boxes(found["corners"][0][found["scores"][0] > 0], sheet.pixels)
    cuts = cut_out(sheet.pixels, boxes)
    if not cuts:
        return []
    turns = orient(np.stack([cut.slip for cut in cuts]))["upside_down"]
    doubted = [(i, cuts[i].turned()) for i, turn in enumerate(turns.tolist()) if turn > documents.UPSIDE_DOWN]
    best = [("", 0.0)] * len(cuts)
    for crops in ([(i, cut.crop) for i, cut in enumerate(cuts)], doubted):
        for places, stacked in by_width(crops):
            answers = recognise(stacked)
            for place, text, score in zip(places, answers["text"], answers["score"], strict=True):
                best[place] = max(best[place], (str(text), float(score)), key=lambda answer: answer[1])
    return [text for text, score in best if score >= documents.MIN_SCORE]


def by_width(crops: list[tuple[int, U8]]) -> Iterator[tuple[list[int], U8]]:
    """Crops of one width as one batch."""
    for width in sorted({crop.shape[2] for _, crop in crops}):
        same = [(place, crop) for place, crop in crops if crop.shape[2] == width]
        yield [place for place, _ in same], np.stack([crop for _, crop in same])


async def served(url: str, pages: list[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    """Closed loop: each client sends its next page when it has the answer to the last. Says what was refused."""
    latencies: list[float] = []
    refused: Counter[str] = Counter()

    async def ask(client: httpx.AsyncClient, number: int, until: float, kept: list[float]) -> None:
        while (began := time.perf_counter()) < until:
            answer = await client.post(
                f"{url}/infer", content=pages[number % len(pages)], headers={"content-type": "image/png"}
            )
            if answer.is_success:
                kept.append(time.perf_counter() - began)
            else:
                refused[answer.json()["code"]] += 1
            number += 1

    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(ask(client, n, time.perf_counter() + 1.0, []) for n in range(clients)))
        started = time.perf_counter()
        await asyncio.gather(*(ask(client, n, started + seconds, latencies) for n in range(clients)))
        for code, count in refused.items():
            print(f"{count} x {code}", file=sys.stderr)
        return time.perf_counter() - started, latencies


if __name__ == "__main__":
    main()
