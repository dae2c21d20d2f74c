"""Packing a large model: ours beside the limit of the machine, in one table of one run.

    python benchmarks/pack.py [--size-mb 1024] [--rounds 3] [--folder DIR]

What is compared: `sha256sum F; cp F G; sync G` (one hash, one durable copy), the same with the sha256 of OpenSSL,
which uses the processor's sha instructions where coreutils may not, and `Store.put_layer` (two hashes, one durable
copy: file and folder are fsynced, as publishing does). Every row starts with a warm page cache of F, no dirty pages
and no target file; rounds are interleaved, and the median counts. The last row packs the unchanged file again.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from slipway_bundle.disk import sync_folder
from slipway_bundle.layers import LayerFile
from slipway_bundle.store import Store

CHUNK_BYTES = 4 << 20


def main() -> None:
    """Measure and print."""
    run(measure, __doc__)


def run(work: Callable[[Path, int, int], None], description: str | None) -> None:
    """`work` in a folder of its own, with the model's size in MiB and the rounds that the command line asks for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=1024, help="size of the model file in MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; decides which disk is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="slipway-bench-") as name:
        work(Path(name), arguments.size_mb, arguments.rounds)


def measure(folder: Path, size_mb: int, rounds: int) -> None:
    """Run all rows `rounds` times, in turn, and print the table."""
    source, copy = folder / "F", folder / "G"
    write_random(source, size_mb << 20)
    store = Store.open(folder / "store")
    rows: dict[str, Callable[[], None]] = {
        "sha256sum F; cp F G; sync G": lambda: shell(f"sha256sum {source}; cp {source} {copy}; sync {copy}"),
        "openssl dgst -sha256 F; cp F G; sync G": lambda: shell(
            f"openssl dgst -sha256 {source}; cp {source} {copy}; sync {copy}"
        ),
        "slipway: put_layer": lambda: pack(store, source),
    }
    if shutil.which("openssl") is None:
        del rows["openssl dgst -sha256 F; cp F G; sync G"]
    seconds: dict[str, list[float]] = {row: [] for row in (*rows, "slipway: put_layer, unchanged file")}
    for _ in range(rounds):
        for row, work in rows.items():
            copy.unlink(missing_ok=True)
            shutil.rmtree(store.root, ignore_errors=True)
            os.sync()
            seconds[row].append(timed(work))
        seconds["slipway: put_layer, unchanged file"].append(timed(lambda: pack(store, source)))
    print_table(seconds, size_mb)


def pack(store: Store, source: Path) -> None:
    """What `slipway bundle build` does with the weights, up to the point where they may be published."""
    store.put_layer([LayerFile("models/model/weights.safetensors", source)])
    sync_folder(store.layout.blobs)


def shell(command: str) -> None:
    """Run a row's commands."""
    subprocess.run(["sh", "-ec", command], check=True, stdout=subprocess.DEVNULL)


def timed(work: Callable[[], None]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_random(path: Path, size_bytes: int) -> None:
    """A file that no disk can compress or deduplicate, durable and older than the stat cache's guard."""
    with path.open("wb") as file:
        for _ in range(0, size_bytes, CHUNK_BYTES):
            file.write(os.urandom(CHUNK_BYTES))
        file.flush()
        os.fsync(file.fileno())


def print_table(seconds: dict[str, list[float]], size_mb: int) -> None:
    """Medians, throughput, and speed against the first row."""
    print(f"one file of {size_mb} MiB, {os.cpu_count()} cores, median of {len(next(iter(seconds.values())))}\n")
    print(f"{'':42} {'seconds':>10} {'MiB/s':>10} {'speed against row 1':>20}")
    floor = statistics.median(next(iter(seconds.values())))
    for row, measured in seconds.items():
        median = statistics.median(measured)
        print(f"{row:42} {median:10.4f} {size_mb / median:10.0f} {floor / median:19.2f}x")


if __name__ == "__main__":
    main()
