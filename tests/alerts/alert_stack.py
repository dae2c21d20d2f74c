"""A real Prometheus and a real Alertmanager around the compiled rules, with a sink for what they send.

`scripts/monitoring.py` starts them; this adds what a test asks. Nothing is judged here. The rules are those of
`observability/`, with every window and wait divided by `scale`; whoever scrapes slower than twice in `1m / scale` sees
nothing.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from monitoring import ALERTMANAGERS, PROMETHEUS, Monitoring, Notification, Running, Sink, eventually, free_port

from slipway_signals.slo.compile import compile_all
from slipway_signals.slo.model import ServiceSlos
from slipway_signals.slo.promrules import Timing

ALERTMANAGER = ALERTMANAGERS[0]
DOWN = re.compile(r"(- alert: SlipwayServiceDown\n.*\n +for: )\w+")

__all__ = [
    "ALERTMANAGER",
    "PROMETHEUS",
    "AlertStack",
    "Notification",
    "Page",
    "Running",
    "Sink",
    "eventually",
    "free_port",
    "metrics_page",
]


class AlertStack(Monitoring):
    """Prometheus, Alertmanager and the sink; a context manager.

    Args:
        folder: For configuration, data and logs; made when it is not there.
        services: Whose objectives are compiled; the alerts of the monitoring come with them.
        targets: By service, the addresses (`127.0.0.1:9000`) that are scraped at `/metrics` with the label `service`.
        scale: Every window and wait of the rules is divided by it.
        scrape_s: Seconds between scrapes; at most half of `60 / scale`.
        history: OpenMetrics text with timestamps that Prometheus finds in its store when it starts.
        resend_s: Seconds until Prometheus tells Alertmanager the same again; in earnest it is a minute.
        down_s: Seconds without a scrape until a service is down; None: a minute divided by `scale`. So soon a busy
            machine is late, and what ends while its service is down is never told as resolved (alertmanager#2754).
    """

    def __init__(
        self,
        folder: Path,
        services: Sequence[ServiceSlos],
        targets: Mapping[str, Sequence[str]],
        *,
        scale: float = 60,
        scrape_s: float | None = None,
        history: str | None = None,
        resend_s: float = 5,
        down_s: int | None = None,
    ) -> None:
        self.sink = Sink()
        files = compile_all(services, timing=Timing(scale), webhook=self.sink.url)
        if down_s is not None:
            assert any(DOWN.search(text) for text in files.values())
            files = {name: DOWN.sub(rf"\g<1>{down_s}s", text) for name, text in files.items()}
        super().__init__(folder, files, targets, scale=scale, scrape_s=scrape_s, history=history, resend_s=resend_s)

    def close(self) -> None:
        """Kill all of it; idempotent."""
        super().close()
        self.sink.close()

    def until(self, promql: str, timeout_s: float = 60) -> list[tuple[dict[str, str], float]]:
        """Ask again and again until the vector has a series; raises AssertionError after `timeout_s`."""
        found: list[tuple[dict[str, str], float]] = []

        def is_there() -> bool:
            found[:] = self.query(promql)
            return bool(found)

        if not eventually(is_there, timeout_s):
            raise AssertionError(f"{promql} had no value within {timeout_s:g} s\n{self.said()}")
        return found

    def received(self) -> list[Notification]:
        """Every message so far, in the order of arrival."""
        return self.sink.received()

    def wait_for(
        self, alertname: str, status: str = "firing", timeout: float = 60, *, after: int = 0, **labels: str
    ) -> dict[str, Any]:
        """The alert as the webhook got it, as soon as it got it.

        Args:
            alertname: Of the alert.
            status: `firing` or `resolved`.
            timeout: Seconds; then AssertionError, with what was heard and what the logs say.
            after: How many messages to skip: `len(stack.received())` at some moment.
            labels: Which the alert must have.
        """
        wanted = {"alertname": alertname, **labels}
        found = self.sink.find(wanted, status, timeout, after=after)
        if found is None:
            raise AssertionError(f"{wanted} was not {status} within {timeout:g} s\n{self.said()}")
        return {**found[1], "receiver": found[0].receiver}

    def said(self) -> str:
        """What was heard, which alerts hold, and the ends of the logs."""
        heard = [f"  {one.receiver} {_line(alert)}" for one in self.received() for alert in one.alerts]
        with suppress(httpx.HTTPError):
            heard += [f"  holds: {labels}" for labels, _ in self.query("ALERTS")]
        running = [one for one in (self.prometheus, self.alertmanager) if one is not None]
        return "\n".join(["heard:", *heard, *(f"{one.log.name}:\n{one.tail()}" for one in running)])


class Page:
    """`/metrics` over HTTP with the text that is in `text`, or that it makes, for what cannot run here."""

    def __init__(self, text: str | Callable[[], str] = "") -> None:
        self.text = text
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = page.text() if callable(page.text) else page.text
                body = text.encode(errors="surrogateescape")  # so that a text can hold what is none
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"


@contextmanager
def metrics_page(text: str | Callable[[], str] = "") -> Iterator[Page]:
    """A `Page` for the length of a `with` block; change its `text` at any time."""
    page = Page(text)
    thread = threading.Thread(target=page.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield page
    finally:
        page.server.shutdown()
        page.server.server_close()
        thread.join()


def _line(alert: Mapping[str, Any]) -> str:
    labels = alert["labels"]
    return f"{alert['status']:<8} {labels['alertname']} {labels.get('service')}: {alert['annotations'].get('summary')}"
