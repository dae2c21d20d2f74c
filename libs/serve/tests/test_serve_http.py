"""One request, over real HTTP: answers, refusals, limits; every error is a problem with a path or a reason."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from serve_folders import write_minimal
from serve_process import Served, serving

ROW = {"tenure_days": 900.0, "mean_charge": 12.5}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with limits that a test can reach."""
    root = tmp_path_factory.mktemp("strict")
    limits = "[runtime.limits]\nbody_bytes = 2000\nheader_bytes = 4096\nheaders_s = 0.5\nbody_s = 0.5\nidle_s = 5.0\n"
    with serving(write_minimal(root / "svc", "strict", f"\n{limits}"), store=root / "store") as running:
        yield running


def test_a_row_is_answered(served: Served) -> None:
    with served.client() as client:
        answer = client.post("/predict", json=ROW)

    assert answer.status_code == 200
    assert 0 <= answer.json()["probability"] <= 1


@pytest.mark.parametrize(
    ("body", "status", "code", "path", "detail"),
    [
        (b"{", 400, "json_invalid", None, "not valid JSON"),
        (b"", 400, "json_invalid", None, "not valid JSON"),
        (b"[" * 100_000, 400, None, None, ""),
        (b"[]", 422, "schema_mismatch", "$", "Expected `object`, got `array`"),
        (b'{"tenure_days":1}', 422, "schema_mismatch", "$", "missing required field `mean_charge`"),
        (b'{"tenure_days":"1","mean_charge":null}', 422, "schema_mismatch", "$.tenure_days", "got `str`"),
        (b'{"tenure_days":-1,"mean_charge":null}', 422, "schema_mismatch", "$.tenure_days", ">= 0"),
        (b'{"tenure_days":1,"mean_charge":null,"x":1}', 422, "schema_mismatch", "$", "unknown field `x`"),
        (b'{"tenure_days":1,"mean_charge":NaN}', 400, "json_invalid", None, "not valid JSON"),
        (b'{"tenure_days":1,"mean_charge":1e39}', 422, "row_invalid", "$.mean_charge", "FP32"),
        (b'{"tenure_days":1,"mean_charge":1e999}', 422, "schema_mismatch", "$.mean_charge", "out of range"),
        (b'\xff{"tenure_days":1}', 400, "json_invalid", None, ""),
    ],
)
def test_a_bad_body_is_told_where_it_is_bad(
    served: Served, body: bytes, status: int, code: str | None, path: str | None, detail: str
) -> None:
    with served.client() as client:
        answer = client.post("/predict", content=body, headers={"content-type": "application/json"})

    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code in ({status} if code else {status, 422})
    assert problem["status"] == answer.status_code
    assert code is None or problem["code"] == code
    assert problem.get("path") == path or code is None
    assert detail in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/predict", {}, 405, "method_not_allowed"),
        ("DELETE", "/livez", {}, 405, "method_not_allowed"),
        ("POST", "/nope", {}, 404, "path_unknown"),
        ("GET", "/%00", {}, 404, "path_unknown"),
        ("POST", "/predict", {"content-type": "text/csv"}, 415, "media_type"),
        (
            "POST",
            "/predict",
            {"content-type": "application/json", "x-slipway-timeout-ms": "soon"},
            400,
            "timeout_invalid",
        ),
        (
            "POST",
            "/predict",
            {"content-type": "application/json", "x-slipway-timeout-ms": "-1"},
            400,
            "timeout_invalid",
        ),
    ],
)
def test_a_request_that_is_not_served_gets_a_problem(
    served: Served, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    with served.client() as client:
        answer = client.request(method, path, content=json.dumps(ROW), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_media_type_with_parameters_is_understood(served: Served) -> None:
    with served.client() as client:
        answer = client.post(
            "/predict", content=json.dumps(ROW), headers={"content-type": "Application/JSON; charset=utf-8"}
        )

    assert answer.status_code == 200


def test_a_405_names_the_methods_that_are_allowed(served: Served) -> None:
    with served.client() as client:
        assert client.get("/predict").headers["allow"] == "POST"
        assert client.post("/livez").headers["allow"] == "GET, HEAD"


def test_a_deadline_that_cannot_be_met_is_refused_with_a_retry_after(served: Served) -> None:
    with served.client() as client:
        answer = client.post("/predict", json=ROW, headers={"x-slipway-timeout-ms": "0.001"})

    assert answer.status_code in {503, 504}
    assert answer.status_code == 504 or int(answer.headers["retry-after"]) >= 1


def test_a_body_over_the_limit_is_refused_whether_announced_or_not(strict: Served) -> None:
    with strict.client() as client:
        announced = client.post("/predict", content=b" " * 3_000, headers={"content-type": "application/json"})
        streamed = client.post(
            "/predict", content=iter([b" " * 1_500] * 3), headers={"content-type": "application/json"}
        )

    assert [(a.status_code, a.json()["code"]) for a in (announced, streamed)] == [(413, "body_too_large")] * 2


def test_headers_over_the_limit_are_refused(strict: Served) -> None:
    for size in (5_000, 300_000):
        answer = raw(strict.url, b"GET /livez HTTP/1.1\r\nx: " + b"a" * size)

        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"headers_too_large" in answer


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (b"", b"headers_timeout"),
        (b"GET /livez HT", b"headers_timeout"),
        (b"POST /predict HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{", b"body_timeout"),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HT", b"headers_timeout"),
    ],
)
def test_a_slow_client_is_answered_408_and_let_go(strict: Served, start: bytes, code: bytes) -> None:
    answer = raw(strict.url, start)

    assert b"HTTP/1.1 408 " in answer
    assert code in answer


def test_slow_clients_do_not_keep_others_waiting(strict: Served) -> None:
    address = urlsplit(strict.url)
    slow = [socket.create_connection((str(address.hostname), address.port or 0)) for _ in range(200)]
    try:
        for client in slow:
            client.sendall(b"POST /predict HTTP/1.1\r\nx: ")
        with strict.client() as quick:
            statuses = {quick.post("/predict", json=ROW).status_code for _ in range(50)}
    finally:
        for client in slow:
            client.close()

    assert statuses == {200}


def test_what_is_not_http_is_told_so(served: Served) -> None:
    answer = raw(served.url, b"\x16\x03\x01 hello\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"http_invalid" in answer


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    body = json.dumps(ROW).encode()
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    last = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    answer = raw(served.url, (head + body) * 3 + last)

    assert answer.count(b"HTTP/1.1 200 ") == 4
    assert answer.endswith(b'{"alive":true}')


@pytest.mark.alone
def test_a_client_that_leaves_is_counted_and_its_row_is_given_up(tmp_path: Path) -> None:
    folder = write_minimal(tmp_path / "svc", "slowly", "\n[runtime.models.slowly]\ninline_ms = 0\n")
    source = folder / "src" / "slowly_service.py"
    text = source.read_text() + (
        "\nimport time\n\n\n@predict.compute\ndef wait(weights, batch):\n"
        "    if batch['tenure_days'][0] == 77.0:\n        time.sleep(0.6)\n    return weights(batch)\n"
    )
    source.write_text(text)
    with serving(folder, store=tmp_path / "store", flags={"drain_s": 0.1}) as running:
        with running.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post("/predict", json={**ROW, "tenure_days": 77.0}, timeout=0.2)
        with running.client() as client:
            assert client.post("/predict", json=ROW, headers={"x-slipway-timeout-ms": "5000"}).status_code == 200

        assert 'http_response_status_code="499"' in running.metrics()


def test_one_bad_row_fails_alone_among_its_batch_mates(served: Served) -> None:
    answers: list[int] = []

    def ask(charge: float) -> None:
        with served.client() as client:
            answers.append(client.post("/predict", json={**ROW, "mean_charge": charge}).status_code)

    threads = [threading.Thread(target=ask, args=(1e39 if n == 5 else float(n),)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [200] * 15 + [422]


def raw(url: str, data: bytes) -> bytes:
    """What the server says to raw bytes until it closes the connection (10 s at most)."""
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                chunk = connection.recv(65_536)
            except ConnectionResetError:
                return received
            if not chunk:
                return received
            received += chunk
    raise AssertionError(f"the server did not close: {received[:300]!r}")
