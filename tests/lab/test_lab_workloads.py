"""What runs in a lab is real: pods under limits, names, autoscaling, exact weights, a canary that a Job judges."""

import collections
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lab_client
import lab_workloads
import pytest
from lab_client import apply, eventually, get, inside, kubectl, run, state_of

from slipway_lab.state import Lab

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,
    pytest.mark.needs("skopeo", "mmdebstrap"),
    pytest.mark.timeout(420),
]


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    """Debian's Python, in the lab's registry, by digest."""
    if not lab.registry:
        pytest.skip("SLIPWAY_LAB_REGISTRY does not say where images go")
    return lab_workloads.python_image(lab, "test/python")


@pytest.fixture
def ready(lab: Lab, namespace: str) -> Callable[[str, int], float]:
    """Waits until a Deployment has so many ready pods; the seconds that took."""

    def wait(name: str, count: int) -> float:
        def is_ready() -> bool:
            status = get(lab, "-n", namespace, f"deployment/{name}")["status"]
            return bool(status.get("readyReplicas", 0) == count == status.get("replicas"))

        return eventually(is_ready, 120, state_of(lab, namespace))

    return wait


def test_the_node_is_ready_and_of_the_pinned_version(own_lab: Lab) -> None:
    node = get(own_lab, f"node/{own_lab.node}")

    assert {"type": "Ready", "status": "True"}.items() <= node["status"]["conditions"][-1].items()
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"


def test_a_deployment_answers_by_address_and_name_as_nobody_on_a_read_only_root(
    lab: Lab, namespace: str, image: str, ready: Callable[[str, int], float]
) -> None:
    template = lab_workloads.pod("echo", image)
    apply(
        lab,
        [
            lab_workloads.deployment(namespace, "echo", template, 2),
            lab_workloads.service(namespace, "echo", "echo"),
        ],
    )
    ready("echo", 2)

    address = get(lab, "-n", namespace, "service/echo")["spec"]["clusterIP"]

    def answers() -> list[dict[str, Any]]:
        patience = ("--retry", "20", "--retry-all-errors", "--retry-delay", "1")
        asked = run(lab, "curl", "-sS", *patience, "-w", "\n", *[f"http://{address}:8000/?{n}" for n in range(20)])
        return [json.loads(line) for line in asked.splitlines()]

    # A Service answers, and sends to a pod, a moment after it is ready.
    eventually(lambda: len({answer["pod"] for answer in answers()}) == 2, 20, state_of(lab, namespace))
    by_address = answers()
    ask = f"import urllib.request as u; print(u.urlopen('http://echo.{namespace}.svc:8000/').read().decode())"
    by_name = kubectl(lab, "-n", namespace, "exec", "deployment/echo", "--", lab_workloads.PYTHON, "-c", ask)

    assert {answer["uid"] for answer in by_address} == {65532}
    assert {answer["wrote"] for answer in by_address} == {"Read-only file system"}
    assert json.loads(by_name)["uid"] == 65532
    assert kubectl(lab, "-n", namespace, "logs", "deployment/echo").strip() == "serves"


def test_prometheus_finds_pods_and_labels_them_as_rules_ask_for_them(
    own_lab: Lab, namespace: str, image: str, ready: Callable[[str, int], float]
) -> None:
    apply(own_lab, [lab_workloads.deployment(namespace, "seen", lab_workloads.pod("seen", image), 1)])
    ready("seen", 1)

    def found() -> list[dict[str, Any]]:
        query = f'asked_total{{namespace="{namespace}"}}'
        asked = ("--get", "--data-urlencode", f"query={query}", f"{own_lab.prometheus}/api/v1/query")
        result: list[dict[str, Any]] = json.loads(run(own_lab, "curl", "-sS", *asked))["data"]["result"]
        return result

    eventually(lambda: len(found()) == 1, 60)
    labels = found()[0]["metric"]
    assert labels["service"] == "seen"
    assert labels["pod"].startswith("seen-")
    assert labels["job"] == "slipway"


@pytest.mark.needs("wrk")
def test_an_autoscaler_grows_stops_at_its_cap_and_shrinks(
    lab: Lab, namespace: str, image: str, ready: Callable[[str, int], float]
) -> None:
    apply(
        lab,
        [
            lab_workloads.deployment(namespace, "busy", lab_workloads.pod("busy", image), 1),
            lab_workloads.service(namespace, "busy", "busy"),
            lab_workloads.autoscaler(namespace, "busy", 3),
        ],
    )
    ready("busy", 1)
    address = get(lab, "-n", namespace, "service/busy")["spec"]["clusterIP"]
    seen: collections.Counter[int] = collections.Counter()

    def replicas() -> int:
        count = int(get(lab, "-n", namespace, "deployment/busy")["status"].get("replicas", 0))
        seen[count] += 1
        return count

    with _running(inside(lab, "wrk", "-t1", "-c8", "-d150s", f"http://{address}:8000/")):
        eventually(lambda: replicas() == 3, 100, state_of(lab, namespace))
        wanted = get(lab, "-n", namespace, "hpa/busy")["status"]["desiredReplicas"]
    eventually(lambda: replicas() == 1, 120, state_of(lab, namespace))

    assert wanted == 3
    assert max(seen) == 3


def test_a_weight_of_ten_splits_exactly_and_a_job_lets_the_canary_through(lab: Lab, namespace: str, image: str) -> None:
    if not lab.ingress:
        pytest.skip("SLIPWAY_LAB_INGRESS does not say where Traefik is")
    host = f"{uuid.uuid4().hex[:8]}.test"
    told = f"import urllib.request as u; u.urlopen('http://shop-canary.{namespace}.svc:8000/').read()"
    apply(
        lab,
        [
            *(lab_workloads.service(namespace, f"shop-{arm}", "shop") for arm in ("stable", "canary")),
            *lab_workloads.route(namespace, "shop", host),
            lab_workloads.job_analysis(namespace, image, told),
            lab_workloads.rollout(namespace, "shop", lab_workloads.pod("shop", image)),
        ],
    )
    _until(lab, namespace, "Healthy")
    apply(lab, [lab_workloads.rollout(namespace, "shop", lab_workloads.pod("shop", image, track="canary"))])
    _until(lab, namespace, "Paused")
    split = ("curl", "-sS", "-o", "/dev/null", "-H", f"host: {host}", lab.ingress)
    eventually(lambda: run(lab, *split) == "", 20)

    asked = lab_workloads.answered(lab, host, 1000)
    promote = ("patch", "rollout/shop", "--subresource=status", "--type=merge", "-p")
    kubectl(lab, "-n", namespace, *promote, '{"status":{"pauseConditions":null}}')
    _until(lab, namespace, "Healthy")

    assert asked == {"stable": 900, "canary": 100}
    (analysis,) = get(lab, "-n", namespace, "analysisruns")["items"]
    assert analysis["status"]["phase"] == "Successful"
    assert analysis["status"]["metricResults"][0]["measurements"][0]["metadata"]["job-name"]
    assert lab_workloads.answered(lab, host, 20) == {"canary": 20}


def test_nothing_outside_has_a_name_or_an_address(own_lab: Lab) -> None:
    """No packet leaves the lab, so no test in it depends on the outside."""
    command = inside(own_lab, "curl", "-sS", "--max-time", "5", "http://example.com/")
    done = subprocess.run(command, capture_output=True, text=True, timeout=lab_client.LIMIT_S, check=False)

    assert done.returncode == 6  # curl: could not resolve host


def _until(lab: Lab, namespace: str, phase: str) -> None:
    """Until Argo says so of what was applied last, not of what was before it."""

    def is_so() -> bool:
        found = get(lab, "-n", namespace, "rollout/shop")
        status = found.get("status", {})
        is_seen = status.get("observedGeneration") == str(found["metadata"]["generation"])
        return bool(is_seen and status.get("phase") == phase)

    eventually(is_so, 120, state_of(lab, namespace))


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    """A program that runs as long as the block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)
