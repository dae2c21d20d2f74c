#!/usr/bin/env python3
"""Pages a second of the documents service, beside the same three models called in a plain loop.

    python benchmarks/documents.py                        # the plain loop, in this process
    python benchmarks/documents.py --url http://127.0.0.1:8000 --clients 8
    python benchmarks/documents.py --beside --threads 2   # the loop, ours, and BentoML in both its ways, in one run

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
import msgspec
import numpy as np
import servers
from PIL import Image, ImageDraw, ImageFont
from servers import BENTOML, PORT, Server

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
BESIDE = {"PYTHONPATH": f"{servers.HERE / 'peers' / 'documents'}:{FOLDER / 'src'}"}
SERVED = {
    "slipway": Server(f"{servers.SLIPWAY} serve {FOLDER} --port {PORT} --admin-port 0", "/infer"),
    "bentoml-together": Server(f"{BENTOML} bento_documents:Together --port {PORT}", "/infer", env=BESIDE),
    "bentoml-composed": Server(f"{BENTOML} bento_documents:Composed --port {PORT}", "/infer", env=BESIDE),
}
"""Who is measured beside the loop; 8 clients each."""


def main() -> int:
    """Print one line, or a table; the exit status is 1 when a server read something else than the loop."""
    options = parse()
    pages = [page(seed, options.lines) for seed in range(8)]
    if options.beside:
        return beside(pages, options)
    if options.url:
        seconds, latencies = asyncio.run(served(options.url, pages, options.clients, options.seconds))
        who = f"served, {options.clients} clients"
    else:
        seconds, latencies = looped(pages, options.threads, options.seconds)
        who = f"plain loop, {options.threads} threads"
    rate = len(latencies) / seconds
    p50, p95 = np.percentile(np.array(latencies) * 1e3, [50, 95])
    print(f"{who}: {rate:.2f} pages/s, {options.lines} lines each; p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    return 0


def beside(pages: list[bytes], options: argparse.Namespace) -> int:
    """The loop and every server in one run, each alone on the machine and on all its processors."""
    print(servers.machine())
    print(
        "| | pages/s | p50 ms | p99 ms | pages read as by the loop | PSS MiB |\n|---|--:|--:|--:|--:|--:|", flush=True
    )
    threads = options.threads
    right = [read(one, *(computer(name, threads) for name in ("detect", "orient", "recognise"))) for one in pages]
    print(line(f"plain loop, {threads} threads", looped(pages, threads, options.seconds), "", ""), flush=True)
    worst = 0
    servers.adopt_orphans()
    for name, server in SERVED.items():
        servers.wait_for_port()
        process = servers.start(name, server, pinned=False)
        try:
            error = servers.wait_for(process, servers.url_of(server), pages[0], "image/png")
            if error:
                raise SystemExit(f"{name} did not start: {error}; see {servers.HOME / name}.log")
            answers = [msgspec.json.decode(servers.ask(servers.url_of(server), one, "image/png")) for one in pages]
            texts = [[found["text"] for found in answer["lines"]] for answer in answers]
            same = sum(got == [text for text in expected if text] for got, expected in zip(texts, right, strict=True))
            run = asyncio.run(served(f"http://127.0.0.1:{servers.PORT}", pages, options.clients, options.seconds))
            pss = servers.pss_mib(servers.tree(process.pid))
            print(line(f"{name}, {options.clients} clients", run, f"{same} of {len(pages)}", f"{pss}"), flush=True)
            worst = max(worst, int(same < len(pages)))
        finally:
            servers.stop(process.pid)
            servers.stop_all()
    return worst


def line(who: str, run: tuple[float, list[float]], same: str, pss: str) -> str:
    """Of the table."""
    seconds, latencies = run
    p50, p99 = np.percentile(np.array(latencies) * 1e3, [50, 99])
    return f"| {who} | {len(latencies) / seconds:.2f} | {p50:.0f} | {p99:.0f} | {same} | {pss} |"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", action="store_true", help="start and measure every server (setup.sh installs them)")
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
                refused[f"status {answer.status_code}"] += 1
            number += 1

    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(ask(client, n, time.perf_counter() + 1.0, []) for n in range(clients)))
        started = time.perf_counter()
        await asyncio.gather(*(ask(client, n, started + seconds, latencies) for n in range(clients)))
        for code, count in refused.items():
            print(f"{count} x {code}", file=sys.stderr)
        return time.perf_counter() - started, latencies


if __name__ == "__main__":
    sys.exit(main())
