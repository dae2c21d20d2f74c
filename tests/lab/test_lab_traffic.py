"""Traffic in an incident, on a real controller and router: shown, shifted, isolated, rolled back; nobody is refused."""

import json
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import lab_workloads
import pytest
from lab_client import apply, eventually, get, inside, kubectl, state_of

from slipway_lab.state import Lab

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,
    pytest.mark.needs("skopeo", "mmdebstrap"),
    pytest.mark.timeout(420),
]

STEADY = """
import collections, json, sys, time, urllib.request
seen, stop = collections.Counter(), sys.argv[3]
import os
while not os.path.exists(stop):
    asked = urllib.request.Request(sys.argv[1], headers={"host": sys.argv[2]})
    try:
        seen[json.load(urllib.request.urlopen(asked, timeout=10))["track"]] += 1
    except Exception as error:
        seen["failed: " + str(error)[:80]] += 1
    time.sleep(0.005)
print(json.dumps(seen))
"""


class Shop(NamedTuple):
    """A service of two versions in a namespace, and the ways to look at it."""

    lab: Lab
    namespace: str
    host: str
    images: tuple[str, str]
    """The same pods under two names: versions differ by their image."""

    def slipway(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """A verb inside the lab's network; its document."""
        command = inside(self.lab, sys.executable, "-P", "-m", "slipway_cli", *arguments, "--json")
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def shift(self, target: str, *more: str, status: int = 0) -> dict[str, Any]:
        return self.slipway("traffic", "shift", f"{self.namespace}/shop", "--to", target, *more, status=status)

    def shown(self) -> dict[str, Any]:
        return self.slipway("traffic", "show", f"{self.namespace}/shop")

    def release(self, version: int) -> None:
        apply(self.lab, [rollout(self.namespace, self.images[version], ("stable", "canary")[version])])

    def until(self, phase: str) -> None:
        def is_so() -> bool:
            found = get(self.lab, "-n", self.namespace, "rollout/shop")
            status = found.get("status", {})
            is_seen = status.get("observedGeneration") == str(found["metadata"]["generation"])
            return bool(is_seen and status.get("phase") == phase)

        eventually(is_so, 120, state_of(self.lab, self.namespace))

    def asked(self, count: int) -> dict[str, int]:
        """Who answered that many requests through the router."""
        return lab_workloads.answered(self.lab, self.host, count)

    def reached(self, track: str) -> None:
        """The router follows the controller within two seconds."""
        eventually(lambda: set(self.asked(20)) == {track}, 20, state_of(self.lab, self.namespace))


class Load:
    """Requests all the time, from the start of the block to its end."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self._stop = folder / f"stop-{uuid.uuid4().hex}"
        words = (sys.executable, "-c", STEADY, shop.lab.ingress, shop.host, str(self._stop))
        self._process = subprocess.Popen(inside(shop.lab, *words), stdout=subprocess.PIPE, text=True)
        self.seen: dict[str, int] = {}

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.touch()
        said, _err = self._process.communicate(timeout=30)
        self.seen = json.loads(said)

    @property
    def failed(self) -> dict[str, int]:
        return {what: count for what, count in self.seen.items() if what.startswith("failed")}


def rollout(namespace: str, image: str, track: str) -> dict[str, Any]:
    """10, a person, 30, a person, 50, then all."""
    found = lab_workloads.rollout(namespace, "shop", lab_workloads.pod("shop", image, track=track))
    weights: list[dict[str, Any]] = []
    for weight in (10, 30, 50):
        weights += [{"setWeight": weight}, {"pause": {}}]
    found["spec"]["replicas"] = 2
    found["spec"]["strategy"]["canary"]["steps"] = weights
    found["spec"]["strategy"]["canary"]["maxUnavailable"] = 0
    found["spec"]["strategy"]["canary"]["stableMetadata"] = {"labels": {"slipway.dev/track": "stable"}}
    found["spec"]["strategy"]["canary"]["canaryMetadata"] = {"labels": {"slipway.dev/track": "canary"}}
    return found


@pytest.fixture(scope="module")
def images(lab: Lab) -> tuple[str, str]:
    """Debian's Python, in the lab's registry, in two repositories."""
    if not (lab.registry and lab.ingress):
        pytest.skip("nobody says where images go, or where Traefik is: SLIPWAY_LAB_REGISTRY, SLIPWAY_LAB_INGRESS")
    one, two = (lab_workloads.python_image(lab, f"traffic/{name}") for name in ("one", "two"))
    return one, two


@pytest.fixture
def shop(lab: Lab, namespace: str, images: tuple[str, str]) -> Shop:
    """Version 0 has all traffic; version 1 waits at 10."""
    found = Shop(lab, namespace, f"{uuid.uuid4().hex[:8]}.test", images)
    services = [lab_workloads.service(namespace, f"shop-{arm}", "shop") for arm in ("stable", "canary")]
    apply(lab, [*services, *lab_workloads.route(namespace, "shop", found.host)])
    found.release(0)
    found.until("Healthy")
    found.release(1)
    found.until("Paused")
    return found


def test_traffic_goes_where_a_person_sends_it_and_stays_there(shop: Shop, tmp_path: Path) -> None:
    """Up and down between the weights of the pipeline, held against the controller, and back to stable."""
    with Load(shop, tmp_path) as load:
        before = shop.shown()
        refused = shop.shift("30", status=2)
        up = shop.shift("30", "--reason", "a test")
        eventually(lambda: shop.asked(100).get("canary", 0) > 20, 20)
        at_thirty = shop.asked(500)
        down = shop.shift("10")
        held = shop.shown()
        shop.shift("stable")
        shop.reached("stable")
        after = shop.asked(100)
        shop.shift("pipeline")
        shop.until("Paused")
        again = shop.shown()
        shop.shift("canary", "--reason", "a test")
        shop.reached("canary")
        promoted = shop.asked(100)

    assert (before["arms"]["stable"]["weight"], before["arms"]["canary"]["weight"]) == (90, 10)
    assert before["arms"]["stable"]["ready"] == 2
    assert {arm: one["image"] for arm, one in before["arms"].items()} == {
        "stable": shop.images[0],
        "canary": shop.images[1],
    }
    assert "the gate has not said pass for 30 of 100" in refused["error"]["message"]
    assert (up["is_reached"], down["is_reached"]) == (True, True)
    assert 110 <= at_thirty["canary"] <= 190  # of 500: others take their turns in the same round
    assert (held["rollout"]["is_held"], held["arms"]["canary"]["weight"]) == (True, 10)
    assert after == {"stable": 100}
    assert again["arms"]["canary"]["weight"] == 10
    assert promoted == {"canary": 100}
    assert not load.failed, load.seen


def test_an_isolated_pod_stays_without_traffic_and_is_replaced(shop: Shop, tmp_path: Path) -> None:
    with Load(shop, tmp_path) as load:
        victim = next(one["name"] for one in shop.shown()["pods"] if one["hash"] == shop.shown()["rollout"]["stable"])
        shop.slipway("traffic", "isolate", f"{shop.namespace}/shop", "--pod", victim)
        eventually(lambda: shop.shown()["arms"]["stable"]["ready"] == 2, 60, state_of(shop.lab, shop.namespace))
        left = get(shop.lab, "-n", shop.namespace, "pods", "-l", "slipway.dev/isolated=shop")["items"]
        slices = get(shop.lab, "-n", shop.namespace, "endpointslices", "-l", "kubernetes.io/service-name=shop-stable")

    targets = {point["targetRef"]["name"] for one in slices["items"] for point in one["endpoints"]}
    assert [(one["metadata"]["name"], one["status"]["phase"]) for one in left] == [(victim, "Running")]
    assert victim not in targets
    assert len(targets) == 2
    assert not load.failed, load.seen


def test_one_command_goes_back_to_the_version_before_without_a_refused_request(shop: Shop, tmp_path: Path) -> None:
    """Promoted, and found bad: the stack file and the cluster say the version before within half a minute."""
    stacks = promoted(shop, tmp_path)

    with Load(shop, tmp_path) as load:
        began = time.monotonic()
        said = shop.slipway("rollback", "shop", "--env", "lab", "--stacks", str(stacks), "--now", "--reason", "bad")
        told_s = time.monotonic() - began
        shop.reached("stable")
        took_s = time.monotonic() - began
        after = shop.asked(100)

    shown = shop.shown()
    assert said["image"] == shop.images[0]
    assert after == {"stable": 100}
    assert shown["arms"]["stable"]["image"] == shop.images[0]
    assert not shown["rollout"]["steps"] or shown["rollout"]["stable"] == shown["rollout"]["current"]
    assert shop.images[0] in (stacks / "Pulumi.lab.yaml").read_text()
    assert len((stacks / "releases.jsonl").read_text().splitlines()) == 2
    assert not load.failed, load.seen
    assert took_s < 30.0
    sys.stdout.write(f"rolled back in {took_s:.1f} s (said in {told_s:.1f}), {load.seen} answered, none failed\n")


def test_a_rollback_that_the_controller_forgets_is_told_again(shop: Shop, tmp_path: Path) -> None:
    """What it was told to promote is gone from the status before its pods are ready, as it was seen to be."""
    stacks = promoted(shop, tmp_path)
    rollout, forgotten = ("-n", shop.namespace, "rollout/shop"), '{"status":{"promoteFull":null}}'

    with ThreadPoolExecutor() as threads:
        words = ("rollback", "shop", "--env", "lab", "--stacks", str(stacks), "--now", "--reason", "bad")
        said = threads.submit(shop.slipway, *words)
        eventually(lambda: bool(get(shop.lab, *rollout)["status"].get("promoteFull")), 60)
        kubectl(shop.lab, "patch", *rollout, "--subresource=status", "--type=merge", "-p", forgotten)

    assert said.result()["image"] == shop.images[0]
    shop.reached("stable")


def promoted(shop: Shop, folder: Path) -> Path:
    """The canary is stable; the folder of a stack file that says so, and of the record of what was before."""
    shop.shift("canary", "--reason", "a test")
    shop.until("Healthy")
    stacks = folder / "stacks"
    stacks.mkdir()
    (stacks / "Pulumi.lab.yaml").write_text(
        f"config:\n  slipway-services:namespace: {shop.namespace}\n  slipway-services:services:\n"
        f"    - name: shop # ours\n      image: {shop.images[1]}\n"
    )
    record = {"kind": "promote", "service": "shop", "environment": "lab", "by": "ann", "at": "2026-11-22T10:00:00Z"}
    record |= {"image": shop.images[1], "before": shop.images[0]}
    (stacks / "releases.jsonl").write_text(json.dumps(record) + "\n")
    return stacks
