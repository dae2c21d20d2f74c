"""A client generated from the document by a well-kept generator, imported in a process of its own, calls the server."""

import json
import subprocess
import sys
from pathlib import Path

from serve_folders import write_minimal
from web_service import running

GENERATOR = Path(sys.executable).parent / "openapi-python-client"

CALLER = """
import json, sys
from generated import Client
from generated.api.generated_service import predict
from generated.api.open_inference_protocol import v2_infer
from generated.models import Customer, InferRequest, ProblemBody, RequestInput, Risk, V2ModelName

client = Client(base_url=sys.argv[1])
risk = predict.sync(client=client, body=Customer(tenure_days=900.0, mean_charge=None))
assert isinstance(risk, Risk), risk
problem = predict.sync(client=client, body=Customer(tenure_days=-1.0, mean_charge=None))
assert isinstance(problem, ProblemBody) and problem.path == "$.tenure_days", problem
inputs = [
    RequestInput(name="tenure_days", datatype="FP32", shape=[1], data=[900.0]),
    RequestInput(name="mean_charge", datatype="FP32", shape=[1], data=[None]),
]
answer = v2_infer.sync(V2ModelName.GENERATED_SERVICE, client=client, body=InferRequest(inputs=inputs))
print(json.dumps([risk.probability, answer.outputs[0].data[0]]))
"""


def test_a_generated_client_calls_the_server(tmp_path: Path) -> None:
    with running(write_minimal(tmp_path / "service", "generated_service")) as server, server.client() as client:
        document = tmp_path / "openapi.json"
        document.write_bytes(client.get("/openapi.json").content)
        made = subprocess.run(
            [GENERATOR, "generate", "--path", document, "--output-path", tmp_path / "generated", "--meta", "none"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        assert "parsing" not in made.stdout, made.stdout

        called = subprocess.run(
            [sys.executable, "-c", CALLER, server.url],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=60,
        )

    assert called.returncode == 0, called.stderr
    own, protocol = json.loads(called.stdout)
    assert own == protocol
    assert 0 <= own <= 1
