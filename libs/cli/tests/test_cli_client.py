"""`slipway client`: what it refuses, and a generated client against the live service."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cli_commands import ROOT, Slipway, served

from slipway_cli.generation import package_version

TRY = """
import sys
from churn_client import Client
from churn_client.api.churn import predict
from churn_client.models import Customer, ProblemBody, Risk

client = Client(base_url=sys.argv[1])
row = dict(tenure_months=2.0, monthly_charges=96.5, support_calls=5, income=None, contract="monthly")
answer = predict.sync(client=client, body=Customer(**row))
assert isinstance(answer, Risk), answer
refused = predict.sync(client=client, body=Customer(**{**row, "tenure_months": -1.0}))
assert isinstance(refused, ProblemBody), refused
print(answer.churn_probability, refused.status)
"""


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.2.0", "1.2.0"), ("c-0160129a01c6", "0+c.0160129a01c6"), ("g1a2-b3-dirty", "0+g1a2.b3.dirty"), ("___", "0")],
)
def test_every_version_of_a_bundle_is_a_version_of_a_package(version: str, expected: str) -> None:
    assert package_version(version) == expected


def test_a_folder_needs_no_server(with_churn: Slipway, churn: Path, tmp_path: Path) -> None:
    said = with_churn("client", churn, "--out", tmp_path / "made", "--json")

    customer = (tmp_path / "made" / "churn_client" / "models" / "customer.py").read_text("utf-8")
    assert said.status == 0
    assert said.document["package"] == "churn_client"
    assert said.document["warnings"] == []
    assert "income: float | None" in customer


def test_an_existing_folder_is_only_replaced_on_request(with_churn: Slipway, churn: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()

    said = with_churn("client", churn, "--out", tmp_path / "made", "--json")

    assert said.status == 2
    assert said.document["error"]["code"] == "folder_taken"
    assert list((tmp_path / "made").iterdir()) == []


def test_a_service_that_cannot_be_imported_shows_why(slipway: Slipway, churn: Path, tmp_path: Path) -> None:
    slipway("new", "fraud", "--into", tmp_path)
    broken = tmp_path / "fraud"
    (broken / "src" / "fraud_service" / "service.py").write_text("import no_such_module\n")
    (broken / "model").mkdir()
    (broken / "model" / "fraud.ubj").write_bytes((churn / "model" / "churn.ubj").read_bytes())

    said = slipway("client", broken, "--out", tmp_path / "made", "--json")

    assert said.status == 2
    assert "no_such_module" in said.document["error"]["message"]
    assert not (tmp_path / "made").exists()


def test_an_unknown_bundle_keeps_its_code_across_the_child_process(slipway: Slipway, tmp_path: Path) -> None:
    said = slipway("client", "nothing", "--out", tmp_path / "made", "--json")

    assert said.status == 2
    assert said.document["error"]["code"] == "ref_not_found"


def test_a_server_that_is_not_there_is_the_networks_fault(slipway: Slipway, tmp_path: Path) -> None:
    said = slipway("client", "http://127.0.0.1:9", "--out", tmp_path / "made", "--json")

    assert said.status == 3
    assert said.document["error"]["code"] == "unreachable"


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (200, b"<html>"), (200, b"[]")])
def test_a_server_without_a_document_is_told_apart(slipway: Slipway, tmp_path: Path, status: int, body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.handle_request)
        thread.start()

        said = slipway("client", f"http://127.0.0.1:{server.server_port}", "--out", tmp_path / "made", "--json")

        thread.join()

    assert said.status == 2
    assert said.document["error"]["code"] == "document_invalid"


@pytest.mark.slow
def test_the_client_works_in_a_fresh_environment_against_the_live_service(
    with_churn: Slipway, built_home: Path, tmp_path: Path
) -> None:
    uv = subprocess.run(["sh", ROOT / "scripts" / "setup.sh", "uv"], check=True, stdout=subprocess.PIPE, text=True)
    python = tmp_path / "fresh" / "bin" / "python"
    with served("churn", home=built_home) as url:
        said = with_churn("client", url, "--out", tmp_path / "made", "--json")
        for arguments in (
            ["venv", "--python", sys.executable, python.parents[1]],
            ["pip", "install", "--python", python, said.document["folder"]],
        ):
            subprocess.run([uv.stdout.strip(), "-q", *arguments], check=True)
        done = subprocess.run([python, "-I", "-c", TRY, url], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    probability, status = json.loads(f"[{done.stdout.strip().replace(' ', ',')}]")
    assert 0.8 < probability < 0.95
    assert status == 422
