"""What the console is tested with: its own process, and a small world that a real Prometheus watches.

The world is one service, `moody`, whose page of metrics counts requests; a test says which share of them fails. The
rules, Prometheus and Alertmanager are real, sixty times as fast as in earnest.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from alert_faults import moody_slos
from alert_stack import AlertStack, eventually, metrics_page

ROOT = Path(__file__).resolve().parents[3]
LAUNCH = """
import json, sys
from pathlib import Path
from slipway_serve.console import ConsoleOptions, serve_console
options = json.loads(sys.argv[1])
folders = {name: Path(options.pop(name)) for name in ("observability", "runbooks")}
sys.exit(serve_console(ConsoleOptions(**{"port": 0, **options, **folders}), lambda url: print(url, flush=True)))
"""
NOBODY = "http://127.0.0.1:9"
DIGEST = "sha256:" + "ab12cd34ef56" * 5 + "abcd"
SERIES = """
http_server_request_duration_seconds_count{{http_request_method="POST",http_route="/predict",http_response_status_code="200"}} {good}
http_server_request_duration_seconds_bucket{{http_request_method="POST",http_route="/predict",http_response_status_code="200",le="0.05"}} {good}
http_server_request_duration_seconds_bucket{{http_request_method="POST",http_route="/predict",http_response_status_code="200",le="0.1"}} {good}
http_server_request_duration_seconds_bucket{{http_request_method="POST",http_route="/predict",http_response_status_code="200",le="+Inf"}} {good}
http_server_request_duration_seconds_count{{http_request_method="POST",http_route="/predict",http_response_status_code="500"}} {bad}
http_server_request_duration_seconds_bucket{{http_request_method="POST",http_route="/predict",http_response_status_code="500",le="+Inf"}} {bad}
slipway_build_info{{version="{version}",digest="{digest}",slipway_version="0.1.0"}} 1
slipway_server_ready 1
slipway_worker_crash_looping{{worker="api-0"}} 0
"""  # noqa: E501  # lines of an exposition cannot be broken
TICK_S = 0.1
PER_TICK = 10


class World:
    """The service as its page of metrics tells it; change `bad_share`, `version` or `digest` at any time."""

    def __init__(self, stack: AlertStack) -> None:
        self.stack = stack
        self.bad_share = 0.0
        self.version, self.digest = "1.2.0", DIGEST


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Prometheus and Alertmanager around a service that counts; its first samples are there."""
    with ExitStack() as open_:
        page = open_.enter_context(metrics_page())
        stack = AlertStack(folder, [moody_slos()], {"moody": [page.address]}, scale=60)
        made = World(stack)
        is_over = threading.Event()

        def count() -> None:
            good = bad = 0.0
            while not is_over.wait(TICK_S):
                good, bad = good + PER_TICK * (1 - made.bad_share), bad + PER_TICK * made.bad_share
                page.text = SERIES.format(good=good, bad=bad, version=made.version, digest=made.digest)

        counter = threading.Thread(target=count, daemon=True)
        counter.start()
        open_.callback(counter.join)
        open_.callback(is_over.set)
        open_.enter_context(stack)
        stack.until('slipway:slo_budget_remaining:ratio{slo="moody-latency"}')
        yield made


@contextmanager
def console(prometheus: str, alertmanager: str | None = None, **options: str | int) -> Iterator[httpx.Client]:
    """`slipway console` as a process of its own; a client whose paths are relative to it."""
    folders = {"observability": str(ROOT / "observability"), "runbooks": str(ROOT / "runbooks")}
    told = json.dumps({"prometheus": prometheus, "alertmanager": alertmanager, **folders, **options})
    with subprocess.Popen([sys.executable, "-c", LAUNCH, told], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http"), f"the console ended: {process.wait(30)}"
            with httpx.Client(base_url=url, timeout=30) as client:
                yield client
        finally:
            process.terminate()
            process.wait(30)
    assert process.returncode == 0


def says(client: httpx.Client, path: str, *words: str, timeout_s: float = 60) -> str:
    """The page as soon as it has all of these words; AssertionError with the page when it never has."""
    page = ""

    def has_them() -> bool:
        nonlocal page
        with contextlib.suppress(httpx.HTTPError):
            page = client.get(path).text
        return all(word in page for word in words)

    assert eventually(has_them, timeout_s), f"{words} are not all in {path}:\n{page}"
    return page


def verdict(client: httpx.Client) -> Mapping[str, object]:
    """What `/api/overview` judges."""
    judged: Mapping[str, object] = client.get("/api/overview").json()["verdict"]
    return judged
