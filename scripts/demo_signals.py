"""The demo's signals: a bad release in front of a real Prometheus, the page it causes, and how a rollback ends it.

The release is built and swapped in by the real commands; the rules are those of `slo.yaml` with every window divided by
`SCALE`, so that an hour takes 30 s. It asserts nothing about the service. The invariants: without Prometheus and
Alertmanager the demo says so in one line and goes on; what is started here ends with the demo, whatever kills it.
"""

import contextlib
import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from demo_folders import scratch
from demo_release import Production
from demo_screen import ROOT, SLIPWAY, StepFailedError, Teller, run_step, step_line
from demo_server import Server, port_or_any
from demo_traffic import Customers
from monitoring import Monitoring, MonitoringError, Running, Sink, eventually

from slipway_signals.slo.compile import compile_all
from slipway_signals.slo.openslo import load_slos
from slipway_signals.slo.promrules import Timing

STEP: Final = 7
SERVICE: Final = "services/churn"
SCALE: Final = 120
CONSOLE_PORT: Final = 8900
WAIT_S: Final = 45.0
"""For each thing that must happen; all of them take seconds."""
ALERT: Final = "SlipwaySLOFastBurn"
SLO: Final = "churn-availability"
CALM: Final = "Nobody is hurt"
"""What the console's first page says when no objective burns."""
DIGEST_SHOWN: Final = 12
SCRAPE_S: Final = 0.25
SCRAPED: Final = 'up{service="churn"} == 1'
RULED: Final = """
slipway:slo_errors:ratio_rate5m{slo="churn-availability"} == 0
and on () prometheus_notifications_alertmanagers_discovered == 1
"""
"""There once the objectives are judged, and somebody would be told: Prometheus looks for Alertmanager every 5 s."""
MISTAKE: Final = '''
# Released by the demo, {token}.

@predict.compute
def score(weights: Weights, batch: Arrays) -> Arrays:
    """The mistake of this release; no golden example has such a row."""
    if ((batch["support_calls"] == 3) | (batch["support_calls"] == 4)).any():
        raise KeyError("no discount for customers who called three or four times")
    return {{"churn_probability": weights(batch)["probability"]}}
'''
"""`token` makes each demo's release its own: two at once share a store."""


@dataclass
class Watch:
    """What watches the server."""

    monitoring: Monitoring
    sink: Sink
    rules: Mapping[str, str]
    """Not loaded before there is a server to scrape: without one they would tell that it is down."""

    console_url: str | None
    """None: the console did not start."""


@dataclass
class Story:
    """What happened: seconds after the first customer got an error, and words."""

    began: float
    lines: list[tuple[float, str]] = field(default_factory=list)

    def tell(self, what: str, at: float | None = None) -> None:
        """It happened, at this moment (monotonic seconds) or now."""
        self.lines.append(((time.monotonic() if at is None else at) - self.began, what))


@contextlib.contextmanager
def watching(teller: Teller) -> Iterator[Watch | None]:
    """Prometheus, Alertmanager and the console, for the length of the block; None where they cannot be had."""
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(scratch())
        watch = None
        try:
            with contextlib.ExitStack() as undo:
                watch = _start(teller, folder, undo)
                opened.push(undo.pop_all())
        except MonitoringError as error:
            why, *more = str(error).splitlines()
            teller.line(f"      no alert is shown: {why.rstrip(':')}{': ' + more[-1] if more else ''}")
        yield watch


def _start(teller: Teller, folder: Path, opened: contextlib.ExitStack) -> Watch:
    """All three, begun beside each other."""
    teller.live(step_line(STEP, "alert", "starting Prometheus"))
    sink = Sink()
    opened.callback(sink.close)
    objectives = load_slos(ROOT / SERVICE / "slo.yaml")
    files = compile_all([objectives], timing=Timing(SCALE), webhook=sink.url)
    rules = {name: text for name, text in files.items() if name.startswith("rules/")}
    others = {name: text for name, text in files.items() if name not in rules}
    monitoring = Monitoring(
        folder / "monitoring", others, {}, scale=SCALE, scrape_s=SCRAPE_S, resend_s=1, is_guarded=True
    )
    port = port_or_any(teller, CONSOLE_PORT)
    console = _console(monitoring, folder / "console.log", port)
    opened.callback(console.kill)
    opened.enter_context(monitoring)
    url = _address(console)
    if url is None and port:  # another demo was quicker
        console = _console(monitoring, folder / "console-again.log", 0)
        opened.callback(console.kill)
        url = _address(console)
    if url is None:
        teller.line(f"      no console: {console.tail(1)}")
    return Watch(monitoring, sink, rules, url)


def _console(monitoring: Monitoring, log: Path, port: int) -> Running:
    command = [*SLIPWAY, "console", "--prometheus", monitoring.url, "--alertmanager", monitoring.alertmanager_url]
    return Running([*command, "--port", str(port)], log, is_guarded=True, cwd=ROOT)


def _address(console: Running) -> str | None:
    """Where the console says that it is; None when it ended."""
    found: list[str] = []

    def is_told() -> bool:
        found[:] = re.findall(r"^http://\S+$", console.tail(), re.MULTILINE)
        return bool(found) or console.process.poll() is not None

    eventually(is_told, WAIT_S)
    return found[0].rstrip("/") if found else None


def show_alert(
    teller: Teller, watch: Watch, server: Server, production: Production, ref: str, customers: Customers
) -> list[str]:
    """Release the mistake, wait for the page, roll back, wait for the end; what happened, as lines.

    Args:
        teller: Told what is being waited for.
        watch: What watches.
        server: Serves `ref`.
        production: Where releases are delivered to.
        ref: The good release, by digest.
        customers: Ask `server`; none of them got an error yet.

    Raises:
        StepFailedError: Something that must happen did not.
    """
    watch.monitoring.retarget({"churn": [f"127.0.0.1:{server.admin_port}"]})  # what came before is no alert's business
    _wait(teller, watch, "the first scrape", lambda: _has(watch, SCRAPED))
    try:
        watch.monitoring.judge_by(watch.rules)
    except (MonitoringError, httpx.HTTPError) as error:
        raise _failed(watch, "the rules") from error
    bad, digest = _build_bad()
    try:
        delivered = production.deliver(bad, digest)
        _wait(teller, watch, "the objectives to be judged", lambda: _has(watch, RULED))
        if watch.console_url is not None:
            teller.line(f"      a bad release is on its way; watch it at {watch.console_url}/")
        with ThreadPoolExecutor(1) as beside:  # the first errors come before the last worker is replaced
            swapping = beside.submit(_swap, server, production, delivered)
            _wait(teller, watch, "the first error", lambda: customers.first_error is not None)
            story = Story(customers.first_error or 0.0)
            _see_it(teller, watch, story, digest)
            swapping.result()
        _swap(server, production, ref)
        story.tell(f"rolled back: slipway swap {ref[:25]}…")
        _wait(teller, watch, "the page to resolve", lambda: _is_resolved(watch))
        story.tell("resolved, says Alertmanager")
        if watch.console_url is not None:
            _wait(teller, watch, "the console", lambda: CALM in _page(watch))
            story.tell("resolved, says the console")
    finally:
        _forget(bad)
    failed = sum(count for status, count in customers.answered.items() if status >= 500 or status == 0)
    told = [f"{after:5.1f} s  {what}" for after, what in [(0.0, "a customer gets an error"), *story.lines]]
    return [*told, f"{failed} of {customers.answered.total()} customers got an error"]


def _see_it(teller: Teller, watch: Watch, story: Story, digest: str) -> None:
    """The page as on-call gets it, and the console that names the objective and the release."""
    teller.live(step_line(STEP, "alert", "waiting for the page"))
    found = watch.sink.find({"alertname": ALERT, "slo": SLO}, "firing", WAIT_S)
    if found is None:
        raise _failed(watch, "the page")
    notification, alert = found
    whom = notification.receiver.removeprefix("/").replace("/", " to ")
    story.tell(f"{whom}: {ALERT}, {alert['annotations']['summary']}", notification.at)
    if watch.console_url is not None:
        release = digest.removeprefix("sha256:")[:DIGEST_SHOWN]
        _wait(teller, watch, "the console", lambda: all(word in _page(watch) for word in (ALERT, SLO, release)))
        story.tell(f"the console names {SLO} and the release, {release}")


def _build_bad() -> tuple[str, str]:
    """The release with the mistake, out of a copy of the service; its reference and its digest."""
    with scratch() as beside:
        folder = beside / "churn"
        shutil.copytree(ROOT / SERVICE, folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        shutil.copy(ROOT / "requirements.lock", beside)
        code = folder / "src" / "churn_service" / "service.py"
        text = code.read_text("utf-8").replace("import Service", "import Arrays, Service, Weights")
        code.write_text(text + MISTAKE.format(token=uuid.uuid4()), "utf-8")
        built = json.loads(run_step("alert", [*SLIPWAY, "bundle", "build", str(folder), "--json"]))
        return built["ref"], built["digest"]


def _swap(server: Server, production: Production, ref: str) -> None:
    admin = f"http://127.0.0.1:{server.admin_port}"
    run_step("alert", [*SLIPWAY, "swap", ref, "--admin", admin], production.home)


def _forget(ref: str) -> None:
    """Takes the bad release off the store's list; where that fails, it stays there, which harms nobody."""
    subprocess.run([*SLIPWAY, "bundle", "rm", ref], cwd=ROOT, capture_output=True, check=False, timeout=WAIT_S)


def _has(watch: Watch, promql: str) -> bool:
    """Whether it has a series; no, while Prometheus does not answer."""
    with contextlib.suppress(MonitoringError, httpx.HTTPError):
        return bool(watch.monitoring.query(promql))
    return False


def _is_resolved(watch: Watch) -> bool:
    """Whether the last message of each page says that it is over."""
    pages = {one.receiver: one.body["status"] for one in watch.sink.received() if one.receiver.startswith("/page/")}
    return all(status == "resolved" for status in pages.values())


def _page(watch: Watch) -> str:
    """The console's first page; empty when it does not answer in time."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{watch.console_url}/", timeout=5).text
    return ""


def _wait(teller: Teller, watch: Watch, what: str, claim: Callable[[], bool]) -> None:
    """Until it is so. Raises StepFailedError after WAIT_S."""
    teller.live(step_line(STEP, "alert", f"waiting for {what}"))
    if not eventually(claim, WAIT_S):
        raise _failed(watch, what)


def _failed(watch: Watch, what: str) -> StepFailedError:
    running = watch.monitoring.prometheus
    said = "" if running is None else running.tail(6)
    return StepFailedError(f"{what} did not come within {WAIT_S:.0f} s", said, ("make", "demo"))
