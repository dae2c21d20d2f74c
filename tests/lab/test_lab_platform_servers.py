"""The add-ons stack on a real cluster: its objects are taken, and its servers do what they are there for."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from access_certificates import Authority
from image_base import debian_base
from lab_client import apply, eventually, inside, kubectl, run, state_of

from slipway_lab.state import Lab
from slipway_platform.rendering import render

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600), pytest.mark.needs("mmdebstrap")]

ROOT = Path(__file__).parents[2]
SLIPWAY = str(ROOT / ".venv/bin/slipway")
CLUSTER = "organization/slipway-cluster/test"
ENFORCE = '"slipway.io/policy": "enforce"'
POLICY = """
[keys.release]
file = "release.pub"

[signatures]
by = ["release"]

[admission]
exempt = ["exempt.example.com/*"]
"""


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    """The platform's own image, in the lab's registry."""
    if not lab.namespace:
        pytest.skip("KUBECONFIG names a cluster that is not a lab: there is no registry to push to")
    program = [str(ROOT / ".venv/bin/python"), str(ROOT / "scripts" / "platform_image.py")]
    options = ["--base", debian_base(), "--platform", "linux/amd64", "--insecure", "--json"]
    command = [*program, *options, "--push", f"{lab.registry}/slipway-platform"]
    reference: str = json.loads(run(lab, *command, timeout_s=300))["reference"]
    return reference


@pytest.fixture(scope="module")
def platform(lab: Lab, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """The stack, under names of its own: the platform's namespace, that of models, and a key of the verdict service."""
    home, models = (f"{word}-{uuid.uuid4().hex[:8]}" for word in ("platform", "models"))
    folder = tmp_path_factory.mktemp("platform")
    objects = rendered(folder, home, models, image)
    key, secrets = credentials(folder, home)
    (folder / "store").mkdir(mode=0o777)
    (folder / "store").chmod(0o777)
    try:
        apply(lab, [one for one in objects if one["kind"] == "Namespace"])
        apply(lab, [*secrets, volume(folder / "store", home)])
        apply(lab, [one for one in objects if one["kind"] != "Namespace"])
        for name in ("slipway-policy", "slipway-verdicts"):
            wait = ("rollout", "status", f"deployment/{name}", f"--namespace={home}", "--timeout=170s")
            kubectl(lab, *wait, timeout_s=180)
        yield home, models, key
    finally:
        gone = [one for one in objects if "namespace" not in one["metadata"]]
        names = [f"{one['kind'].lower()}/{one['metadata']['name']}" for one in gone]
        kubectl(lab, "delete", "--wait=false", f"persistentvolume/{home}", *names)


def test_a_rollout_is_told_what_is_known_and_nobody_else_is(lab: Lab, platform: tuple[str, str, str]) -> None:
    home, _, key = platform
    url = f"http://slipway-verdicts.{home}.svc:8010/verdict?rollout=shop/churn&pod_hash=abc&stage=10"

    # A Service answers a moment after its pod is ready.
    patience = ("--retry", "20", "--retry-all-errors", "--retry-delay", "1")
    answer = json.loads(run(lab, "curl", "--silent", *patience, "--header", f"Authorization: Bearer {key}", url))
    stranger = run(lab, "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url)

    assert answer["verdict"] == "inconclusive"
    assert stranger == "401"


def test_what_policy_toml_does_not_allow_never_runs(lab: Lab, platform: tuple[str, str, str], image: str) -> None:
    _, models, _ = platform
    digest = image.partition("@")[2]

    eventually(lambda: refusal(lab, models, f"exempt.example.com/tool@{digest}") == "", 30, state_of(lab, models))
    unsigned = refusal(lab, models, image)
    by_tag = refusal(lab, models, "exempt.example.com/tool:1.0.0")

    assert 'admission webhook "policy.slipway.io" denied the request' in unsigned
    assert "https" not in unsigned  # it was read; what is in it is no signed bundle
    assert "named by tag: exempt.example.com/tool:1.0.0" in by_tag


def rendered(folder: Path, home: str, models: str, image: str) -> list[dict[str, Any]]:
    """What the stack makes; objects of the whole cluster have names of the test's, and bind its namespace alone."""
    place = folder / "addons"
    shutil.copytree(ROOT / "platform" / "addons", place)
    authority = Authority(folder)
    authority.issue("tls", dns=f"slipway-policy.{home}.svc")
    (place / "policy.toml").write_text(POLICY)
    subprocess.run([SLIPWAY, "keys", "new", "release", "--folder", str(place)], check=True, timeout=60)
    config = {
        "cluster": CLUSTER,
        "mode": "external",
        "namespaces": {models: {"owner": "test"}},
        "image": image,
        "webhook": {"policy": "policy.toml", "ca": str(authority.path), "replicas": 1, "plain_registry": True},
        "verdicts": {"signers": ["release.pub"]},
    }
    text = yaml.safe_dump({"config": {f"slipway-addons:{key}": value for key, value in config.items()}})
    (place / "Pulumi.test.yaml").write_text(text)
    info = {"kind": "lab", "name": "test", "registry": "r", "platform_namespace": home}
    made = render("addons", "test", platform=folder, references={CLUSTER: {"info": info, "kubeconfig": ""}})
    own = json.dumps(made.bodies).replace(ENFORCE, f'"slipway.io/policy": "enforce-{models}"')
    objects: list[dict[str, Any]] = [one for one in json.loads(own) if one["kind"] != "PriorityClass"]
    for one in objects:
        if "namespace" not in one["metadata"] and one["kind"] != "Namespace":
            one["metadata"]["name"] = f"{models}-{one['metadata']['name']}"
            if "policyName" in one.get("spec", {}):
                one["spec"]["policyName"] = f"{models}-{one['spec']['policyName']}"
    return objects


def credentials(folder: Path, home: str) -> tuple[str, list[dict[str, Any]]]:
    """A key that may ask, and the Secrets that the stack leaves to somebody else."""
    command = [
        SLIPWAY,
        "access",
        "key",
        "new",
        "rollouts",
        "--scope",
        "verdicts:read",
        "--keys",
        str(folder / "keys.json"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    pair = {"tls.crt": (folder / "tls.pem").read_text(), "tls.key": (folder / "tls.key").read_text()}
    contents = {"slipway-policy-tls": pair, "slipway-verdicts-keys": {"keys.json": (folder / "keys.json").read_text()}}
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": home}, "stringData": data}
        for name, data in contents.items()
    ]
    return done.stdout.strip(), secrets


def volume(place: Path, home: str) -> dict[str, Any]:
    """The lab has nothing that makes volumes."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": home},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(place)},
            "claimRef": {"namespace": home, "name": "slipway-verdicts"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }


def refusal(lab: Lab, namespace: str, image: str) -> str:
    """What the API server says against a pod of that image; empty when it would take it."""
    amounts = {"cpu": "10m", "memory": "16Mi"}
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "one",
        "image": image,
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": security,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"containers": [container]}}
    command = inside(lab, "kubectl", f"--namespace={namespace}", "create", "--dry-run=server", "--filename=-")
    done = subprocess.run(command, input=json.dumps(pod), capture_output=True, text=True, check=False, timeout=60)
    return done.stderr if done.returncode else ""
