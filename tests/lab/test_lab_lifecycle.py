"""A lab comes, is one, survives what it should, and leaves nothing: also after everything of it was killed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lab_client import apply, eventually, get, kubectl, lab_command, started, state_of

from slipway_lab import cgroups, cluster, state
from slipway_lab.state import Lab, Place

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(420)]

DOOMED = "doomed"


@pytest.fixture
def doomed() -> Iterator[Place]:
    """A second lab beside the first, with a pod in it; taken away whatever happens."""
    found = started(DOOMED)
    try:
        apply(found, [_pod("sleeper")])
        eventually(lambda: _is_running(found, "sleeper"), 60, state_of(found, "default"))
        yield state.place_of(Path(found.folder).parent, DOOMED)
    finally:
        subprocess.run(lab_command("down", f"--name={DOOMED}"), check=True, timeout=120)


def test_a_lab_that_runs_is_not_started_again(own_lab: Lab) -> None:
    done = _lab("up", f"--name={own_lab.name}")

    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2
    assert error["code"] == "lab_running"
    assert f"lab {own_lab.name!r} is running already, in {own_lab.folder!r}" in error["message"]


def test_a_healthy_lab_is_taken_as_it_is(own_lab: Lab) -> None:
    done = _lab("up", "--reuse", f"--name={own_lab.name}")

    assert done.returncode == 0
    assert json.loads(done.stdout)["kubeconfig"] == own_lab.kubeconfig


def test_a_killed_api_server_comes_back_and_pods_have_not_noticed(own_lab: Lab, namespace: str) -> None:
    apply(own_lab, [_pod("sleeper", namespace)])
    eventually(lambda: _is_running(own_lab, "sleeper", namespace), 60, state_of(own_lab, namespace))
    before = get(own_lab, "-n", namespace, "pod/sleeper")["status"]["containerStatuses"][0]["containerID"]

    restarted = _lab("restart", "--kill", f"--name={own_lab.name}", "kube-apiserver")
    assert restarted.returncode == 0
    eventually(lambda: _status(own_lab.name)["state"] == "ready", 90)

    found = get(own_lab, "-n", namespace, "pod/sleeper")["status"]["containerStatuses"][0]
    assert (found["containerID"], found["restartCount"]) == (before, 0)
    apply(own_lab, [_pod("next", namespace)])
    eventually(lambda: _is_running(own_lab, "next", namespace), 60, state_of(own_lab, namespace))


def test_two_labs_run_beside_each_other_and_one_that_was_killed_leaves_nothing(own_lab: Lab, doomed: Place) -> None:
    members = cgroups.processes(doomed.cgroup)
    assert len(cgroups.processes(doomed.cgroup, "kubepods")) >= 2
    for pid in members:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    assert _lab("down", f"--name={DOOMED}").returncode == 0

    assert not doomed.folder.exists()
    assert not doomed.namespace.exists()
    assert not cgroups.exists(doomed.cgroup)
    # Who was left behind is buried by the machine's first process, which takes its time.
    eventually(lambda: not [pid for pid in members if Path(f"/proc/{pid}").exists()], 20)
    assert str(doomed.folder) not in Path("/proc/self/mountinfo").read_text()
    assert _status(own_lab.name)["state"] == "ready"


def test_an_up_that_is_interrupted_leaves_nothing_but_logs() -> None:
    place = state.place_of(state.lab_home(os.environ), "stopped")
    with subprocess.Popen(lab_command("up", "--name=stopped"), stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr
        assert said is not None
        for line in said:  # until a program of it runs
            if " s  etcd" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = said.read()
        status = process.wait(60)

    try:
        assert status == 130, rest
        assert rest.rstrip().endswith("interrupted")
        assert not cgroups.exists(place.cgroup)
        assert not place.namespace.exists()
        assert [path.name for path in place.folder.iterdir()] == ["logs"]
        found = cluster.status(place)
        assert found is not None
        assert found.state == "left"
    finally:
        subprocess.run(lab_command("down", "--name=stopped"), check=True, timeout=120)


def test_a_running_lab_says_what_it_uses(own_lab: Lab) -> None:
    found = _status(own_lab.name)

    assert {"etcd", "kube-apiserver", "kubelet", "containerd"} <= {program["name"] for program in found["programs"]}
    assert all(program["is_alive"] for program in found["programs"])
    assert found["resident_bytes"] < 1.4e9
    assert "10.230.0.1" in kubectl(own_lab, "get", "nodes", "-o", "wide")


def _lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        lab_command("--json", *arguments), stdout=subprocess.PIPE, text=True, timeout=180, check=False
    )


def _status(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_lab("status", f"--name={name}").stdout)
    return found


def _is_running(lab: Lab, pod: str, namespace: str = "default") -> bool:
    return bool(get(lab, "-n", namespace, f"pod/{pod}")["status"]["phase"] == "Running")


def _pod(name: str, namespace: str = "default") -> dict[str, object]:
    """It needs no registry: the pause image is on the node."""
    container = {"name": "pause", "image": "lab.local/pause:1", "imagePullPolicy": "Never"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
