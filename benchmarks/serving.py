"""Serving side by side: starts each server in turn, loads it with wrk, prints one table. Ours among the peers.

    make bench                                                  # everything, pinned
    .venv/bin/python benchmarks/serving.py --servers asgi-bare,slipway --conns 1,64 --secs 5

Every row of a table is measured in one run on one machine: compare ratios, never absolutes. The server is pinned to
core 0 and wrk to core 1, so req/s is per core. `asgi-hello` is the limit of the HTTP stack (a decode, no model),
`asgi-bare` one msgspec decode and one predict per request, `slipway-off` is ours with batching switched off. All
servers answer the same twenty floats over the same XGBoost model, on loopback. `benchmarks/setup.sh` makes the peers'
environments and the model.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from servers import (
    ACCEL,
    HOME,
    PARTS,
    SERVERS,
    Server,
    cpu_s,
    found,
    machine,
    pss_mib,
    start,
    stop,
    tree,
    url_of,
    wait_for,
    wait_for_port,
)


class Load(NamedTuple):
    """What wrk saw, and what the server's processes used meanwhile."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    bad: int
    cpu_us: float
    pss_mib: int


def main() -> int:
    """Measure what was asked for; the exit status is 1 when a server did not start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("churn", "accel"), default="churn", help="what everybody computes")
    parser.add_argument("--servers", help="which, comma-separated; all of the model's by default")
    parser.add_argument("--conns", default="1,64,256", help="connections, comma-separated")
    parser.add_argument("--secs", type=int, default=5, help="seconds of each measurement")
    parser.add_argument("--reps", type=int, default=1, help="repetitions; the median by req/s is shown")
    parser.add_argument("--no-pin", action="store_true", help="let the kernel place server and wrk")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds of warm-up load before each measurement")
    options = parser.parse_args()
    print(machine(), flush=True)
    print(f"{'server':<16}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}", end="")
    print(f"{'bad':>6}{'cpu µs/req':>11}{'PSS MiB':>9}{'start s':>9}")
    failed = False
    servers = SERVERS if options.model == "churn" else ACCEL
    os.environ["BENCH_MODEL"] = options.model
    for name in options.servers.split(",") if options.servers else servers:
        for line in measured(name, (servers | PARTS)[name], options):
            failed |= "did not start" in line
            print(line, flush=True)
    return int(failed)


def measured(name: str, server: Server, options: argparse.Namespace) -> Iterator[str]:
    """One line per number of connections."""
    wait_for_port()
    body = (HOME / server.body).read_bytes()
    url = url_of(server)
    started = time.monotonic()
    process = start(name, server, pinned=not options.no_pin)
    try:
        error = wait_for(process, url, body)
        start_s = time.monotonic() - started
        if error:
            yield f"{name:<16} did not start: {error}; see {HOME / name}.log"
            return
        script = script_of(name, body)
        for connections in options.conns.split(","):
            runs = [load(process.pid, script, url, connections, options) for _ in range(options.reps)]
            run = sorted(runs)[len(runs) // 2]
            yield (
                f"{name:<16}{connections:>6}{run.requests_s:>9.0f}{run.p50_ms:>9.2f}{run.p99_ms:>9.2f}{run.bad:>6}"
                f"{run.cpu_us:>11.0f}{run.pss_mib:>9}{start_s:>9.1f}"
            )
    finally:
        stop(process.pid)


def script_of(name: str, body: bytes) -> Path:
    """What wrk sends."""
    script = HOME / f"{name}.lua"
    script.write_text(
        f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body=[==[{body.decode()}]==]\n"
    )
    return script


def load(pid: int, script: Path, url: str, connections: str, options: argparse.Namespace) -> Load:
    """One warm-up and one measured run of wrk; takes `no_pin`, `wait` and `secs` of the options."""
    pin = [] if options.no_pin else ["taskset", "-c", "1"]
    wrk = [*pin, "wrk", "-t1", f"-c{connections}", "--latency", "--timeout", "5s", "-s", str(script), url]
    subprocess.run([*wrk, f"-d{options.wait}s"], capture_output=True, check=False)
    before = cpu_s(pid)
    report = subprocess.run([*wrk, f"-d{options.secs}s"], capture_output=True, text=True, check=True).stdout
    used = cpu_s(pid) - before
    requests = int(found(r"(\d+) requests in", report))
    bad = int(found(r"Non-2xx or 3xx responses: (\d+)", report))
    bad += sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", report))
    p50, p99 = (milliseconds(found(rf"(?m)^\s+{q}%\s+(\S+)", report)) for q in (50, 99))
    rate = float(found(r"Requests/sec:\s+([\d.]+)", report))
    return Load(rate, p50, p99, bad, used / max(requests, 1) * 1e6, pss_mib(tree(pid)))


def milliseconds(text: str) -> float:
    """wrk's `1.23ms`, `850.00us`, `1.20s` as a number."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)?", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, None: 1.0}[unit]


if __name__ == "__main__":
    sys.exit(main())
