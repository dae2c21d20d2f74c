"""Who is let in, over real HTTP and gRPC: keys, tokens, scopes, limits; and what becomes of what they sent as proof."""

import base64
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton  # type: ignore[import-untyped]  # the package has no types
from access_issuer import AUDIENCE, ISSUER, Issuer
from grpc_service import wait_until
from otlp_sink import Sink, collector
from serve_folders import write_minimal
from serve_process import Served, serving

from slipway_serve.access.keys import new_key, revoke_keys

ROW = {"tenure_days": 900.0, "mean_charge": 12.5}
TENSORS = {"inputs": [{"name": name, "shape": [1], "datatype": "FP32", "data": [value]} for name, value in ROW.items()]}
INFER = "/v2/models/guarded/infer"
ACCESS = """
[runtime.access]
keys = "ROOT/keys.json"
clients."key:limited" = { rate_per_s = 0.01, burst = 7 }

[runtime.access.jwt]
issuer = "ISSUER"
audience = "AUDIENCE"
jwks = "ROOT/jwks.json"

[runtime.access.routes."/docs"]
require = "none"

[runtime.access.routes."/v2/models/guarded/*"]
require = "jwt"
scopes = ["infer"]

[runtime.capture]
enabled = true
folder = "ROOT/captured"
rate = 1.0

[runtime.logging]
level = "debug"
requests_ratio = 1.0

[runtime.tracing]
ratio = 1.0
"""


class Guarded(NamedTuple):
    """A server with access on, and what its callers have."""

    served: Served
    root: Path
    issuer: Issuer
    sink: Sink
    key: str
    limited: str
    expired: str

    def ask(self, headers: dict[str, str], path: str = "/predict", body: object = None) -> httpx.Response:
        """One request, on a connection of its own, so that any API worker may take it."""
        return httpx.post(f"{self.served.url}{path}", json=ROW if body is None else body, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Two API workers, gRPC, everything told: traces, debug log, capture of each request."""
    root, issuer = tmp_path_factory.mktemp("guarded"), Issuer()
    path = root / "keys.json"
    key, limited = new_key(path, "billing").key, new_key(path, "limited").key
    past = datetime.now(UTC) - timedelta(days=2)
    expired = new_key(path, "former", now=past, expires_in=timedelta(days=1)).key
    (root / "jwks.json").write_bytes(issuer.jwks())
    access = ACCESS.replace("ROOT", str(root)).replace("ISSUER", ISSUER).replace("AUDIENCE", AUDIENCE)
    folder = write_minimal(root / "svc", "guarded", access)
    flags: dict[str, object] = {"workers": 2, "grpc": True, "grpc_port": 0}
    with collector() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        with serving(folder, store=root / "store", flags=flags, env=env) as served:
            wait_until(lambda: 'slipway_workers{state="ready"} 4.0' in served.metrics())  # compactor and exporter, too
            yield Guarded(served, root, issuer, sink, key, limited, expired)


def refused(served: Served, reason: str) -> float:
    found = re.search(rf'slipway_access_refused_total{{reason="{reason}"}} (\S+)', served.metrics())
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(
    ("headers", "code", "challenge"),
    [
        ({}, "credentials_missing", 'Bearer realm="slipway"'),
        ({"x-api-key": ""}, "credentials_invalid", 'error="invalid_token"'),
        ({"x-api-key": "slw_00000000_" + "A" * 43}, "credentials_invalid", 'error="invalid_token"'),
        ({"authorization": "Bearer slw_00000000_" + "A" * 43}, "credentials_invalid", 'error="invalid_token"'),
        ({"authorization": "Basic dXNlcjpwYXNz"}, "credentials_invalid", 'error="invalid_token"'),
        ({"authorization": "Bearer"}, "credentials_invalid", 'error="invalid_token"'),
        ({"authorization": "Bearer eyJ.eyJ.x"}, "credentials_invalid", 'error="invalid_token"'),
        ({"authorization": "EXPIRED"}, "credentials_expired", 'error="invalid_token"'),
    ],
)
def test_who_has_no_right_is_told_what_is_wrong_and_how_to_ask(
    guarded: Guarded, headers: dict[str, str], code: str, challenge: str
) -> None:
    if headers.get("authorization") == "EXPIRED":
        headers = {"authorization": f"Bearer {guarded.expired}"}

    answer = guarded.ask(headers)

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["title"]) == (401, code, "Unauthorized")
    assert answer.headers["content-type"] == "application/problem+json"
    assert challenge in answer.headers["www-authenticate"]
    assert "X-API-Key" in problem["hint"]


def test_a_key_opens_in_both_headers_and_a_token_too(guarded: Guarded) -> None:
    sent = (
        {"x-api-key": guarded.key},
        {"authorization": f"Bearer {guarded.key}"},
        {"authorization": f"bearer  {guarded.key}"},
        {"authorization": f"Bearer {guarded.issuer.token()}"},
    )

    assert [guarded.ask(headers).status_code for headers in sent] == [200] * 4


def test_a_route_with_a_rule_asks_for_its_kind_and_its_scopes(guarded: Guarded) -> None:
    token = {"authorization": f"Bearer {guarded.issuer.token()}"}
    scoped = {"authorization": f"Bearer {guarded.issuer.token(scope='other infer')}"}

    with_key = guarded.ask({"x-api-key": guarded.key}, INFER, TENSORS)
    without_scope = guarded.ask(token, INFER, TENSORS)
    right = guarded.ask(scoped, INFER, TENSORS)

    assert (with_key.status_code, with_key.json()["code"]) == (401, "credentials_kind")
    assert (without_scope.status_code, without_scope.json()["code"]) == (403, "scope_missing")
    assert 'error="insufficient_scope", scope="infer"' in without_scope.headers["www-authenticate"]
    assert right.status_code == 200, right.text


def test_probes_and_opened_pages_ask_for_nothing_and_others_for_as_much_as_all(guarded: Guarded) -> None:
    paths = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/", "/openapi.json", "/v2")
    with guarded.served.client() as client:
        statuses = {path: client.get(path).status_code for path in paths}
        unknown = client.get("/nothing-here")

    assert [path for path, status in statuses.items() if status == 200] == list(paths[:5])
    assert set(statuses.values()) == {200, 401}
    assert unknown.status_code == 404
    assert "predict" not in unknown.text


def test_a_body_is_not_waited_for_when_its_sender_is_not_let_in(guarded: Guarded) -> None:
    address = urlsplit(guarded.served.url)
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500000\r\n\r\n{"
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=5) as connection:
        connection.sendall(head)

        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")


def test_a_limit_is_exact_over_all_workers_and_spends_no_error_budget(guarded: Guarded) -> None:
    before = refused(guarded.served, "rate")

    answers = [guarded.ask({"x-api-key": guarded.limited}) for _ in range(25)]

    taken = [answer for answer in answers if answer.status_code == 200]
    others = [answer for answer in answers if answer.status_code == 429]
    assert (len(taken), len(others)) == (7, 18)
    assert taken[-1].headers["ratelimit"] == '"rate";r=0;t=700'
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"rate";q=7;w=700'}
    assert 90 <= int(others[0].headers["retry-after"]) <= 100
    assert others[0].json()["code"] == "rate_limited"
    assert refused(guarded.served, "rate") == before + 18
    counted = r'duration_seconds_count{[^}]*status_code="429",http_route="/predict"} (\S+)'
    assert re.findall(counted, guarded.served.metrics()) == ["0.0"]
    assert "ratelimit" not in guarded.ask({"x-api-key": guarded.key}).headers


def test_a_refusal_before_the_answer_to_another_request_is_counted_as_what_it_is(guarded: Guarded) -> None:
    """Pipelined: uvicorn begins the second in the first one's context."""
    address = urlsplit(guarded.served.url)
    for _ in range(8):
        guarded.ask({"x-api-key": guarded.limited})
    limited = f"POST /predict HTTP/1.1\r\nhost: x\r\nx-api-key: {guarded.limited}\r\ncontent-length: 0\r\n\r\n".encode()
    wrong = b"GET /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=5) as connection:
        connection.sendall(limited + wrong)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk

    first, _, second = received.partition(b"HTTP/1.1 405 ")
    assert b"ratelimit: " in first
    assert second
    assert b"ratelimit" not in second


def test_keys_come_and_go_without_a_restart_and_a_broken_file_changes_nothing(guarded: Guarded) -> None:
    path = guarded.root / "keys.json"
    workers = {worker.pid for worker in guarded.served.workers()}
    made = new_key(path, "late").key

    wait_until(lambda: [guarded.ask({"x-api-key": made}).status_code for _ in range(6)] == [200] * 6)
    revoke_keys(path, "late")
    wait_until(lambda: [guarded.ask({"x-api-key": made}).status_code for _ in range(6)] == [401] * 6)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    wait_until(lambda: "slipway_access_stale_files 1.0" in guarded.served.metrics())
    still = guarded.ask({"x-api-key": guarded.key}).status_code
    path.write_bytes(whole)
    wait_until(lambda: "slipway_access_stale_files 0.0" in guarded.served.metrics())

    assert still == 200
    assert {worker.pid for worker in guarded.served.workers()} == workers


def test_grpc_asks_for_the_same(guarded: Guarded) -> None:
    found = re.search(r"grpc +(\S+)", guarded.served.said())
    assert found is not None
    client = triton.InferenceServerClient(found[1])
    tensors = []
    for name, value in ROW.items():
        tensor = triton.InferInput(name, [1], "FP32")
        tensor.set_data_from_numpy(np.array([value], dtype=np.float32))
        tensors.append(tensor)
    sent = {
        "nothing": {},
        "a key": {"x-api-key": guarded.key},
        "no scope": {"authorization": f"Bearer {guarded.issuer.token()}"},
        "all": {"authorization": f"Bearer {guarded.issuer.token(scope='infer')}"},
    }
    codes = {}
    for name, headers in sent.items():
        try:
            client.infer("guarded", tensors, headers=headers)
            codes[name] = "OK"
        except triton.InferenceServerException as error:
            codes[name] = error.status()
    is_live = client.is_server_live()
    client.close()

    assert is_live
    assert codes == {
        "nothing": "StatusCode.UNAUTHENTICATED",
        "a key": "StatusCode.UNAUTHENTICATED",
        "no scope": "StatusCode.PERMISSION_DENIED",
        "all": "OK",
    }
    with grpc.insecure_channel(found[1]) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerMetadata"
        )
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_nothing_that_was_sent_as_proof_is_written_down_anywhere(guarded: Guarded) -> None:
    """Logs at debug, every request captured and traced, errors, metrics, the process list."""
    token = guarded.issuer.token(scope="infer")
    wrong = "slw_12345678_" + "Zz9" * 14 + "A"
    sent = [guarded.key, guarded.expired, guarded.limited, token, wrong, "c2VjcmV0OnBhc3M="]
    answers = []
    for secret in sent:
        for headers in (
            {"x-api-key": secret},
            {"authorization": f"Bearer {secret}"},
            {"authorization": f"Basic {secret}"},
        ):
            answers += [guarded.ask({**headers, "x-request-id": "seen"}, path) for path in ("/predict", INFER, "/none")]
        answers.append(guarded.ask({"x-api-key": secret}, "/predict", {"tenure_days": "x"}))
    guarded.sink.wait_spans(len(answers) // 2)
    spans = "".join(map(str, [*guarded.sink.spans, *guarded.sink.resources]))
    pids = [guarded.served.process.pid, *(worker.pid for worker in guarded.served.workers())]
    told = [answer.text + str(answer.headers) for answer in answers]
    told += [spans, guarded.served.said(), guarded.served.metrics()]
    told += [Path(f"/proc/{pid}/{name}").read_text(errors="replace") for pid in pids for name in ("cmdline", "environ")]
    files = [path for path in guarded.root.rglob("*") if path.is_file() and path.name != "keys.json"]
    told += [path.read_bytes().decode("latin-1") for path in files]

    assert any("captured" in path.parts for path in files)
    assert "POST /predict" in spans
    for secret in sent:
        parts = [secret, secret[-20:], base64.b64encode(secret.encode()).decode()[:40]]
        assert [part for part in parts for text in told if part in text] == []
    assert {answer.status_code for answer in answers} == {200, 401, 404, 422, 429}


def test_the_document_says_how_to_be_let_in(guarded: Guarded) -> None:
    with guarded.served.client() as client:
        document = client.get("/openapi.json", headers={"x-api-key": guarded.key}).json()

    assert set(document["components"]["securitySchemes"]) == {"key", "keyAsBearer", "jwt"}
    assert document["paths"]["/predict"]["post"]["security"] == [{"key": []}, {"keyAsBearer": []}, {"jwt": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert {"401", "403", "429"} <= set(infer["responses"])


def test_a_quota_outlives_its_server(tmp_path: Path) -> None:
    key = new_key(tmp_path / "keys.json", "daily").key
    access = (
        f'\n[runtime.access]\nkeys = "{tmp_path}/keys.json"\nquota_per_day = 5\nstate = "{tmp_path}/state/quotas"\n'
    )
    folder = write_minimal(tmp_path / "svc", "daily", access)
    wait_until(lambda: datetime.now(UTC).strftime("%H%M%S") < "235940")  # not over midnight
    statuses: list[int] = []
    for _ in range(2):
        with serving(folder, store=tmp_path / "store") as served:
            answers = [httpx.post(f"{served.url}/predict", json=ROW, headers={"x-api-key": key}) for _ in range(3)]
            statuses += [answer.status_code for answer in answers]
            os.killpg(served.process.pid, 9)

    assert statuses == [200] * 5 + [429]
    assert answers[-1].json()["code"] == "quota_spent"
    assert abs(int(answers[-1].headers["retry-after"]) - (86_400 - time.time() % 86_400)) < 30
    assert json.loads(answers[-1].text)["status"] == 429
