"""A service that is released in a lab under load: what Pulumi's programs make is applied, and what follows is watched.

The invariants: between two versions nothing is applied but what the program makes otherwise, as Pulumi would; what is
told of a release was seen from outside (the Rollout, the users, the pods' own counters, Alertmanager, the verdict
service).
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import yaml
from lab_client import eventually, get, kubectl, run, state_of
from lab_platform import CLUSTER, ROOT, Platform, push_platform_image
from lab_versions import Version, Versions
from lab_watching import USERS_A_SECOND, Counted, Moment, Users, Watcher, counted, is_failure

from slipway_lab.state import Lab
from slipway_platform.rendering import render

POLICY: Final = """
[keys.release]
file = "release.pub"

[signatures]
by = ["release"]

[admission]
exempt = ["{registry}/slipway-platform"]
"""
ABORTED: Final = "SlipwayReleaseAborted"
WARM: Final = 5 * USERS_A_SECOND
CALM: Final = 30 * USERS_A_SECOND
ROUTER_S: Final = 3.0
"""After which the router has followed the controller."""
LIMIT_S: Final = 420.0
HASH: Final = "rollouts-pod-template-hash"
TAIL: Final = 0.99


class Outcome(NamedTuple):
    """What became of a version."""

    version: Version
    phase: str
    message: str
    pod_hash: str
    began: float
    """Unix seconds; when its stack was applied."""
    reached: dict[int, float]
    """Weight of the canary, percent -> when users were first sent there by it (Unix seconds)."""
    ended: float
    users: int
    failed: int
    """Of the users' requests, whoever answered."""
    stable_failed: float
    """Of those, by the counters of stable's pods."""
    stable_p99_s: float
    """By its own histogram."""
    calm_p99_s: float
    """Of stable in the half minute before."""
    evidence: tuple[dict[str, Any], ...]
    """Of its pods, the last stage first, as the verdict service has it."""

    @property
    def weight(self) -> int:
        """Of the canary at most."""
        return max(self.reached, default=0)

    @property
    def detected_s(self) -> float | None:
        """From the first users to the end; None: it had none."""
        return self.ended - min(self.reached.values()) if self.reached else None


class Shop:
    """Churn on the platform, with its users."""

    def __init__(self, lab: Lab, platform: Platform, folder: Path) -> None:
        self.lab, self.platform, self.namespace = lab, platform, platform.models
        self.host = f"{self.namespace}.lab"
        self.versions = Versions(lab, folder, platform.release_key, f"{self.namespace}/churn")
        self.outcomes: list[Outcome] = []
        self._folder, self._applied = folder, dict[str, dict[str, Any]]()
        self._images: dict[str, str] = {}
        self._users: Users | None = None
        self._watcher: Watcher | None = None
        self._rules = self._load_rules()

    def open(self, version: Version) -> None:
        """The first version, which nothing is compared with; users come when it is up."""
        self.apply(version)
        self._until(lambda: bool(self._rollout()["status"].get("phase") == "Healthy"), LIMIT_S)
        self._watcher = Watcher(self.lab, self.namespace)
        self._users = Users(self.lab, self.host, self._folder)
        self._until(lambda: len(self.users.seen()) > WARM, 60)

    def close(self) -> None:
        """Users first."""
        for one in (self._users, self._watcher):
            if one is not None:
                one.stop()
        for rule in self._rules:
            rule.unlink()
        self._prometheus("-X", "POST", "/-/reload")

    @property
    def users(self) -> Users:
        assert self._users is not None
        return self._users

    @property
    def watcher(self) -> Watcher:
        assert self._watcher is not None
        return self._watcher

    def apply(self, version: Version) -> str:
        """What `pulumi up` does after the digest in the stack's file was changed; the image."""
        image = self.published(version)
        objects = {_name(one): one for one in self._rendered(image)}
        changed = [one for name, one in objects.items() if self._applied.get(name) != one]
        self._send(changed)
        self._applied = objects
        return image

    def published(self, version: Version) -> str:
        """In the registry; the image."""
        if version.name not in self._images:
            self._images[version.name] = self.versions.publish(version)
        return self._images[version.name]

    def release(self, version: Version, meanwhile: Callable[[], None] | None = None) -> Outcome:
        """Apply it, do what is to happen meanwhile, wait for its end, and say what was seen until then."""
        self.published(version)  # a build has the processors of the cluster here, and is no part of a release
        stable = self.stable()
        calm = self._calm(stable)
        before, began = self._counted(stable), time.time()
        image = self.apply(version)
        if meanwhile is not None:
            meanwhile()
        self._until(lambda: any(_is_over(one) for one in self.watcher.since(began, image)), LIMIT_S)
        moments = self.watcher.since(began, image)
        last = next(one for one in moments if _is_over(one))
        until = last.at + ROUTER_S
        self._until(lambda: self.users.seen()[-1][0] > until, 30)
        counted = self._counted(stable).since(before)
        seen = [one for one in self.users.seen() if began <= one[0] <= until]
        outcome = Outcome(
            version=version,
            phase=last.phase,
            message=last.message,
            pod_hash=last.pod_hash,
            began=began,
            reached=_reached(moments),
            ended=last.at,
            users=len(seen),
            failed=sum(is_failure(status) for _, _, status in seen),
            stable_failed=counted.failed,
            stable_p99_s=counted.quantile(TAIL),
            calm_p99_s=calm.quantile(TAIL),
            evidence=tuple(self._evidence(last.pod_hash)),
        )
        self.outcomes.append(outcome)
        return outcome

    def stable(self) -> str:
        """The hash of the pods that are stable."""
        found: str = self._rollout()["status"]["stableRS"]
        return found

    def back_to(self, version: Version) -> None:
        """The former digest is put back into the stack's file; what was told of the other is over."""
        began = time.time()
        image = self.apply(version)
        self._until(lambda: any(one.phase == "Healthy" for one in self.watcher.since(began, image)), 120)
        eventually(lambda: ABORTED not in self.alerts(), 60, lambda: str(self.alerts()))

    def alerts(self) -> dict[str, dict[str, str]]:
        """Firing at Alertmanager, about this namespace or a service: name -> labels."""
        said = run(self.lab, "curl", "--silent", "--fail", f"{self.lab.alertmanager}/api/v2/alerts?active=true")
        return {one["labels"]["alertname"]: one["labels"] for one in json.loads(said)}

    def until_alert(self, name: str, timeout_s: float = 60) -> dict[str, str]:
        """Its labels, once it fires."""
        eventually(lambda: name in self.alerts(), timeout_s, lambda: str(self.alerts()))
        return self.alerts()[name]

    def verdicts(self, path: str) -> str:
        """What the verdict service answers to a question of a rollout's."""
        url = f"{self.platform.verdicts}/{path}"
        key = f"Authorization: Bearer {self.platform.keys['read']}"
        return run(self.lab, "curl", "--silent", "--fail", "--header", key, url)

    def _evidence(self, pod_hash: str) -> list[dict[str, Any]]:
        listed = json.loads(self.verdicts(f"verdicts?rollout={quote(self.namespace + '/churn')}"))
        return [one for one in listed["verdicts"] if one["stage"]["pod_hash"] == pod_hash]

    def _rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = get(self.lab, f"--namespace={self.namespace}", "rollout/churn")
        return {"status": {}, **found}

    def _calm(self, pod_hash: str) -> Counted:
        """By the pods of a version while nothing happens."""
        before, seen = self._counted(pod_hash), len(self.users.seen())
        self._until(lambda: len(self.users.seen()) > seen + CALM, 120)
        return self._counted(pod_hash).since(before)

    def _counted(self, pod_hash: str) -> Counted:
        """By the pods of a version themselves."""
        selector = f"--selector={HASH}={pod_hash}"
        total = Counted(0.0, {})
        for pod in get(self.lab, f"--namespace={self.namespace}", "pods", selector)["items"]:
            page = run(self.lab, "curl", "--silent", "--fail", f"http://{pod['status']['podIP']}:8002/metrics")
            total = total.plus(counted(page))
        return total

    def _rendered(self, image: str) -> list[dict[str, Any]]:
        """The lab's stack, with this image, in this namespace; weights are Argo's after the first time."""
        place = self._folder / "services" / "platform"
        if not place.exists():
            shutil.copytree(ROOT / "platform" / "services", place / "services")
            for shared in ("services", "observability"):
                (place.parent / shared).symlink_to(ROOT / shared)
        file = ROOT / "platform" / "services" / "Pulumi.lab.yaml"
        config = yaml.safe_load(file.read_text())["config"]
        own = {
            "cluster": CLUSTER,
            "namespace": self.namespace,
            "platform_image": self.platform.image,
            "verdicts": self.platform.verdicts,
            "keys": {"signs": True},
        }
        config |= {f"slipway-services:{name}": value for name, value in own.items()}
        service = config["slipway-services:services"][0]
        service["image"] = image
        service["ingress"]["host"] = self.host
        service["hpa"] = None  # two processors have room for one release and nothing else
        (place / "services" / "Pulumi.test.yaml").write_text(yaml.safe_dump({"config": config}))
        info = {"kind": "lab", "name": "test", "registry": self.lab.registry, "prometheus_url": self.lab.prometheus}
        made = render("services", "test", platform=place, references={CLUSTER: {"info": info, "kubeconfig": ""}})
        return list(made.bodies)

    def _send(self, objects: list[dict[str, Any]]) -> None:
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        verb = ("apply", "--server-side", "--field-manager=slipway", "--validate=strict", "--filename=-")
        kubectl(self.lab, *verb, text=document)

    def _load_rules(self) -> list[Path]:
        """The rules of the repository, in the lab's Prometheus."""
        own = [
            path for path in (ROOT / "observability" / "rules").glob("*.yaml") if not path.name.startswith("documents")
        ]
        folder = Path(self.lab.rules)
        made = [Path(shutil.copy(path, folder / f"{self.namespace}-{path.name}")) for path in own]
        self._prometheus("-X", "POST", "/-/reload")
        return made

    def _prometheus(self, *words: str) -> str:
        *options, path = words
        return run(self.lab, "curl", "--silent", "--fail", *options, f"{self.lab.prometheus}{path}")

    def _until(self, claim: Callable[[], bool], timeout_s: float) -> None:
        eventually(claim, timeout_s, state_of(self.lab, self.namespace))


@contextmanager
def opened(lab: Lab, folder: Path, first: Version) -> Iterator[Shop]:
    """The platform, churn's first version, and its users; all of it is gone afterwards."""
    platform = Platform(lab, folder, push_platform_image(lab), POLICY.format(registry=lab.registry))
    try:
        platform.start()
        shop = Shop(lab, platform, folder)
        try:
            shop.open(first)
            yield shop
        finally:
            shop.close()
    finally:
        platform.stop()


def _name(one: dict[str, Any]) -> str:
    return f"{one['kind']}/{one['metadata'].get('namespace', '')}/{one['metadata']['name']}"


def _reached(moments: list[Moment]) -> dict[int, float]:
    found: dict[int, float] = {}
    for one in moments:
        if one.weight > 0:
            found.setdefault(one.weight, one.at)
    return found


def _is_over(moment: Moment) -> bool:
    return moment.phase == "Degraded" or (moment.phase == "Healthy" and moment.pod_hash == moment.stable_hash)
