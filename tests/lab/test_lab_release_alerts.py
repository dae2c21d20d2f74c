"""The alerts about releases, fired by the real controller, and the commands of their pages, run while they fire.

The rules and the routes are those that are generated, sixty times as fast; Alertmanager says who would hear of it.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lab_workloads
import pytest
from lab_client import apply, eventually, get, kubectl, lab_command, run, state_of
from slo_files import AVAILABILITY, read

from slipway_lab.state import Lab
from slipway_signals.runbooks import fill, load_runbooks
from slipway_signals.slo.compile import compile_all
from slipway_signals.slo.promrules import Timing

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,
    pytest.mark.needs("skopeo", "mmdebstrap"),
    pytest.mark.timeout(420),
]

ROOT: Final = Path(__file__).parents[2]
SCALE: Final = 60
"""Half an hour is half a minute; Prometheus scrapes each 5 s."""
SERVICE: Final = "shop"
TOLD_S: Final = 90
IN_A_CLUSTER: Final = "slipway traffic "
PAGES: Final = load_runbooks(ROOT / "runbooks")
MISSING: Final = "none@sha256:" + "0" * 64


class Shop:
    """A service that is released in a namespace of its own, and what Alertmanager has heard of it."""

    def __init__(self, lab: Lab, namespace: str, images: tuple[str, str]) -> None:
        self.lab, self.namespace, self.images = lab, namespace, images
        self.typed: set[str] = set()
        """Commands of pages that were run, as they are written."""

    def release(self, image: str) -> None:
        """10, a person, 50, a person, then all; ten seconds for its pods to be ready, else it is aborted."""
        found = lab_workloads.rollout(self.namespace, SERVICE, lab_workloads.pod(SERVICE, image))
        found["spec"] |= {"progressDeadlineSeconds": 10, "progressDeadlineAbort": True}
        steps: list[dict[str, Any]] = [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
        found["spec"]["strategy"]["canary"]["steps"] = steps
        apply(self.lab, [found])

    def until(self, phase: str) -> None:
        """What the object itself says."""

        def is_so() -> bool:
            found = get(self.lab, "-n", self.namespace, f"rollout/{SERVICE}")
            status = found.get("status", {})
            is_seen = status.get("observedGeneration") == str(found["metadata"]["generation"])
            return bool(is_seen and status.get("phase") == phase)

        eventually(is_so, 120, state_of(self.lab, self.namespace))

    def weight(self) -> int:
        """What the controller has given the canary, of 100."""
        status = get(self.lab, "-n", self.namespace, f"rollout/{SERVICE}")["status"]
        return int(status.get("canary", {}).get("weights", {}).get("canary", {}).get("weight", 0))

    def alerts(self) -> dict[str, dict[str, Any]]:
        """What holds now, by name."""
        found = json.loads(run(self.lab, "curl", "-fsS", f"{self.lab.alertmanager}/api/v2/alerts?active=true"))
        return {one["labels"]["alertname"]: one for one in found}

    def told(self, name: str) -> dict[str, Any]:
        """The alert, as soon as Alertmanager has it."""
        eventually(lambda: name in self.alerts(), TOLD_S, self._said)
        return self.alerts()[name]

    def quiet(self, *names: str) -> None:
        """Until Alertmanager has none of them."""
        eventually(lambda: not set(names) & set(self.alerts()), TOLD_S, self._said)

    def typed_from(self, page: str, *words: str) -> str:
        """The command of a page with these words, filled in as for whoever reads it while the alert holds."""
        [command] = {one for one in commands(page) if all(word in one for word in words)}
        labels = self.told(page)["labels"]
        own = fill(command, labels, into="sh").replace("slipway", f"{shlex.quote(sys.executable)} -P -m slipway_cli", 1)
        self.typed.add(command)
        return run(self.lab, "bash", "-euc", f"{own} 2>&1", timeout_s=120)

    def _said(self) -> str:
        asked = f"{self.lab.prometheus}/api/v1/query?query=rollout_info"
        said = run(self.lab, "curl", "-sS", asked)
        return f"{sorted(self.alerts())}\n{said[-1500:]}\n{state_of(self.lab, self.namespace)()}"


def commands(page: str) -> set[str]:
    """What a page has people type that asks a cluster."""
    found = PAGES[page]
    blocks = [block for section in found.sections for block in found.commands(section.heading)]
    blocks += [cause.command for cause in found.causes if cause.command]
    return {line for block in blocks for line in block.splitlines() if line.startswith(IN_A_CLUSTER)}


@pytest.fixture(scope="module")
def rules(own_lab: Lab) -> Iterator[Lab]:
    """A lab that judges by our rules and routes; gone afterwards."""
    files = compile_all(
        [read(AVAILABILITY.replace("churn", SERVICE))], timing=Timing(SCALE), webhook="http://10.230.0.1:9"
    )
    routes = Path(own_lab.folder) / "alertmanager" / "alertmanager.yaml"
    before = routes.read_text()
    chosen = {f"rules/{SERVICE}.operation.yaml", "rules/monitoring.yaml"}
    placed = {Path(own_lab.rules) / f"release-alerts-{Path(name).name}": files[name] for name in chosen}
    for path, text in placed.items():
        path.write_text(text)
    routes.write_text(files["alertmanager/alertmanager.yaml"])
    reload(own_lab)
    yield own_lab
    for path in placed:
        path.unlink()
    routes.write_text(before)
    reload(own_lab)


def reload(lab: Lab) -> None:
    """Both read their files again."""
    for url in (lab.prometheus, lab.alertmanager):
        run(lab, "curl", "-fsS", "-X", "POST", f"{url}/-/reload")


@pytest.fixture(scope="module")
def shop(rules: Lab) -> Iterator[Shop]:
    """Its first version has all traffic, and nobody is told of anything."""
    one, two = (lab_workloads.python_image(rules, f"alerts/{name}") for name in ("one", "two"))
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    kubectl(rules, "create", "namespace", namespace)
    found = Shop(rules, namespace, (one, two))
    services = [lab_workloads.service(namespace, f"{SERVICE}-{arm}", SERVICE) for arm in ("stable", "canary")]
    apply(rules, [*services, *lab_workloads.route(namespace, SERVICE, f"{namespace}.test")])
    found.release(one)
    found.until("Healthy")
    found.quiet("SlipwayServiceDown", "SlipwayReleaseAborted", "SlipwayReleaseWaits", "SlipwayRolloutsSilent")
    yield found
    kubectl(rules, "delete", "namespace", namespace, "--wait=false")


def test_a_release_that_cannot_be_pulled_is_told_to_its_owner_until_a_good_one_is_there(shop: Shop) -> None:
    shop.release(f"{shop.lab.registry}/{MISSING}")
    told = shop.told("SlipwayReleaseAborted")
    shown = shop.typed_from("SlipwayReleaseAborted", "show")
    shop.release(shop.images[0])
    shop.quiet("SlipwayReleaseAborted")
    shop.until("Healthy")

    labels = {"namespace": shop.namespace, "service": SERVICE, "severity": "ticket", "owner": "team-shop"}
    assert labels.items() <= told["labels"].items()
    assert [one["name"] for one in told["receivers"]] == ["ticket-team-shop"]
    assert told["status"]["inhibitedBy"] == told["status"]["silencedBy"] == []
    assert shop.namespace in told["annotations"]["description"]
    assert "Degraded" in shown
    assert "100" in shown


def test_a_release_that_stands_still_is_told_and_goes_where_its_page_says(shop: Shop) -> None:
    """Waits for a person, who lets it go on, stops it, begins it again, and gives it up."""
    shop.release(shop.images[1])
    shop.until("Paused")
    waits = shop.told("SlipwayReleaseWaits")
    shown = shop.typed_from("SlipwayReleaseWaits", "show")
    shop.typed_from("SlipwayReleaseWaits", "--to pipeline")
    eventually(lambda: shop.weight() == 50, 60, state_of(shop.lab, shop.namespace))
    shop.typed_from("SlipwayReleaseWaits", "--to stable")
    stopped = shop.told("SlipwayReleaseAborted")
    shop.quiet("SlipwayReleaseWaits")
    shop.typed_from("SlipwayReleaseAborted", "--to pipeline")
    shop.quiet("SlipwayReleaseAborted")
    shop.until("Paused")
    shop.release(shop.images[0])
    shop.quiet("SlipwayReleaseAborted", "SlipwayReleaseWaits")

    for alert in (waits, stopped):
        assert (alert["labels"]["namespace"], alert["labels"]["service"]) == (shop.namespace, SERVICE)
        assert [one["name"] for one in alert["receivers"]] == ["ticket-team-shop"]
    assert "step 2 of 4" in shown


def test_every_command_of_these_pages_that_asks_a_cluster_was_run(shop: Shop) -> None:
    """Other tests leave them out: they have no cluster. The two before this one ran them."""
    assert shop.typed == {command for page in PAGES for command in commands(page)}


def test_that_nobody_hears_of_releases_is_told(shop: Shop) -> None:
    """A controller that hangs: it is there, and says nothing."""
    with hanging(shop.lab, "rollouts-controller"):
        told = shop.told("SlipwayRolloutsSilent")
    shop.quiet("SlipwayRolloutsSilent")

    assert [one["name"] for one in told["receivers"]] == ["ticket-platform"]
    assert "cannot fire" in told["annotations"]["description"]


@contextmanager
def hanging(lab: Lab, program: str) -> Iterator[None]:
    """A program of the lab does nothing for the length of a `with` block."""
    status = subprocess.run(
        lab_command("--json", "status", f"--name={lab.name}"), capture_output=True, check=True, timeout=60
    )
    [pid] = [one["pid"] for one in json.loads(status.stdout)["programs"] if one["name"] == program]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
