"""Hostile and random input against a live server, generated from its own OpenAPI document."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_process import Served, serving


@pytest.fixture(scope="module")
def both(minimal: Path, full: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two services in one server: rows, endpoints, the protocol, the pages."""
    with serving(minimal, full, store=tmp_path_factory.mktemp("both") / "store") as running:
        yield running


def test_nothing_that_the_document_allows_or_forbids_gives_a_server_error(both: Served, tmp_path: Path) -> None:
    """schemathesis: valid and broken requests for every operation; answers must be what the document says."""
    checks = "not_a_server_error,status_code_conformance,response_schema_conformance,content_type_conformance"
    command = [str(Path(sys.executable).with_name("st")), "run", f"{both.url}/openapi.json"]
    command += ["--checks", checks, "--max-examples", "15", "--phases", "coverage,fuzzing", "--no-color"]
    # Deadlines are fixed: a generated one of a fraction of a millisecond is rightly refused with 503.
    command += ["--header", "X-Slipway-Timeout-Ms: 5000", "--generation-deterministic"]

    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=110, check=False)

    assert ended.returncode == 0, ended.stdout[-5_000:]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=400) | st.text(max_size=200).map(str.encode), header=st.text(max_size=20))
def test_no_bytes_give_a_server_error(both: Served, body: bytes, header: str) -> None:
    headers = {b"content-type": b"application/json"}
    if header.isascii() and header.isprintable():
        headers[b"x-slipway-timeout-ms"] = header.strip().encode()

    with both.client() as client:
        statuses = [
            client.post(p, content=body, headers=headers).status_code for p in ("/minimal/predict", "/full/predict")
        ]

    assert all(400 <= status < 500 or status in {503, 504} for status in statuses)
    assert b"x-slipway-timeout-ms" in headers or all(status < 500 for status in statuses)
