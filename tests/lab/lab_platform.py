"""The stack of `platform/addons` in a lab, under names of a test's own: its objects, its keys, its volume."""

import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import yaml
from access_certificates import Authority
from image_base import debian_base
from lab_client import apply, kubectl, lab_command, run

from slipway_lab.state import Lab
from slipway_platform.addons.verdicts import verdicts_url
from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.rendering import render

ROOT = Path(__file__).parents[2]
SLIPWAY = str(ROOT / ".venv/bin/slipway")
CLUSTER = "organization/slipway-cluster/test"
ENFORCE = '"slipway.io/policy": "enforce"'


def push_platform_image(lab: Lab) -> str:
    """The platform's own image into the lab's registry; its reference by digest."""
    program = [str(ROOT / ".venv/bin/python"), str(ROOT / "scripts" / "platform_image.py")]
    command = [*program, "--base", debian_base(), "--platform", "linux/amd64", "--insecure", "--json"]
    subprocess.run(command, check=True, timeout=300, capture_output=True)  # from inside of a lab no index is reached
    command += ["--push", f"{lab.registry}/slipway-platform"]
    reference: str = json.loads(run(lab, *command, timeout_s=300))["reference"]
    return reference


def new_key(name: str, folder: Path) -> Path:
    """A pair of keys to sign with; the private one."""
    subprocess.run([SLIPWAY, "keys", "new", name, "--folder", str(folder)], check=True, timeout=60, capture_output=True)
    return folder / f"{name}.key"


class Platform:
    """The webhook and the verdict service, and the namespaces `home` and `models`.

    Args:
        lab: Where.
        folder: For its files; must be empty.
        image: The platform's.
        policy: Text of `policy.toml`, which knows the keys `release` (bundles) and `gate` (evidence).
    """

    def __init__(self, lab: Lab, folder: Path, image: str, policy: str) -> None:
        self.lab, self.folder, self.image = lab, folder, image
        self.home, self.models = (f"{word}-{uuid.uuid4().hex[:8]}" for word in ("platform", "shop"))
        self.place = folder / "addons"
        shutil.copytree(ROOT / "platform" / "addons", self.place)
        (self.place / "policy.toml").write_text(policy)
        self.release_key, self.gate_key = (new_key(name, self.place) for name in ("release", "gate"))
        self.keys = {scope: self._access(scope) for scope in ("read", "write")}
        self._objects: list[dict[str, Any]] = []

    @property
    def verdicts(self) -> str:
        """URL of the verdict service, as pods reach it."""
        return verdicts_url(ClusterInfo(kind="lab", name="test", registry="r", platform_namespace=self.home))

    def start(self) -> None:
        """Apply everything, and wait for both servers."""
        known = kubectl(self.lab, "get", "crd", "--output=name")
        if "podmonitors." not in known or "prometheusrules." not in known:
            define = lab_command("define", f"--name={self.lab.name}", "prometheus-operator")
            subprocess.run(define, check=True, timeout=240)
        self._objects = self._rendered()
        store = self.folder / "store"
        store.mkdir()
        store.chmod(0o777)
        apply(self.lab, [one for one in self._objects if one["kind"] == "Namespace"])
        apply(self.lab, [*self._secrets(), self._volume(store)])
        apply(self.lab, [one for one in self._objects if one["kind"] != "Namespace"])
        for name in ("slipway-policy", "slipway-verdicts"):
            wait = ("rollout", "status", f"deployment/{name}", f"--namespace={self.home}", "--timeout=170s")
            kubectl(self.lab, *wait, timeout_s=180)

    def stop(self) -> None:
        """What is in no namespace first, so that no webhook that has gone refuses what comes later."""
        gone = [one for one in self._objects if "namespace" not in one["metadata"]]
        names = [f"{one['kind'].lower()}/{one['metadata']['name']}" for one in gone]
        if names:
            kubectl(self.lab, "delete", "--wait=false", f"persistentvolume/{self.home}", *names)

    def _rendered(self) -> list[dict[str, Any]]:
        """What the stack makes; objects of the whole cluster have names of ours, and bind our namespace alone."""
        authority = Authority(self.folder)
        authority.issue("tls", dns=f"slipway-policy.{self.home}.svc")
        config = {
            "cluster": CLUSTER,
            "mode": "external",
            "namespaces": {self.models: {"owner": "test"}},
            "image": self.image,
            "webhook": {"policy": "policy.toml", "ca": str(authority.path), "replicas": 1, "plain_registry": True},
            "verdicts": {"signers": ["gate.pub"]},
        }
        text = yaml.safe_dump({"config": {f"slipway-addons:{key}": value for key, value in config.items()}})
        (self.place / "Pulumi.test.yaml").write_text(text)
        info = {"kind": "lab", "name": "test", "registry": "r", "platform_namespace": self.home}
        made = render("addons", "test", platform=self.folder, references={CLUSTER: {"info": info, "kubeconfig": ""}})
        own = json.dumps(made.bodies).replace(ENFORCE, f'"slipway.io/policy": "enforce-{self.models}"')
        classes = kubectl(self.lab, "get", "priorityclasses", "--output=name")
        objects: list[dict[str, Any]] = [
            one for one in json.loads(own) if one["kind"] != "PriorityClass" or one["metadata"]["name"] not in classes
        ]
        for one in objects:
            if "namespace" not in one["metadata"] and one["kind"] not in {"Namespace", "PriorityClass"}:
                one["metadata"]["name"] = f"{self.models}-{one['metadata']['name']}"
                if "policyName" in one.get("spec", {}):
                    one["spec"]["policyName"] = f"{self.models}-{one['spec']['policyName']}"
        return objects

    def _access(self, scope: str) -> str:
        """A key for the verdict service."""
        command = [SLIPWAY, "access", "key", "new", scope, "--scope", f"verdicts:{scope}"]
        command += ["--keys", str(self.folder / "keys.json")]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def _secrets(self) -> list[dict[str, Any]]:
        """Those that the stacks leave to somebody else."""
        pair = {"tls.crt": (self.folder / "tls.pem").read_text(), "tls.key": (self.folder / "tls.key").read_text()}
        contents = [
            ("slipway-policy-tls", self.home, pair),
            ("slipway-verdicts-keys", self.home, {"keys.json": (self.folder / "keys.json").read_text()}),
            ("slipway-verdicts", self.models, {**self.keys, "signing": self.gate_key.read_text()}),
        ]
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace},
                "stringData": data,
            }
            for name, namespace, data in contents
        ]

    def _volume(self, store: Path) -> dict[str, Any]:
        """The lab has nothing that makes volumes."""
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": self.home},
            "spec": {
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": str(store)},
                "claimRef": {"namespace": self.home, "name": "slipway-verdicts"},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        }
