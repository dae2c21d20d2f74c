"""Load: whether what was due was sent, what a request costs the generator, and what a stall of the server looks like.

    .venv/bin/python benchmarks/load.py            # about a minute; two processors, the server on the first

The server is churn, served from its folder (train it first), one worker. `due` is what the plan says, `sent` what left
within the run; `late` is how much later than due. The stall is a SIGSTOP of one second in the middle of 8 s: the open
loop is the load process, the closed loop is Locust's own user with `constant_throughput`, asked for the same rate.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.load_plan import LoadPlan, encode_plan
from slipway_signals.gate.records import Window, decode_window

ROOT = Path(__file__).resolve().parents[1]
RATES = (500.0, 1_000.0, 3_000.0)
SEED = 8
STALL_S = 1.0
CLOSED = """
import json
from locust import FastHttpUser, constant_throughput, task
BODY = json.dumps({body!r})
HEADERS = {{"Content-Type": "application/json", "X-Slipway-Synthetic": "1"}}
class Paced(FastHttpUser):
    host = "{url}"
    wait_time = constant_throughput({each})
    @task
    def ask(self):
        self.client.post("/predict", data=BODY, headers=HEADERS)
"""


@contextlib.contextmanager
def churn(cpus: set[int]) -> Iterator[tuple[str, psutil.Process]]:
    """The churn service on these processors; its address and its only worker."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "slipway_cli", "serve", str(ROOT / "services" / "churn"), "--port", "0"]
        process = subprocess.Popen(
            [*command, "--admin-port", "0", "--drain-s", "0"],
            stderr=subprocess.PIPE, text=True,
            env=os.environ | {"SLIPWAY_HOME": home, "SLIPWAY_TRUST_SYNTHETIC": "true"},
        )  # fmt: skip
        psutil.Process(process.pid).cpu_affinity(sorted(cpus))
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "metrics " in line:
                break
        url = (re.search(r"at +(http://\S+)", said) or ["", ""])[1]
        if not url:
            sys.exit(f"churn did not start:\n{said}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        workers = [one for one in psutil.Process(process.pid).children() if "slipway_serve.worker" in one.cmdline()]
        try:
            yield url, workers[0]
        finally:
            process.terminate()
            process.wait(30)


def plan_of(url: str, rate: float, seconds: float) -> LoadPlan:
    """Constant arrivals: what is due is known exactly."""
    raw = {"arms": {"stable": {"url": url}}, "rate": rate, "seconds": seconds, "warm_up_s": 2.0, "seed": SEED,
           "arrivals": "constant", "max_in_flight": 4_000, "timeout_s": 10.0}  # fmt: skip
    return msgspec.convert(raw, LoadPlan)


def load(plan: LoadPlan, cpus: set[int]) -> list[Window]:
    """The windows of a run, without its warm-up."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(encode_plan(plan))
        file.flush()
        command = [sys.executable, "-m", "slipway_loadtests", "run", "--plan", file.name, "--windows", "-"]
        done = subprocess.run(
            ["taskset", "-c", ",".join(map(str, sorted(cpus))), *command], stdout=subprocess.PIPE, check=True
        )
    return [window for line in done.stdout.splitlines() if not (window := decode_window(line)).is_warm_up]


def merged(parts: Sequence[Histogram]) -> Histogram:
    """One histogram of several."""
    total = Histogram()
    for part in parts:
        total.merge(part)
    return total


def rates(url: str, cpus: set[int]) -> None:
    """Due and sent at each rate."""
    print("rate      due     sent   off  core  late p50  late p99   p50       p99")
    for rate in RATES:
        windows = load(plan_of(url, rate, 12.0), cpus)
        due = rate * 10.0
        sent = sum(window.arms["stable"].sent for window in windows)
        cpu = sum(window.generator.cpu_share for window in windows) / len(windows)
        slip = merged([window.generator.slip_us for window in windows])
        latency = merged([window.arms["stable"].latency_us for window in windows])
        times = [part.quantile(q) / 1e3 for part in (slip, latency) for q in (0.5, 0.99)]
        late = f"{times[0]:6.2f} ms {times[1]:6.2f} ms {times[2]:6.2f} ms {times[3]:6.2f} ms"
        print(f"{rate:5.0f} {due:8.0f} {sent:8d} {abs(sent - due) / due:5.2%} {cpu:4.0%} {late}")


def stalls(url: str, worker: psutil.Process, cpus: set[int]) -> None:
    """The same stall, seen by an open and by a closed loop."""
    rate, seconds = 200.0, 10.0
    with stalling(worker, 1.0 + 5.0):
        opened = merged([window.arms["stable"].latency_us for window in load(plan_of(url, rate, seconds), cpus)])
    body = json.loads((ROOT / "services" / "churn" / "golden.jsonl").read_text().splitlines()[0])["input"]
    with tempfile.TemporaryDirectory() as folder, stalling(worker, 1.0 + 5.0):
        file = Path(folder) / "locustfile.py"
        file.write_text(CLOSED.format(body=body, url=url, each=rate / 10))
        line = [
            "-f",
            str(file),
            "--headless",
            "-u",
            "10",
            "-r",
            "10",
            "-t",
            f"{seconds:g}s",
            "--json",
            "--only-summary",
        ]
        done = subprocess.run(
            ["taskset", "-c", ",".join(map(str, sorted(cpus))), sys.executable, "-m", "locust", *line],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    times = json.loads(done.stdout)[0]["response_times"]
    closed = merged([Histogram.of([round(float(time_ms) * 1e3)] * count) for time_ms, count in times.items()])
    print(
        f"\na stall of {STALL_S:g} s at {rate:g} requests a second\nloop     answers  slower than 0.1 s  p95        p99"
    )
    for name, found in (("open", opened), ("closed", closed)):
        slow = sum(count for value, count in zip(found.values, found.counts, strict=True) if value > 100_000)
        p95_ms, p99_ms = (found.quantile(q) / 1e3 for q in (0.95, 0.99))
        print(f"{name:<7} {found.count:8d} {slow:18d} {p95_ms:8.1f} ms {p99_ms:8.1f} ms")


@contextlib.contextmanager
def stalling(worker: psutil.Process, after_s: float) -> Iterator[None]:
    """Stop the worker for a second, so long after now."""

    def stall() -> None:
        worker.send_signal(signal.SIGSTOP)
        time.sleep(STALL_S)
        worker.send_signal(signal.SIGCONT)

    timer = threading.Timer(after_s, stall)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def main() -> None:
    """Both tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    cpus = {others[0]} if others else {first}
    with churn({first}) as (url, worker):
        rates(url, cpus)
        stalls(url, worker, cpus)


if __name__ == "__main__":
    main()
