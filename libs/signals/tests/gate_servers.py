"""Two servers that answer as a test wants: what the gate asks before traffic, and under it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUNDLES = {"stable": "sha256:" + "a" * 64, "candidate": "sha256:" + "b" * 64}


class Arm(ThreadingHTTPServer):
    """One of them: `/predict` doubles `x`; the attributes say what is wrong with it."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, bundle: str, *, takes_s: float = 0.0, adds: float = 0.0, fails: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bundle = bundle
        self.takes_s = takes_s
        self.adds = adds
        self.fails = fails
        self.asked = 0
        self.document: object | None = None
        """What `/openapi.json` says; None: 404."""
        self.headers_seen: list[dict[str, str]] = []
        self.answer: Callable[[Any], object] = lambda row: {"y": 2.0 * row["x"] + self.adds}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def is_failing(self) -> bool:
        """Whether this request fails: evenly spread, so that no test depends on chance."""
        self.asked += 1
        return int(self.asked * self.fails) > int((self.asked - 1) * self.fails)


class _Handler(BaseHTTPRequestHandler):
    server: Arm
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path != "/openapi.json" or self.server.document is None:
            self._say(404, {})
        else:
            self._say(200, self.server.document)

    def do_POST(self) -> None:
        row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.takes_s:
            time.sleep(self.server.takes_s)
        if self.server.is_failing():
            self._say(500, {"message": "no"})
        else:
            self._say(200, self.server.answer(row))

    def _say(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Slipway-Bundle", self.server.bundle)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        """Nothing is logged."""


@contextmanager
def arms(**candidate: float) -> Iterator[tuple[Arm, Arm]]:
    """Stable and a candidate with these faults."""
    both = Arm(BUNDLES["stable"], takes_s=candidate.pop("stable_takes_s", 0.0)), Arm(BUNDLES["candidate"], **candidate)
    threads = [threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True) for one in both]
    for thread in threads:
        thread.start()
    try:
        yield both
    finally:
        for one, thread in zip(both, threads, strict=True):
            one.shutdown()
            thread.join()
            one.server_close()
