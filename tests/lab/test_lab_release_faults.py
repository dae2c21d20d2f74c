"""What a release asks is killed while it goes on: nothing gets more traffic without evidence, and no user notices."""

import subprocess
from collections.abc import Iterator
from itertools import pairwise

import pytest
from lab_client import eventually, kubectl, lab_command, state_of
from lab_release import Outcome, Shop, opened
from lab_versions import VERSIONS, Version

from slipway_lab.state import Lab

pytestmark = [pytest.mark.soak, pytest.mark.alone, pytest.mark.timeout(900), pytest.mark.needs("mmdebstrap")]

STAGES = (10, 30, 50, 100)
PROGRAMS = ("rollouts-controller", "prometheus", "kube-apiserver")


@pytest.fixture(scope="module")
def shop(own_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(own_lab, tmp_path_factory.mktemp("faults"), VERSIONS[0]) as made:
        yield made


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_release_outlives_what_it_asks(shop: Shop, program: str) -> None:
    """Killed while the first weight is measured, and started again."""
    shop.begin(good(program))
    until_measured(shop)
    subprocess.run(lab_command("restart", f"--name={shop.lab.name}", "--kill", program), check=True, timeout=120)
    outcome = shop.finish()

    assert_no_weight_without_evidence(shop, outcome)
    assert (outcome.phase, outcome.failed) == ("Healthy", 0)


def test_a_gate_that_is_killed_promotes_nothing(shop: Shop) -> None:
    """Its Job is no success, and nobody has evidence: the release ends at its first weight."""
    before = shop.stable()
    shop.begin(good("gate"))
    until_measured(shop)
    pods = ("delete", "pods", "--selector=slipway.dev/gate=stage", "--force", "--grace-period=0")
    kubectl(shop.lab, f"--namespace={shop.namespace}", *pods)
    outcome = shop.finish()

    assert_no_weight_without_evidence(shop, outcome)
    assert (outcome.phase, outcome.weight, outcome.failed) == ("Degraded", STAGES[0], 0)
    assert shop.stable() == before


def good(name: str) -> Version:
    """Another build of the same."""
    return Version(f"v{100 + sum(name.encode())}", "as good", f"\n# {name}\n")


def until_measured(shop: Shop) -> None:
    """The stage's Job has a pod that runs."""
    words = (f"--namespace={shop.namespace}", "get", "pods", "--selector=slipway.dev/gate=stage")

    def runs() -> bool:
        return "Running" in kubectl(shop.lab, *words, "--output=jsonpath={.items[*].status.phase}")

    eventually(runs, 180, state_of(shop.lab, shop.namespace))


def assert_no_weight_without_evidence(shop: Shop, outcome: Outcome) -> None:
    """Each weight above the first came after a pass for the one below it, about these pods."""
    passed = {int(one["stage"]["stage"]): one["received_s"] for one in outcome.evidence if one["verdict"] == "pass"}
    reached = shop.weights(outcome)
    for below, above in pairwise(STAGES):
        if above in reached:
            assert below in passed, f"{above} % without a pass at {below} %: {passed}"
            assert passed[below] <= reached[above]
    if outcome.phase == "Healthy":
        assert set(passed) == set(STAGES)
