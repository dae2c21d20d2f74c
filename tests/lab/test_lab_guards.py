"""The rules that Kubernetes itself asks (ValidatingAdmissionPolicies): what a real API server makes of their CEL."""

import copy
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from lab_client import apply, eventually, inside, kubectl

from slipway_lab.state import Lab
from slipway_platform.addons.settings import Caps
from slipway_platform.policies.admission import guards
from slipway_serve.admission.manifests import LABEL, AdmissionManifests, admission_manifests

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(180)]

AMOUNTS = {"cpu": "100m", "memory": "64Mi"}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one"},
    "spec": {
        "containers": [
            {
                "name": "model",
                "image": "registry.example.com/churn@sha256:" + "ab" * 32,
                "resources": {"requests": AMOUNTS, "limits": AMOUNTS},
            }
        ]
    },
}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "one"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD["spec"]},
    },
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "one"},
    "spec": {"type": "ClusterIP", "ports": [{"port": 80}]},
}
SCALER: dict[str, Any] = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "one"},
    "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "one"}},
}


def container(one: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = one["spec"]["containers"][0]
    return first


BAD: list[tuple[str, dict[str, Any], Callable[[dict[str, Any]], object], str]] = [
    ("tag", POD, lambda one: container(one).update(image="churn:1.0.0"), "named by tag: churn:1.0.0"),
    ("no limits", POD, lambda one: container(one).pop("resources"), "without requests and limits"),
    ("host network", POD, lambda one: one["spec"].update(hostNetwork=True), "the network or the processes of its node"),
    (
        "host path",
        POD,
        lambda one: one["spec"].update(volumes=[{"name": "h", "hostPath": {"path": "/"}}]),
        "has a hostPath",
    ),
    ("replicas", DEPLOYMENT, lambda one: one["spec"].update(replicas=4), "more than the 3"),
    ("autoscaler", SCALER, lambda one: one["spec"].update(maxReplicas=4), "more than the 3"),
    ("load balancer", SERVICE, lambda one: one["spec"].update(type="LoadBalancer"), "is public"),
    ("node port", SERVICE, lambda one: one["spec"].update(type="NodePort"), "is public"),
]


@pytest.fixture(scope="module")
def guarded(lab: Lab) -> Iterator[str]:
    """A namespace under the rules, which have names and a label of their own, so that they bind nothing else."""
    namespace = f"guards-{uuid.uuid4().hex[:8]}"
    digests = list(yaml.safe_load_all(admission_manifests(AdmissionManifests())))[1:]
    text = json.dumps([*digests, *(one.body for one in guards(Caps(max_replicas=3)))])
    text = text.replace(f'"{LABEL}": "enforce"', f'"slipway.test/guarded": "{namespace}"')
    objects = json.loads(text.replace('"slipway-', f'"{namespace}-'))
    kubectl(lab, "create", "namespace", namespace)
    kubectl(lab, "label", "namespace", namespace, f"slipway.test/guarded={namespace}")
    apply(lab, objects)
    try:
        worst = changed(POD, lambda one: container(one).update(image="churn:1.0.0"))
        eventually(lambda: refusal(lab, namespace, worst) != "", 60)
        yield namespace
    finally:
        names = [f"{one['kind'].lower()}/{one['metadata']['name']}" for one in objects]
        kubectl(lab, "delete", "--wait=false", f"namespace/{namespace}", *names)


def test_what_was_applied_past_pulumi_is_held_to_the_rules(lab: Lab, guarded: str) -> None:
    said = {name: refusal(lab, guarded, changed(one, change)) for name, one, change, _ in BAD}

    assert {name: says in said[name] for name, _, _, says in BAD} == dict.fromkeys(said, True), said


def test_what_keeps_to_the_rules_is_taken(lab: Lab, guarded: str) -> None:
    for one in (POD, DEPLOYMENT, SERVICE, SCALER):
        assert refusal(lab, guarded, one) == ""


def test_scaling_by_hand_is_capped_too(lab: Lab, guarded: str) -> None:
    apply(lab, [changed(DEPLOYMENT, lambda one: one["metadata"].update(namespace=guarded))])

    command = ["kubectl", "--namespace", guarded, "scale", "deployment", "one", "--replicas"]
    up = subprocess.run(inside(lab, *command, "4"), capture_output=True, text=True, check=False, timeout=60)
    down = subprocess.run(inside(lab, *command, "0"), capture_output=True, text=True, check=False, timeout=60)

    assert "more than the 3" in up.stderr
    assert down.returncode == 0, down.stderr


def refusal(lab: Lab, namespace: str, one: dict[str, Any]) -> str:
    """What the API server says against an object; empty when it would take it."""
    command = inside(lab, "kubectl", "--namespace", namespace, "create", "--dry-run=server", "--filename", "-")
    done = subprocess.run(command, input=json.dumps(one), capture_output=True, text=True, check=False, timeout=60)
    return done.stderr if done.returncode else ""


def changed(one: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    other = copy.deepcopy(one)
    change(other)
    return other
