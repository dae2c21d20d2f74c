"""What a service loses beside its answers: traces nobody takes, captured rows without room, calls asked twice.

An hour takes 30 s. All three faults are there at once, and end at once. Nobody makes Parquet of what was captured,
until the folder is full; who then does so makes room.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from alert_faults import Story, StoryStack, address_of, environment_of, moody_slos, row, traffic, wish, write_moody
from alert_stack import free_port
from serve_process import serving
from upstream_servers import Reply, neighbour

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

RUNTIME = """
[runtime.tracing]
endpoint = "http://127.0.0.1:{collector}"
ratio = 1.0

[runtime.capture]
enabled = true
folder = "{folder}"
rate = 1.0
max_bytes = 1_000_000
segment_s = 1.0
compact_s = 100_000.0
"""
FIRES = ["SlipwayTelemetryDropped", "SlipwayCaptureIncomplete", "SlipwayRetryStorm"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("pipelines")
    port = free_port()
    runtime = RUNTIME.format(collector=port, folder=folder / "captured")
    with neighbour() as beside, collector(port) as taken:
        moody = write_moody(folder / "moody", runtime, neighbour=beside.url)
        with (
            serving(moody, store=folder / "store", env=environment_of(moody)) as served,
            StoryStack(folder / "stack", [moody_slos()], {"moody": [address_of(served.admin)]}, scale=120) as stack,
            traffic(served.url, lambda n: row() if n % 2 else wish("neighbour"), rate=20) as callers,
        ):
            story = Story(stack)
            stack.until('sum(increase(slipway_inferences_total{service="moody",result="ok"}[5s])) > 20')

            def begin() -> None:
                taken.shutdown()
                taken.server_close()
                beside.answer = lambda number: Reply(503 if number % 5 == 0 else 200)
                callers.ask = lambda n: many_rows(200) if n % 2 else wish("neighbour")
                callers.rate = 40

            story.fault(FIRES, begin)
            callers.ask = lambda n: row() if n % 2 else wish("neighbour")
            beside.answer = lambda _: Reply()
            compact = [sys.executable, "-m", "slipway_cli", "capture", "compact", "--folder", str(folder / "captured")]
            subprocess.run(compact, check=True, capture_output=True)
            with collector(port):
                yield story


def many_rows(count: int) -> tuple[str, dict[str, object]]:
    """A call of the model over the protocol."""
    fields = ("tenure_days", "mean_charge", "action")
    return "/v2/models/moody/infer", {
        "inputs": [{"name": name, "datatype": "FP32", "shape": [count], "data": [0.0] * count} for name in fields]
    }


@contextmanager
def collector(port: int) -> Iterator[ThreadingHTTPServer]:
    """Takes whatever is POSTed; `shutdown` and `server_close` make the address unreachable."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("name", FIRES)
def test_a_ticket_comes_with_its_fault_and_goes_with_it(story: Story, name: str) -> None:
    fired = story.check(name, "ticket")

    assert fired["labels"]["service"] == "moody"
