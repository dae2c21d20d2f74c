"""A lab, or another cluster, as tests use it: kubectl, commands inside its network, objects that are waited for.

The invariant: every wait ends; one that ends in vain fails the test with what the cluster says.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from slipway_lab.state import Lab

ROOT: Final = Path(__file__).parents[2]
LIMIT_S: Final = 60.0


def lab_command(*arguments: str) -> list[str]:
    """`python -m slipway_lab …`."""
    return [sys.executable, "-m", "slipway_lab", *arguments]


def started(name: str) -> Lab:
    """A new lab; skips where none can run. What a run before this one left is taken away first."""
    subprocess.run(lab_command("down", f"--name={name}"), check=False, timeout=120, capture_output=True)
    done = subprocess.run(
        lab_command("--json", "up", f"--name={name}"), stdout=subprocess.PIPE, check=False, timeout=3000
    )
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout, type=Lab)
    error = msgspec.json.decode(done.stdout)["error"]
    if error["code"] == "lab_cannot_run":
        pytest.skip(f"no lab: {error['message']}; set KUBECONFIG to use another cluster")
    pytest.fail(f"no lab: {error['message']}")


def inside(lab: Lab, *command: str) -> list[str]:
    """The command, inside the lab's network; as it is where the cluster is not a lab."""
    return [*lab_command("exec", f"--name={lab.name}", "--"), *command] if lab.namespace else list(command)


def run(lab: Lab, *command: str, text: str | None = None, timeout_s: float = LIMIT_S) -> str:
    """What a command inside the lab's network prints; it must succeed."""
    done = subprocess.run(
        inside(lab, *command), input=text, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr[-3000:]}{done.stdout[-1000:]}"
    return done.stdout


def kubectl(lab: Lab, *arguments: str, text: str | None = None, timeout_s: float = LIMIT_S) -> str:
    """What kubectl prints; it must succeed."""
    return run(lab, "kubectl", *arguments, text=text, timeout_s=timeout_s)


def get(lab: Lab, *arguments: str) -> Any:
    """An object, or a list of them, as the API server has it."""
    return json.loads(kubectl(lab, "get", *arguments, "-o", "json"))


def apply(lab: Lab, objects: Iterable[Mapping[str, Any]]) -> None:
    """Apply them in their order; the API server refuses a field that it does not know."""
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl(lab, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", text=document)


def eventually(claim: Callable[[], bool], timeout_s: float, told: Callable[[], str] = str) -> float:
    """Ask until it is true; the seconds that took. Fails the test with what `told` says after `timeout_s`."""
    began, news = time.monotonic(), threading.Event()
    while not claim():
        if time.monotonic() - began > timeout_s:
            pytest.fail(f"not within {timeout_s:.0f} s; {told()}")
        news.wait(0.2)
    return time.monotonic() - began


def state_of(lab: Lab, namespace: str) -> Callable[[], str]:
    """For `eventually`: what a person would look at."""

    def told() -> str:
        command = inside(lab, "kubectl", "-n", namespace, "get", "pods,rollouts,analysisruns,hpa", "-o", "wide")
        shown = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        command = inside(lab, "kubectl", "-n", namespace, "get", "events", "--sort-by=.lastTimestamp")
        events = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return f"{shown.stdout}{shown.stderr}{events.stdout[-3000:]}"

    return told


def other_cluster(environ: Mapping[str, str] = os.environ) -> Lab:
    """The cluster of KUBECONFIG, described as a lab: commands run in no other network."""
    return Lab(
        name="",
        folder="",
        kubeconfig=environ["KUBECONFIG"],
        namespace="",
        node="",
        registry=environ.get("SLIPWAY_LAB_REGISTRY", ""),
        ingress=environ.get("SLIPWAY_LAB_INGRESS", ""),
        prometheus=environ.get("SLIPWAY_LAB_PROMETHEUS", ""),
        alertmanager=environ.get("SLIPWAY_LAB_ALERTMANAGER", ""),
        rules="",
    )
