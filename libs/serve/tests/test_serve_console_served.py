"""The console beside a real Prometheus and a real Alertmanager: a fault is named, what is shown is what is asked."""

import time
from collections.abc import Iterator

import httpx
import pytest
from alert_stack import eventually
from console_world import DIGEST, World, console, says, verdict, world

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

PANELS = "/api/dashboards/slipway-oncall/panels"
RULES_S = 2 * 30 / 60 + 20 / 60
"""Two evaluations and a scrape of the world, which is sixty times as fast."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def client(watched: World) -> Iterator[httpx.Client]:
    with console(watched.stack.url, watched.stack.alertmanager_url) as made:
        yield made


def test_a_quiet_service_is_said_to_hurt_nobody_and_its_release_is_told(client: httpx.Client) -> None:
    page = says(client, "/", "Nobody is hurt")

    assert "2 of 2 objectives are met, of moody." in page
    assert DIGEST.removeprefix("sha256:")[:12] in page
    assert "1 target" in page


def test_a_fault_is_named_with_objective_release_and_next_step_and_its_end_is_told(
    watched: World, client: httpx.Client
) -> None:
    watched.bad_share, began = 0.9, time.monotonic()

    said = eventually(lambda: verdict(client)["slo"] == "moody-availability", 30)
    seen_s = time.monotonic() - began

    assert said, verdict(client)
    assert seen_s < RULES_S + 5, "two evaluations and a scrape, and what a busy machine takes"
    page = says(
        client, "/", "Users of moody are hurt", "moody-availability", "Do this first", "told to page-team-moody"
    )
    assert DIGEST.removeprefix("sha256:")[:12] in page
    about = says(client, "/alerts/SlipwaySLOFastBurn?service=moody", "SlipwaySLOFastBurn · firing")
    assert "/predict" in about
    assert "service=&quot;moody&quot;" in about, "queries of the runbook are about this service"

    watched.bad_share = 0.0

    says(client, "/", "SlipwaySLOFastBurn", "it lasted", timeout_s=90)
    assert eventually(lambda: verdict(client)["level"] == "fine", 90), verdict(client)


def test_a_panel_shows_what_prometheus_answers(watched: World, client: httpx.Client) -> None:
    shown = client.get(f"{PANELS}/2", params={"var-service": "moody"}).json()
    asked = watched.stack.query('min(slipway:slo_budget_remaining:ratio{service="moody"})')

    assert shown["kind"] == "stat"
    assert shown["values"][0]["value"] == pytest.approx(asked[0][1], abs=0.05)


def test_a_line_lies_on_the_window_that_was_asked_for(client: httpx.Client) -> None:
    shown = client.get(f"{PANELS}/10", params={"var-service": "moody", "from": "now-5m"}).json()

    assert shown["times"][-1] - shown["times"][0] == pytest.approx(300, abs=5)
    assert abs(shown["times"][-1] - time.time()) < 20
    assert all(len(line["values"]) == len(shown["times"]) for line in shown["lines"])
    assert any(value is not None for line in shown["lines"] for value in line["values"])


@pytest.mark.parametrize(
    "value", ['moody"} or vector(1) #', 'moody"}[5m]', "moody\\", "$__all", "moody\n", "x" * 5000, "${service}"]
)
def test_a_value_out_of_an_address_never_becomes_a_query(client: httpx.Client, value: str) -> None:
    for number in (1, 4, 7):
        reply = client.get(f"{PANELS}/{number}", params={"var-service": value})

        shown = reply.json()
        assert reply.status_code == 200, shown
        alert = [value["value"] for value in shown["values"] if value["value"] is not None]
        if value != "$__all":
            assert not alert
            assert not shown["rows"]
            assert not any(line["values"] for line in shown["lines"])


def test_what_a_label_holds_stays_text(watched: World, client: httpx.Client) -> None:
    watched.version = "<script>alert(1)</script>"
    try:
        page = says(client, "/", "&lt;script&gt;alert(1)")
        about = client.get("/alerts/SlipwaySLOFastBurn?service=moody").text
    finally:
        watched.version = "1.2.0"

    assert "<script>alert" not in page
    assert "<script>alert" not in about


@pytest.mark.parametrize(
    "path",
    [
        "/alerts/SlipwaySLOFastBurn?service=%3Cimg%20src%3Dx%3E&slo=%5Bx%5D(javascript%3Aalert(1))",
        "/dashboards/slipway-oncall?var-service=%22%3E%3Cimg%20src%3Dx%3E&from=now-15m",
        "/runbooks/%3Cimg%20src%3Dx%3E",
        "/dashboards/%3Cimg%20src%3Dx%3E",
        "/nowhere%3Cimg%20src%3Dx%3E",
    ],
)
def test_what_an_address_holds_stays_text(client: httpx.Client, path: str) -> None:
    reply = client.get(path)

    assert "<img" not in reply.text
    assert 'href="javascript:' not in reply.text
    assert reply.status_code in {200, 404}


def test_every_page_forbids_scripts_of_others_and_frames(client: httpx.Client) -> None:
    for path in ("/", "/dashboards/slipway-oncall", "/runbooks", "/nowhere", "/api/overview", "/static/live.js"):
        headers = client.get(path).headers

        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_only_reading_is_possible(client: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/").status_code == 405
        assert client.request(method, "/api/overview").status_code == 405


def test_a_page_that_calls_itself_by_another_name_is_refused(client: httpx.Client) -> None:
    """DNS rebinding: a name of somebody else's that leads to this machine."""
    assert client.get("/api/overview", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/api/overview", headers={"host": "localhost:1"}).status_code == 200
    assert client.get("/api/overview", headers={"host": "[::1]:8900"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dashboards/slipway-oncall?from=yesterday", "yesterday"),
        ("/dashboards/slipway-oncall?from=now&to=now-1h", "expected an end after the start"),
        ("/dashboards/other", "slipway-oncall"),
        ("/api/dashboards/slipway-oncall/panels/999", "has no panel 999"),
        ("/runbooks/Other", "/runbooks lists those there are"),
        ("/alerts/Other", "there is no runbook"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(client: httpx.Client, path: str, words: str) -> None:
    reply = client.get(path)

    assert reply.status_code == 404
    assert words in reply.text.replace("&#x27;", "'")


def test_links_of_alerts_and_of_grafana_lead_to_pages(client: httpx.Client) -> None:
    assert client.get("/d/slipway-oncall?var-service=moody", follow_redirects=True).status_code == 200
    assert client.get("/dashboards", follow_redirects=True).url.path == "/dashboards/slipway-oncall"
    page = client.get("/dashboards/slipway-oncall?var-service=moody&viewPanel=7").text
    assert page.index('data-panel="7"') < page.index('data-panel="1"')
