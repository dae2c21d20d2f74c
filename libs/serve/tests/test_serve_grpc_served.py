"""gRPC and the remote lane as they are deployed: real servers, several API workers, one computing for another."""

import os
import re
import signal
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton  # type: ignore[import-untyped]  # the package has no types
from grpc_service import wait_until
from serve_folders import write_minimal
from serve_process import Served, serving

GRPC: dict[str, object] = {"grpc": True, "grpc_port": 0}
ROW = {"tenure_days": 900.0, "mean_charge": 12.5}


def grpc_address(served: Served) -> str:
    found = re.search(r"grpc +(\S+)", served.said())
    assert found is not None, served.said()
    return found[1]


def infer(address: str, model: str) -> float:
    """One answer over a connection of its own: gRPC lends a new client the open connection of an earlier one."""
    client = triton.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)])
    given = []
    for name, value in ROW.items():
        tensor = triton.InferInput(name, [1], "FP32")
        tensor.set_data_from_numpy(np.array([value], dtype=np.float32))
        given.append(tensor)
    answer = float(client.infer(model, given).as_numpy("probability")[0])
    client.close()
    return answer


def test_every_api_worker_answers_grpc_on_one_port(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store", flags={**GRPC, "workers": 2}) as served, served.client() as client:
        over_rest = client.post("/predict", json=ROW).json()["probability"]
        wait_until(lambda: 'slipway_workers{state="ready"} 2.0' in served.metrics())  # ready is said when one is
        address = grpc_address(served)
        answers = {infer(address, "minimal") for _ in range(16)}
        victim = served.workers()[0]
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(10)  # its own sockets go with it
        answers.add(infer(address, "minimal"))
        metrics = served.metrics()

    assert list(answers) == pytest.approx([over_rest])
    assert '/inference.GRPCInferenceService/ModelInfer"' in metrics


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_model_in_another_server_answers_as_here(minimal: Path, tmp_path: Path, scheme: str) -> None:
    with serving(minimal, store=tmp_path / "far-store", flags=GRPC) as far:
        address = grpc_address(far) if scheme == "grpc" else far.url.removeprefix("http://")
        name = f"near_{scheme}"
        runtime = f'\n[runtime.models.{name}]\nremote = "{scheme}://{address}/minimal"\n'
        near_folder = write_minimal(tmp_path / name, name, runtime)
        with serving(near_folder, store=tmp_path / "near-store") as near, near.client() as client:
            here = httpx.post(f"{far.url}/predict", json=ROW).json()
            there = client.post("/predict", json=ROW)
            processes = far.workers()  # asked before: the children of a process that is gone are nobody's
            far.process.kill()
            for worker in processes:
                worker.kill()
                worker.wait(20)
            gone = client.post("/predict", json=ROW, headers={"x-slipway-timeout-ms": "5000"})

    assert there.status_code == 200, there.text
    assert there.json()["probability"] == pytest.approx(here["probability"])
    assert gone.status_code in {503, 504}, gone.text
    assert gone.json()["code"] in {"remote_unavailable", "deadline_exceeded"}
