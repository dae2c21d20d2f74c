"""Load on real servers: inputs that are made from their documents, in every protocol, and who answered."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from load_processes import Ran, inputs, run
from serve_folders import write_minimal
from serve_process import Served, serving

from slipway_bundle import Store, build
from slipway_signals.gate.load_plan import LoadPlan
from slipway_signals.gate.records import Counts

ROW = {"tenure_days": 10.0, "mean_charge": None}
PROJECT = '[project]\nname = "minimal-service"\nversion = "1"\ndependencies = ["numpy"]\n'
RUNTIME = "\n[runtime.server]\ntrust_synthetic = true\ngrpc = true\ngrpc_port = 0\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A bundle, served."""
    folder = tmp_path_factory.mktemp("served")
    write_minimal(folder / "minimal", runtime=RUNTIME)
    golden = {"model": "minimal", "input": ROW, "output": {"probability": 0.5}, "tolerance": {"absolute": 1}}
    (folder / "minimal" / "golden.jsonl").write_bytes(msgspec.json.encode(golden) + b"\n")
    (folder / "minimal" / "pyproject.toml").write_text(PROJECT)
    (folder / "minimal" / "requirements.lock").write_text(f"numpy==2.3.4 \\\n    --hash=sha256:{'0' * 64}\n")
    built = build(folder / "minimal", Store.open(folder / "store"), environ={})
    with serving(built.ref, store=folder / "store") as running:
        yield running


def digest_of(served: Served) -> str:
    with served.client() as client:
        digest: str = client.get("/openapi.json").json()["x-slipway"]["services"][0]["digest"]
    return digest


def ran(served: Served, folder: Path, **changes: object) -> Ran:
    url = served.url
    if changes.get("protocol") == "grpc":
        port = re.search(r"grpc +\S*?:(\d+)", served.said())
        assert port is not None, served.said()
        url = f"grpc://127.0.0.1:{port[1]}"
    raw = {
        "arms": {"stable": {"url": url, "admin": served.admin}},
        "rate": 100.0, "seconds": 1.2, "warm_up_s": 0.0, "window_s": 0.6, "caps": {"stable_failed": 1.0}, **changes,
    }  # fmt: skip
    return run(msgspec.convert(raw, LoadPlan), folder)


def counted(run_: Ran) -> list[Counts]:
    assert run_.status == 0, run_.said
    return [window.arms["stable"] for window in run_.windows]


def test_valid_edge_and_invalid_inputs_are_made_from_the_document_and_answered_as_they_should(
    served: Served, tmp_path: Path
) -> None:
    mix = {"valid": 0.4, "boundary": 0.3, "invalid": 0.3}

    run_ = ran(served, tmp_path, scenarios=[{"mix": mix}])

    counts = counted(run_)
    digests = sum((Counter(count.digests) for count in counts), Counter[str]())
    answers = sum(sum(count.outputs["probability"].counts) for count in counts)
    asked = sum(count.sent for count in counts)
    assert [count.failed for count in counts] == [{}, {}]
    assert 0.5 * asked < answers < 0.9 * asked  # the invalid ones have no probability
    assert digests == {digest_of(served): asked}
    assert run_.windows[-1].scrapes["stable"].cpu_s is not None
    assert (run_.windows[-1].scrapes["stable"].requests or 0) >= asked - 1


@pytest.mark.e2e
@pytest.mark.parametrize("protocol", ["v2", "grpc"])
def test_the_open_inference_protocol_gives_the_answers_of_the_service_itself(
    served: Served, tmp_path: Path, protocol: str
) -> None:
    with served.client() as client:
        right = client.post("/predict", json=ROW).json()
    source = inputs(tmp_path, {"input": ROW, "output": right})
    scenario = {"model": "minimal", "payloads": source}

    counts = counted(ran(served, tmp_path, protocol=protocol, scenarios=[scenario], tolerances={"probability[]": 1e-6}))

    asked = sum(count.sent for count in counts)
    assert asked > 50
    assert sum(count.correct for count in counts) == asked
    assert sum((Counter(count.digests) for count in counts), Counter[str]()) == {digest_of(served): asked}


def test_only_a_believed_load_test_is_told_who_answers(served: Served) -> None:
    with served.client() as client:
        user = client.post("/predict", json=ROW)
        probe = client.post("/predict", json=ROW, headers={"X-Slipway-Synthetic": "1"})
        refused = client.post("/predict", json={}, headers={"X-Slipway-Synthetic": "1"})

    assert "x-slipway-bundle" not in user.headers
    assert probe.headers["x-slipway-bundle"] == digest_of(served)
    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert refused.headers["x-slipway-bundle"] == digest_of(served)


def test_a_path_that_is_not_served_is_refused_with_those_that_are(served: Served, tmp_path: Path) -> None:
    run_ = ran(served, tmp_path, scenarios=[{"path": "/predicct"}])

    assert run_.status == 2
    assert "no path '/predicct' to post to, expected one of /predict" in run_.error["message"]
