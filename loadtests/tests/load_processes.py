"""Real parts for tests of load: a small HTTP server that misbehaves on purpose, and load processes.

Locust is never imported here: it patches sockets. It runs in a process of its own, as it does for users.
"""

import json
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec

from slipway_signals.gate.load_plan import LoadPlan, encode_plan
from slipway_signals.gate.records import Window, decode_window

RUN_S = 60.0


@dataclass
class Answered:
    """How one request is answered."""

    status: int = 200
    body: bytes = b'{"score": 0.5, "label": "yes"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False


@dataclass
class Server:
    """A running server, and what it saw."""

    url: str
    seen: list[tuple[str, Mapping[str, str], bytes]]


@contextmanager
def server(
    answer: Callable[[int, bytes], Answered] = lambda number, body: Answered(), tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A threaded HTTP server; `answer` is given the number of the request, from 0, and its body."""
    seen: list[tuple[str, Mapping[str, str], bytes]] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            number = len(seen)
            seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            reply = answer(number, body)
            if reply.hangs:
                over.wait(RUN_S)
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            return

    class Threads(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 512

        def finish_request(self, request: Any, client_address: Any) -> None:
            if tls is None:
                super().finish_request(request, client_address)
                return
            with suppress(OSError), tls.wrap_socket(request, server_side=True) as wrapped:  # who trusts us not is gone
                super().finish_request(wrapped, client_address)

    with Threads(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Server(f"{'http' if tls is None else 'https'}://127.0.0.1:{running.server_address[1]}", seen)
        over.set()
        running.shutdown()
        thread.join()


def inputs(folder: Path, *lines: object) -> dict[str, str]:
    """`payloads` of a scenario that sends these values."""
    path = folder / "inputs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines or ({"x": 1.0},)))
    return {"source": "file", "path": str(path)}


def plan_of(folder: Path, arms: Mapping[str, str], **changes: Any) -> LoadPlan:
    """A short plan whose inputs come from a file."""
    raw: dict[str, Any] = {
        "arms": {arm: {"url": url} for arm, url in arms.items()},
        "scenarios": changes.pop("scenarios", None) or [{"payloads": inputs(folder)}],
        "rate": 100.0,
        "seconds": 1.5,
        "warm_up_s": 0.0,
        "window_s": 0.5,
        "timeout_s": 2.0,
        **changes,
    }
    return msgspec.convert(raw, LoadPlan)


@dataclass
class Ran:
    """What a load process did."""

    status: int
    windows: list[Window]
    said: str

    @property
    def error(self) -> dict[str, Any]:
        """The error that it ended with."""
        found: dict[str, Any] = json.loads(self.said.strip().splitlines()[-1])["error"]
        return found


def command(plan: LoadPlan | Path, folder: Path, verb: str, *more: str) -> list[str]:
    """The command line of a load process."""
    path = plan if isinstance(plan, Path) else folder / "plan.json"
    if not isinstance(plan, Path):
        path.write_bytes(encode_plan(plan))
    return [sys.executable, "-m", "slipway_loadtests", verb, "--plan", str(path), "--windows", "-", *more]


def run(plan: LoadPlan | Path, folder: Path, verb: str = "run", *more: str) -> Ran:
    """A load process from its beginning to its end."""
    done = subprocess.run(command(plan, folder, verb, *more), capture_output=True, timeout=RUN_S, check=False)
    return Ran(done.returncode, [decode_window(line) for line in done.stdout.splitlines()], done.stderr.decode())


def until(is_true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        threading.Event().wait(0.02)
