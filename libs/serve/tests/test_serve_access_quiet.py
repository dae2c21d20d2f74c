"""A client that asks as fast as it can does not slow one that asks now and then: ratios within one run."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import pytest
from serve_folders import write_minimal
from serve_process import Served, serving

from slipway_serve.access.keys import new_key

ROW = {"tenure_days": 900.0, "mean_charge": 12.5}
COMPUTE_S = 0.02
SLOW = f"""

import time


@predict.compute
def slow(weights, batch):
    time.sleep({COMPUTE_S})
    return weights(batch)
"""
GREEDY = """
import http.client, json, sys, threading
host, key, body = sys.argv[1], sys.argv[2], json.dumps({"tenure_days": 900.0, "mean_charge": 12.5})
def ask():
    connection = http.client.HTTPConnection(host)
    while True:
        connection.request("POST", "/predict", body, {"content-type": "application/json", "x-api-key": key})
        connection.getresponse().read()
for _ in range(8):
    threading.Thread(target=ask, daemon=True).start()
print("asking", flush=True)
sys.stdin.read()
"""


@contextmanager
def greedy(served: Served, key: str) -> Iterator[None]:
    """Eight connections, each with its next request as soon as it is answered, in a process of their own."""
    command = [sys.executable, "-c", GREEDY, served.url.removeprefix("http://"), key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asking\n"
        try:
            yield
        finally:
            process.kill()


def typical_s(client: httpx.Client, requests: int) -> float:
    """Median time of an answer, in seconds."""
    times = []
    for _ in range(requests):
        started = time.perf_counter()
        assert client.post("/predict", json=ROW).status_code == 200
        times.append(time.perf_counter() - started)
    return median(times)


@pytest.mark.alone
def test_a_greedy_client_does_not_slow_a_quiet_one(tmp_path: Path) -> None:
    """The model takes one row at a time, 20 ms each; without a limit the quiet client waits behind eight rows."""
    path = tmp_path / "keys.json"
    quiet, limited, unlimited = (new_key(path, name).key for name in ("quiet", "limited", "unlimited"))
    access = (
        f'\n[runtime.models.busy]\nmax_rows = 1\ninline_ms = 0\n\n[runtime.access]\nkeys = "{path}"\n'
        'clients."key:limited" = { rate_per_s = 2.0, burst = 1 }\n\n[runtime.slo.interactive]\ndeadline_ms = 10000\n'
    )
    folder = write_minimal(tmp_path / "svc", "busy", access)
    source = folder / "src" / "busy_service.py"
    source.write_text(source.read_text() + SLOW)

    with (
        serving(folder, store=tmp_path / "store") as served,
        httpx.Client(base_url=served.url, headers={"x-api-key": quiet}, timeout=30) as client,
    ):
        typical_s(client, 5)
        alone_s = typical_s(client, 25)
        with greedy(served, limited):
            beside_limited_s = typical_s(client, 25)
        refused = served.metrics()
        with greedy(served, unlimited):
            beside_unlimited_s = typical_s(client, 10)

    said = f"alone {alone_s:.4f} s, beside limited {beside_limited_s:.4f} s, unlimited {beside_unlimited_s:.4f} s"
    assert 'slipway_access_refused_total{reason="rate"} 0.0' not in refused
    assert beside_limited_s < 2.5 * alone_s, said
    assert beside_unlimited_s > 2.0 * beside_limited_s, said  # so much would be lost without
