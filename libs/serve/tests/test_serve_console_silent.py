"""A Prometheus that is down, slow, or something else: every page says so in a sentence, and soon."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from console_world import NOBODY, console

from slipway_serve.console.sources import CHART_PATIENCE_S, PATIENCE_S

PAGES = ("/", "/runbooks", "/alerts/SlipwaySLOFastBurn?service=churn", "/dashboards/slipway-oncall")
PANEL = "/api/dashboards/slipway-oncall/panels/1?var-service=churn"


@contextmanager
def answering(body: bytes, status: int = 200, *, never: bool = False) -> Iterator[str]:
    """Something that listens where a Prometheus should be."""
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if never:
                is_over.wait(60)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


LIES = {
    "a page of HTML": (b"<html>Welcome to nginx</html>", 200),
    "an error page": (b"<h1>502 Bad Gateway</h1>", 502),
    "JSON of another kind": (b'{"hello": [1, 2]}', 200),
    "a success without data": (b'{"status": "success"}', 200),
    "half an answer": (b'{"status": "success", "data": {"resultType": "vec', 200),
    "Prometheus refusing": (b'{"status": "error", "errorType": "execution", "error": "query <b>timed</b> out"}', 422),
}


def assert_told(client: httpx.Client) -> None:
    """Every page is a page, none says that all is well, none is a traceback."""
    for path in PAGES:
        reply = client.get(path)
        assert reply.status_code in {200, 502}, path
        assert "Traceback" not in reply.text
        assert "Nobody is hurt" not in reply.text
        assert "<b>timed</b>" not in reply.text
    assert "Nobody can tell: Prometheus gives no answer" in client.get("/").text
    panel = client.get(PANEL)
    assert panel.status_code == 502
    assert panel.json()["error"]["code"] == "prometheus"
    assert panel.json()["error"]["message"]


def test_a_prometheus_that_is_down_is_said_on_every_page() -> None:
    with console(NOBODY) as client:
        assert_told(client)

        assert NOBODY in client.get("/").text
        assert client.get("/runbooks/SlipwaySLOFastBurn").status_code == 200


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_prometheus_is_never_good_news(lie: str) -> None:
    body, status = LIES[lie]
    with answering(body, status) as url, console(url, url) as client:
        assert_told(client)


@pytest.mark.slow
@pytest.mark.e2e
def test_a_prometheus_that_never_answers_costs_a_page_no_more_than_its_patience() -> None:
    with answering(b"", never=True) as url, console(url) as client:
        for path, patience_s in (("/", PATIENCE_S), (PANEL, PATIENCE_S + CHART_PATIENCE_S)):
            began = time.monotonic()

            reply = client.get(path)

            assert "no answer within" in reply.text
            assert time.monotonic() - began < patience_s + 3


def test_an_alertmanager_that_is_down_is_a_notice_and_no_more() -> None:
    with console(NOBODY, NOBODY) as client:
        page = client.get("/").text

    assert "Who was told is not known, and perhaps nobody is" in page
