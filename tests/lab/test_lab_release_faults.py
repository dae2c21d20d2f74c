"""What a release asks is killed while it goes on: nothing gets more traffic without evidence, and no user notices.

Each fault comes while the load of the first weight runs.
"""

import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from lab_client import eventually, kubectl, lab_command, state_of
from lab_release import Outcome, Shop, opened
from lab_versions import VERSIONS, Version

from slipway_lab.state import Lab

pytestmark = [pytest.mark.soak, pytest.mark.alone, pytest.mark.timeout(900), pytest.mark.needs("mmdebstrap")]

STAGES = (10, 30, 50, 100)


@pytest.fixture(scope="module")
def shop(own_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(own_lab, tmp_path_factory.mktemp("faults"), VERSIONS[0]) as made:
        yield made


@pytest.mark.parametrize("program", ["rollouts-controller", "prometheus"])
def test_a_release_outlives_what_moves_and_guards_it(shop: Shop, program: str) -> None:
    """Killed while the first weight is measured, and started again."""
    outcome = shop.release(good(program), once_measured(shop, lambda: restart(shop, program)))

    assert_no_weight_without_evidence(outcome)
    assert (outcome.phase, outcome.failed) == ("Healthy", 0), outcome.message


def test_a_release_goes_on_or_is_stopped_when_the_api_server_is_killed(shop: Shop) -> None:
    """A controller that does not find its Job any more, as Argo Rollouts 1.9.1 at times, stops it; no user notices."""
    before = shop.stable()
    outcome = shop.release(good("kube-apiserver"), once_measured(shop, lambda: restart(shop, "kube-apiserver")))

    assert_no_weight_without_evidence(outcome)
    assert outcome.failed == 0
    assert (shop.stable() == before) == (outcome.phase == "Degraded"), outcome.message


def test_a_release_outlives_the_verdict_service(shop: Shop) -> None:
    """Its pod is lost; what it knew is not, and the evidence that comes meanwhile finds the next pod."""
    outcome = shop.release(
        good("verdicts"),
        once_measured(shop, lambda: kill_pods(shop, shop.platform.home, "app.kubernetes.io/name=slipway-verdicts")),
    )

    assert_no_weight_without_evidence(outcome)
    assert (outcome.phase, outcome.failed) == ("Healthy", 0), outcome.message


def test_a_gate_that_is_killed_promotes_nothing(shop: Shop) -> None:
    """Its Job is no success, and nobody has evidence: the release ends at its first weight."""
    before = shop.stable()
    outcome = shop.release(
        good("gate"), once_measured(shop, lambda: kill_pods(shop, shop.namespace, "slipway.dev/gate=stage"))
    )

    assert (outcome.phase, outcome.weight, outcome.failed) == ("Degraded", STAGES[0], 0), outcome.message
    assert outcome.evidence == ()
    assert shop.stable() == before


def good(name: str) -> Version:
    """Another build of the same."""
    return Version(f"v{100 + sum(name.encode())}", "as good", f"\n# {name}\n")


def restart(shop: Shop, program: str) -> None:
    """Killed, and begun again at once."""
    command = lab_command("restart", f"--name={shop.lab.name}", "--kill", program)
    subprocess.run(command, check=True, timeout=120)


def once_measured(shop: Shop, fault: Callable[[], object]) -> Callable[[], None]:
    """The fault, as soon as the first stage's Job has a pod that runs."""
    words = (f"--namespace={shop.namespace}", "get", "pods", "--selector=slipway.dev/gate=stage")

    def runs() -> bool:
        return "Running" in kubectl(shop.lab, *words, "--output=jsonpath={.items[*].status.phase}")

    def act() -> None:
        eventually(runs, 180, state_of(shop.lab, shop.namespace))
        fault()

    return act


def kill_pods(shop: Shop, namespace: str, selector: str) -> None:
    """At once, as a lost node would."""
    selected = kubectl(shop.lab, f"--namespace={namespace}", "get", "pods", f"--selector={selector}", "--output=name")
    assert selected, f"no pods {selector} in {namespace}"
    force = ("--force", "--grace-period=0")
    kubectl(shop.lab, f"--namespace={namespace}", "delete", "pods", f"--selector={selector}", *force)


def assert_no_weight_without_evidence(outcome: Outcome) -> None:
    """Each weight above the first came after a pass for the one below it, about these pods."""
    passed = {int(one["stage"]["stage"]): one["received_s"] for one in outcome.evidence if one["verdict"] == "pass"}
    for below, above in pairwise(STAGES):
        if above in outcome.reached:
            assert below in passed, f"{above} % without a pass at {below} %: {passed}"
            assert passed[below] <= outcome.reached[above]
    if outcome.phase == "Healthy":
        assert set(passed) == set(STAGES)
