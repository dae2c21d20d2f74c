"""The servers that are measured beside each other: how each is started, pinned, watched in /proc, and ended.

It sends no load. The invariant: whatever a run started is ended by it, also after Ctrl-C, also what lost its parent on
the way: `adopt_orphans` makes this process the parent of those. Linux only.
"""

import contextlib
import ctypes
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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
HOME = Path(os.environ.get("BENCH_DIR", HERE / ".bench"))
PORT = 8001
ADMIN_PORT = 8004
"""Ours; 8002 and 8003 are MLServer's."""
SLIPWAY = os.environ.get("BENCH_SLIPWAY", str(Path(sys.executable).parent / "slipway"))
START_TIMEOUT_S = 90
PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h."""
QUIET = "--log-level error --no-access-log --loop uvloop --http httptools"
UVICORN = f"{HOME}/fastapi/bin/uvicorn {{}}:app --port {PORT} {QUIET}"
SERVE = f"{SLIPWAY} serve {{}} --port {PORT} --admin-port {ADMIN_PORT}"
BENTOML = f"{HOME}/bento/bin/bentoml serve"
BENTO = f"{BENTOML} bento_svc:Churn --port {PORT}"


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
    "slipway-watched": Server(SERVE.format(HOME / "service-watched")),
    "slipway-off": Server(SERVE.format(HOME / "service-off")),
    "slipway-pool": Server(SERVE.format(HOME / "service-pool")),
    "fastapi": Server(UVICORN.format("fastapi_hand")),
    "litestar": Server(UVICORN.format("litestar_hand")),
    "bentoml": Server(BENTO, body="bento.json"),
    "bentoml-batch": Server(BENTO, "/score", "bento_batch.json"),
    "litserve-batch": Server(f"{HOME}/litserve/bin/python litserve_svc.py", env={"BENCH_BATCH": "64"}),
    "mlserver-batch": Server(
        f"{HOME}/mlserver/bin/mlserver start ml",
        "/v2/models/churn/infer",
        "v2.json",
        {"PYTHONPATH": f"{HERE}/peers:{HERE}/peers/ml"},
    ),
    "ray-batch": Server(f"{HOME}/ray/bin/python ray_svc.py", "/", env={"RAY_USAGE_STATS_ENABLED": "0"}),
}
PARTS = {
    f"slipway-{part}": Server(SERVE.format(HOME / f"service-{part}"))
    for part in ("drift", "capture", "traces", "unlogged")
}
"""Ours with one part of telemetry on, or without logs (`watched.py`); measured only when they are named."""
ACCEL = {
    "asgi-hello": SERVERS["asgi-hello"],
    "slipway": Server(SERVE.format(HERE / "accel")),
    **{name: SERVERS[name] for name in ("bentoml-batch", "litserve-batch", "mlserver-batch", "ray-batch")},
}
"""Who runs the stand-in for an accelerator; `asgi-hello` runs no model and gives the turnaround of the HTTP stack."""


def machine() -> str:
    """The machine in one line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = cpu[1] if cpu else "?"
    return f"{name} · {os.cpu_count()} cores · {platform.platform()} · Python {platform.python_version()}"


def url_of(server: Server) -> str:
    """Where it is asked."""
    return f"http://127.0.0.1:{PORT}{server.path}"


def wait_for_port() -> None:
    """Blocks until nobody listens on the port any more. Raises TimeoutError."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) != 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"somebody else listens on port {PORT}\nhint: end it, or wait until another run is over")


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


def wait_for(process: "subprocess.Popen[bytes]", url: str, body: bytes, kind: str = "application/json") -> str | None:
    """None as soon as one request is answered with 200, else why not: after 90 s, or when the process has ended."""
    error = "nothing listens"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            ask(url, body, kind)
        except (urllib.error.URLError, OSError) as reason:
            error = str(reason)
            time.sleep(0.05)
        else:
            return None
    return error


def ask(url: str, body: bytes | None = None, kind: str = "application/json", **headers: str) -> bytes:
    """One GET, or a POST where there is a body; 5 s at most. Raises OSError, of which urllib's errors are."""
    request = urllib.request.Request(url, body, {"content-type": kind, **headers})  # noqa: S310  # loopback
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  # loopback
        content: bytes = answer.read()
    return content


def found(pattern: str, report: str) -> str:
    """The group, or `0` when it is not there."""
    match = re.search(pattern, report)
    return match[1] if match else "0"


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants, also those that made a session of their own."""
    yield pid
    try:
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
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


def pss_mib(processes: Iterable[int]) -> int:
    """Proportional set size of some processes together."""
    total = 0
    for process in processes:
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(found(r"Pss:\s+(\d+)", rollup))
    return total // 1024


def adopt_orphans() -> None:
    """From now on a process of ours whose parent died becomes our child, so that `stop_all` finds it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stop(pid: int) -> None:
    """End a process with its tree, and wait until it is gone."""
    end(list(tree(pid)))
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def stop_all() -> None:
    """End every process below this one."""
    end([process for process in tree(os.getpid()) if process != os.getpid()])


def end(processes: list[int], *signals: signal.Signals) -> None:
    """Send each signal and wait until all are gone: SIGTERM, 8 s, SIGKILL, 2 s, unless told otherwise."""
    for number in signals or (signal.SIGTERM, signal.SIGKILL):
        for process in filter(is_alive, processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        deadline = time.monotonic() + (2.0 if number == signal.SIGKILL else 8.0)
        while time.monotonic() < deadline and any(is_alive(process) for process in processes):
            time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].lstrip().startswith("Z")
    except OSError:
        return False
