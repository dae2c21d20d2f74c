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
import platform
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
HOME = Path(os.environ.get("BENCH_DIR", HERE / ".bench"))
PORT = 8001
SLIPWAY = os.environ.get("BENCH_SLIPWAY", str(Path(sys.executable).parent / "slipway"))
START_TIMEOUT_S = 90
QUIET = "--log-level error --no-access-log --loop uvloop --http httptools"
UVICORN = f"{HOME}/fastapi/bin/uvicorn {{}}:app --port {PORT} {QUIET}"
SERVE = f"{SLIPWAY} serve {{}} --port {PORT} --admin-port 0"


class Server(NamedTuple):
    """How a server is started and what it is asked."""

    command: str
    path: str = "/predict"
    body: str = "body.json"
    env: Mapping[str, str] = {}


SERVERS = {
    "asgi-hello": Server(UVICORN.format("asgi_bare"), env={"BENCH_MODE": "hello"}),
    "asgi-bare": Server(UVICORN.format("asgi_bare")),
    "slipway": Server(SERVE.format(HERE / "service")),
    "slipway-off": Server(SERVE.format(HOME / "service-off")),
    "slipway-pool": Server(SERVE.format(HOME / "service-pool")),
    "fastapi": Server(UVICORN.format("fastapi_hand")),
    "litestar": Server(UVICORN.format("litestar_hand")),
    "bentoml": Server(f"{HOME}/bento/bin/bentoml serve bento_svc:Churn --port {PORT}", body="bento.json"),
    "bentoml-batch": Server(
        f"{HOME}/bento/bin/bentoml serve bento_svc:Churn --port {PORT}", "/score", "bento_batch.json"
    ),
    "litserve-batch": Server(f"{HOME}/litserve/bin/python litserve_svc.py", env={"BENCH_BATCH": "64"}),
    "mlserver-batch": Server(
        f"{HOME}/mlserver/bin/mlserver start ml",
        "/v2/models/churn/infer",
        "v2.json",
        {"PYTHONPATH": f"{HERE}/peers:{HERE}/peers/ml"},
    ),
    "ray-batch": Server(f"{HOME}/ray/bin/python ray_svc.py", "/", env={"RAY_USAGE_STATS_ENABLED": "0"}),
}


ACCEL = {
    "asgi-hello": SERVERS["asgi-hello"],
    "slipway": Server(SERVE.format(HERE / "accel")),
    **{name: SERVERS[name] for name in ("bentoml-batch", "litserve-batch", "mlserver-batch", "ray-batch")},
}
"""Who runs the stand-in for an accelerator; `asgi-hello` runs no model and gives the turnaround of the HTTP stack."""


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
        for line in measured(name, servers[name], options):
            failed |= "did not start" in line
            print(line, flush=True)
    return int(failed)


def machine() -> str:
    """The machine in one line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = cpu[1] if cpu else "?"
    return f"{name} · {os.cpu_count()} cores · {platform.platform()} · Python {platform.python_version()}"


def measured(name: str, server: Server, options: argparse.Namespace) -> Iterator[str]:
    """One line per number of connections."""
    while socket.socket().connect_ex(("127.0.0.1", PORT)) == 0:
        time.sleep(0.2)
    body = (HOME / server.body).read_bytes()
    url = f"http://127.0.0.1:{PORT}{server.path}"
    started = time.monotonic()
    process = start(name, server, pinned=not options.no_pin)
    try:
        error = wait_for(url, body)
        start_s = time.monotonic() - started
        if error:
            yield f"{name:<16} did not start: {error}; see {HOME / name}.log"
            return
        script = HOME / f"{name}.lua"
        script.write_text(
            f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body=[==[{body.decode()}]==]\n"
        )
        for connections in options.conns.split(","):
            runs = [load(process.pid, script, url, connections, options) for _ in range(options.reps)]
            run = sorted(runs)[len(runs) // 2]
            yield (
                f"{name:<16}{connections:>6}{run.requests_s:>9.0f}{run.p50_ms:>9.2f}{run.p99_ms:>9.2f}{run.bad:>6}"
                f"{run.cpu_us:>11.0f}{run.pss_mib:>9}{start_s:>9.1f}"
            )
    finally:
        stop(process.pid)


def start(name: str, server: Server, *, pinned: bool) -> "subprocess.Popen[bytes]":
    """The server in a session of its own, on core 0 when pinned."""
    env = {**os.environ, "PYTHONPATH": f"{HERE}/peers", "BENCH_DIR": str(HOME), "OMP_NUM_THREADS": "1"}
    env |= {"BENTOML_DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore", **server.env}
    pin = ["taskset", "-c", "0"] if pinned else []
    with (HOME / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [*pin, *shlex.split(server.command)],
            cwd=HERE / "peers",
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_for(url: str, body: bytes) -> str | None:
    """None as soon as one request is answered with 200, else why not."""
    error = "nothing listens"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310  # loopback
            urllib.request.urlopen(request, timeout=5).read()  # noqa: S310  # loopback
        except (urllib.error.URLError, OSError) as reason:
            error = str(reason)
            time.sleep(0.05)
        else:
            return None
    return error


def load(pid: int, script: Path, url: str, connections: str, options: argparse.Namespace) -> Load:
    """One warm-up and one measured run of wrk."""
    pin = [] if options.no_pin else ["taskset", "-c", "1"]
    wrk = [*pin, "wrk", "-t1", f"-c{connections}", "--latency", "-s", str(script), url]
    subprocess.run([*wrk, f"-d{options.wait}s"], capture_output=True, check=False)
    before = cpu_s(pid)
    report = subprocess.run([*wrk, f"-d{options.secs}s"], capture_output=True, text=True, check=True).stdout
    used = cpu_s(pid) - before
    requests = int(found(r"(\d+) requests in", report))
    bad = int(found(r"Non-2xx or 3xx responses: (\d+)", report))
    bad += sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", report))
    p50, p99 = (milliseconds(found(rf"(?m)^\s+{q}%\s+(\S+)", report)) for q in (50, 99))
    rate = float(found(r"Requests/sec:\s+([\d.]+)", report))
    return Load(rate, p50, p99, bad, used / max(requests, 1) * 1e6, pss_mib(pid))


def found(pattern: str, report: str) -> str:
    """The group, or `0` when wrk did not print it."""
    match = re.search(pattern, report)
    return match[1] if match else "0"


def milliseconds(text: str) -> float:
    """wrk's `1.23ms`, `850.00us`, `1.20s` as a number."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)?", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, None: 1.0}[unit]


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants, also those that made a session of their own."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """Processor seconds of the tree."""
    ticks = 0
    for process in tree(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> int:
    """Proportional set size of the tree."""
    total = 0
    for process in tree(pid):
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(found(r"Pss:\s+(\d+)", rollup))
    return total // 1024


def stop(pid: int) -> None:
    """End what this run started, and wait until it is gone."""
    mine = list(tree(pid))
    for number, wait_s in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0)):
        for process in mine:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and any(is_alive(process) for process in mine):
            time.sleep(0.1)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].lstrip().startswith("Z")
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
