"""What runners of one model cost together: starts processes that load it and sums their memory. Prints a table.

    python benchmarks/memory.py
    python benchmarks/memory.py --size-mb 200 --format onnx

Each process loads the weights by their adapter and computes with all of them, so every page has been read. PSS
(proc(5), smaps_rollup) counts a page that k processes share as 1/k in each: the sum is what the machine must have.
Sizes are in MB of 10**6 bytes. Linux only; needs as much free disk as the model, in the folder for temporary files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np

from slipway_bundle.config import ModelConfig
from slipway_bundle.weights import WeightsFile, adapter_for

if TYPE_CHECKING:
    from slipway_bundle.adapters.safetensors import TensorWeights

PROMISE = 1.2
"""Eight runners of a 2 GB model hold at most 2.4 GB."""

WIDTH = 1024
MB = 10**6
TIMEOUT_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--format", choices=("safetensors", "onnx"), default="safetensors")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load is not None:
        load_and_compute(options.load, options.format)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{options.format}"
        (write_safetensors if options.format == "safetensors" else write_onnx)(path, options.size_mb * MB)
        size = path.stat().st_size
        measured = list(measure(path, options.format, options.processes))
    report(size, measured)


class Measured(msgspec.Struct):
    """One process after its first computation."""

    load_s: float
    compute_s: float
    total: float
    """Of the computed values: equal in every process."""

    memory: dict[str, int]
    """Field of smaps_rollup -> bytes."""


def write_safetensors(path: Path, size: int) -> None:
    """Tensors `[n, WIDTH]` FP32 of 100 MB each, written by the adapter (which holds them while it writes)."""
    rows = 100 * MB // (WIDTH * 4)
    block = np.random.default_rng(0).random((rows, WIDTH), dtype=np.float32)
    count = max(1, size // block.nbytes)
    adapter_for("safetensors").save({f"layer{index:03}": block for index in range(count)}, path)


def write_onnx(path: Path, size: int) -> None:
    """A chain of matrix products `[WIDTH * 4, WIDTH * 4]` FP32."""
    from onnx import TensorProto, helper, numpy_helper

    side = WIDTH * 4
    block = np.random.default_rng(0).random((side, side), dtype=np.float32) / side
    count = max(1, size // block.nbytes)
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, ["n", side])],
        [helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, ["n", side])],
        [numpy_helper.from_array(np.roll(block, i), f"w{i}") for i in range(count)],  # equal ones would be kept once
    )
    opset = [helper.make_opsetid("", 18)]
    adapter_for("onnx").save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def load_and_compute(path: Path, form: str) -> None:
    """A runner's side: load, compute, say so, wait for the others, say how much memory it is."""
    config = msgspec.convert({"file": path.name, "format": form}, ModelConfig)
    started = time.perf_counter()
    weights = adapter_for(form).load(WeightsFile.whole(path), config, ())
    loaded = time.perf_counter()
    if form == "onnx":
        found = weights({"x0": np.ones((4, WIDTH * 4), dtype=np.float32)})
        total = float(next(iter(found.values())).sum())
    else:
        vector = np.ones(WIDTH, dtype=np.float32)
        tensors = cast("TensorWeights", weights).tensors
        total = sum(float((tensor @ vector).sum()) for tensor in tensors.values())
    computed = time.perf_counter()
    sys.stdout.write("computed\n")
    sys.stdout.flush()
    sys.stdin.readline()
    measured = Measured(loaded - started, computed - loaded, total, rollup())
    sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def rollup() -> dict[str, int]:
    """This process's memory: `Rss`, `Pss`, `Private_Dirty`, … in bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {name.rstrip(":"): int(size) * 1024 for name, size, *_ in map(str.split, lines)}


def measure(path: Path, form: str, processes: int) -> Iterator[Measured]:
    """Starts all, waits until each has computed, then asks each while all are alive."""
    command = [sys.executable, __file__, "--load", str(path), "--format", form]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    try:
        for child in children:
            if _answer(child) != "computed\n":
                raise SystemExit("a process ended before it had computed")
        for child in children:
            _ask(child)
            yield msgspec.json.decode(_answer(child), type=Measured)
    finally:
        for child in children:
            if child.stdin is not None:
                child.stdin.close()
            child.wait(TIMEOUT_S)


def report(size: int, measured: list[Measured]) -> None:
    """The table, and whether the promise holds."""
    if len({one.total for one in measured}) != 1:
        raise SystemExit(f"the processes computed different values: {[one.total for one in measured]}")
    write = sys.stdout.write
    names = ("Rss", "Pss", "Private_Dirty", "Private_Clean", "Shared_Clean")
    write(f"{'process':>8}{'load s':>9}{'compute s':>11}{''.join(f'{name:>18}' for name in names)}  (MB)\n")
    for index, one in enumerate(measured):
        sizes = "".join(f"{one.memory[name] / MB:18.1f}" for name in names)
        write(f"{index:8}{one.load_s:9.2f}{one.compute_s:11.2f}{sizes}\n")
    pss = sum(one.memory["Pss"] for one in measured)
    write(
        f"\nmodel {size / MB:.0f} MB, {len(measured)} processes, sum of PSS {pss / MB:.0f} MB = {pss / size:.2f} models"
    )
    write(f" (promise <= {PROMISE} for 8 processes of 2 GB)\n")


def _ask(child: subprocess.Popen[str]) -> None:
    if child.stdin is not None:
        child.stdin.write("\n")
        child.stdin.flush()


def _answer(child: subprocess.Popen[str]) -> str:
    return "" if child.stdout is None else child.stdout.readline()


if __name__ == "__main__":
    main()
