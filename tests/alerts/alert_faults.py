"""Faults for live tests of alerts: a service that misbehaves as it is told, callers, and the order of events.

The service is served by real processes; what a row asks for happens in them. A `Story` lets the faults of a module
happen one after another, so that one stack serves many alerts, and remembers what was heard too early.
"""

import http.client
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from alert_stack import AlertStack, eventually
from serve_folders import train
from serve_process import Served
from slo_files import AVAILABILITY, LATENCY, read

from slipway_signals.slo.model import ServiceSlos
from slipway_signals.slo.panels import panel_url

ROOT = Path(__file__).resolve().parents[2]

SERVICE = '''"""Does what its rows and the files in MOODY_FAULTS say."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct
from slipway_serve import Arrays, Service, Weights
from slipway_serve.upstream import Upstream

FAULTS = Path(os.environ["MOODY_FAULTS"])
FINE, DIE, RAISE, SLOW, HOLD = 0.0, 1.0, 3.0, 4.0, 5.0
computed = []


class Row(Struct, frozen=True):
    """A number, and what to do."""

    tenure_days: float
    mean_charge: float
    action: float


class Answer(Struct, frozen=True):
    """The model's margin."""

    margin: float


class Wish(Struct, frozen=True):
    """fine, error, slow, or neighbour."""

    wish: str


class Said(Struct, frozen=True):
    """What was done."""

    done: str


class Neighbour(Struct, frozen=True):
    """Where the next service is."""

    url: str


@asynccontextmanager
async def connect(settings: Neighbour) -> AsyncIterator[Upstream]:
    """The next service."""
    async with Upstream(settings.url, name="neighbour") as upstream:
        yield upstream


service = Service("moody")
score = service.model("moody", Row, Answer, path="/score", slo="interactive")
neighbour = service.resource("neighbour", connect)


@score.compute
def obey(weights: Weights, batch: Arrays) -> Arrays:
    """Die, raise, or answer; the first batch of a process is its proof that it has loaded."""
    if not computed:
        computed.append(True)
        if (FAULTS / "no-load").exists():
            raise ValueError("told not to load")
        if (FAULTS / "slow-load").exists():
            time.sleep(11)
    actions = np.asarray(batch["action"])
    if (actions == DIE).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (actions == RAISE).any():
        raise ValueError("told to raise")
    if (actions == SLOW).any():
        time.sleep(0.1)
    if (actions == HOLD).any():
        sum(range(40_000_000))  # one call in C: for half a second no other thread of the process gets the interpreter
    return {"margin": np.asarray(batch["tenure_days"]) * 2}


@service.endpoint("/predict", slo="interactive")
async def predict(wish: Wish) -> Said:
    """Answer, in time or late; or fail."""
    match wish.wish:
        case "error":
            raise RuntimeError("told to fail")
        case "slow":
            await asyncio.sleep(0.3)
        case "neighbour":
            await neighbour().get("/")
    return Said(wish.wish)
'''

CONFIG = """entry = "moody_service:service"

[bundle.models.moody]
file = "model/model.ubj"
format = "xgboost"

[runtime.resources.neighbour]
url = "{neighbour}"
"""
NOBODY = "http://127.0.0.1:9"
StoryStack = partial(AlertStack, down_s=20)
"""So long no story's service is away. Who is told of other faults must not be told of this one: it mutes them all."""


def moody_slos(target: str = "0.99", within_s: str = "0.1") -> ServiceSlos:
    """What the service promises: so many calls of `/predict` are answered, and as many of these within that."""
    route = 'http_route="/predict"'
    availability = AVAILABILITY.replace("_count{", f"_count{{{route},").replace("_count'", f"_count{{{route}}}'")
    latency = LATENCY.replace("_bucket{", f"_bucket{{{route},").replace("_count'", f"_count{{{route}}}'")
    text = f"{availability}---\n{latency}".replace("churn", "moody")
    return read(text.replace("0.999", target).replace("0.99", target).replace('le="0.05"', f'le="{within_s}"'))


def write_moody(folder: Path, runtime: str = "", neighbour: str = NOBODY) -> Path:
    """The service's folder, with these `[runtime]` tables."""
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True)
    (folder / "faults").mkdir()
    (folder / "src" / "moody_service.py").write_text(SERVICE)
    (folder / "slipway.toml").write_text(CONFIG.format(neighbour=neighbour) + runtime)
    return folder


def environment_of(folder: Path) -> dict[str, str]:
    """What the service's processes must be told."""
    return {"MOODY_FAULTS": str(folder / "faults")}


def children(served: Served, module: str) -> list[psutil.Process]:
    """The living processes of one kind: `worker`, `runner`, `dispatch`."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(served.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if f"slipway_serve.{module}" in process.cmdline():
                    found.append(process)
    return found


def kill(served: Served, module: str) -> None:
    """Kill -9 all processes of a kind."""
    for process in children(served, module):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def address_of(url: str) -> str:
    """`127.0.0.1:9000` of a URL."""
    return url.removeprefix("http://")


class Traffic:
    """Callers that ask one after another, at a rate; what they ask may be changed at any time.

    Args:
        url: Of the server.
        ask: From the number of the request to its path and its body.
        rate: Requests a second of all callers, at most.
        clients: How many callers.
        patience_ms: Deadline of each request.
    """

    def __init__(
        self,
        url: str,
        ask: Callable[[int], tuple[str, Mapping[str, object]]],
        *,
        rate: float = 50,
        clients: int = 4,
        patience_ms: float = 2_000,
    ) -> None:
        self.ask, self.rate = ask, rate
        self.statuses: Counter[int] = Counter()
        self._address = address_of(url)
        self._headers = {"content-type": "application/json", "x-slipway-timeout-ms": str(patience_ms)}
        self._number = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(clients, place / rate), daemon=True) for place in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask nothing more; waits for the last answers."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, clients: int, after_s: float) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        due = time.monotonic() + after_s
        while not self._is_over.wait(max(0.0, due - time.monotonic())):
            due = max(due + clients / self.rate, time.monotonic() - 0.5)
            with self._lock:
                number, self._number = self._number, self._number + 1
            path, body = self.ask(number)
            headers = {**self._headers, "x-request-id": f"n{number}"}
            try:
                connection.request("POST", path, json.dumps(body), headers)
                reply = connection.getresponse()
                reply.read()
                self.statuses[reply.status] += 1
            except (OSError, http.client.HTTPException):
                self.statuses[0] += 1
                connection.close()
        connection.close()


@contextmanager
def traffic(url: str, ask: Callable[[int], tuple[str, Mapping[str, object]]], **options: Any) -> Iterator[Traffic]:
    """`Traffic` for the length of a `with` block."""
    callers = Traffic(url, ask, **options)
    try:
        yield callers
    finally:
        callers.stop()


def wish(what: str) -> tuple[str, dict[str, object]]:
    """A call of `/predict`."""
    return "/predict", {"wish": what}


def row(action: float = 0.0, tenure_days: float = 4.0) -> tuple[str, dict[str, object]]:
    """A call of `/score`."""
    return "/score", {"tenure_days": tenure_days, "mean_charge": 1.0, "action": action}


class Story:
    """Faults in their order, and what fired before its fault.

    It asserts nothing while it goes on: each alert has a test of its own.
    """

    def __init__(self, stack: AlertStack) -> None:
        self.stack = stack
        self.early: set[str] = set()
        self._begun: dict[str, int] = {}

    def heard(self, name: str) -> list[str]:
        """What the webhook was told of the alert since its fault began: `firing`, `resolved`.

        The alert is a name, or a name and an objective (`NAME/OBJECTIVE`).
        """
        alerts = [alert for one in self.stack.received()[self._begun.get(name, 0) :] for alert in one.alerts]
        return [alert["status"] for alert in alerts if wanted(name).items() <= alert["labels"].items()]

    def fault(self, names: Sequence[str], begin: Callable[[], object], timeout_s: float = 60) -> None:
        """Note which are heard already, begin, and wait until all are heard."""
        self.silent(names)
        begin()
        self.hear(names, timeout_s)

    def silent(self, names: Sequence[str]) -> None:
        """Note which fire already; what is heard from now on counts."""
        self.early |= {name for name in names if self.heard(name)[-1:] == ["firing"]}
        self._begun |= dict.fromkeys(names, len(self.stack.received()))

    def quiet(self, names: Sequence[str], timeout_s: float = 60) -> None:
        """Wait until none fires, or the time is over."""
        eventually(lambda: all(self.heard(name)[-1:] != ["firing"] for name in names), timeout_s)

    def hear(self, names: Sequence[str], timeout_s: float = 60) -> None:
        """Wait until all are heard, or the time is over."""
        eventually(lambda: all("firing" in self.heard(name) for name in names), timeout_s)

    def check(self, name: str, severity: str, resolve_s: float = 90) -> dict[str, Any]:
        """The alert came by its fault, says all it must, and resolved; returns it as it fired."""
        assert name not in self.early, f"{name} came before its fault\n{self.stack.said()}"
        begun = self._begun[name]
        fired = self.stack.wait_for(**wanted(name), status="firing", timeout=1, after=begun)
        assert_told(fired, severity)
        self.stack.wait_for(**wanted(name), status="resolved", timeout=resolve_s, after=begun)
        return fired


def wanted(name: str) -> dict[str, str]:
    """Labels of `NAME` or `NAME/OBJECTIVE`."""
    alert, _, slo = name.partition("/")
    return {"alertname": alert} | ({"slo": slo} if slo else {})


def assert_told(alert: Mapping[str, Any], severity: str) -> None:
    """Severity, owner, service; words with a number; pages that exist."""
    labels, words = alert["labels"], alert["annotations"]
    assert labels["severity"] == severity
    assert alert["receiver"] == f"/{severity}/{labels['owner']}"
    assert labels["service"]
    assert re.search(r"\d", words["summary"]), words["summary"]
    assert re.search(r"\d", words["description"]) or "minute" in words["description"], words["description"]
    assert not re.search(r"<no value>|\bNaN\b|[+-]Inf\b|error expanding|\{\{", " ".join(words.values())), words
    assert (ROOT / words["runbook_url"]).is_file()
    assert words["runbook_url"] == f"runbooks/{labels['alertname']}.md"
    assert words["dashboard_url"] == panel_url(labels["alertname"], labels["service"])
