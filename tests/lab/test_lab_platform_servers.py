"""The add-ons stack on a real cluster: its objects are taken, and its servers do what they are there for."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from lab_client import eventually, inside, run, state_of
from lab_platform import Platform, push_platform_image

from slipway_lab.state import Lab

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600), pytest.mark.needs("mmdebstrap")]

POLICY = """
[keys.release]
file = "release.pub"

[signatures]
by = ["release"]

[admission]
exempt = ["exempt.example.com/*"]
"""


@pytest.fixture(scope="module")
def platform(own_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The stack, under names of its own."""
    made = Platform(own_lab, tmp_path_factory.mktemp("platform"), push_platform_image(own_lab), POLICY)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_rollout_is_told_what_is_known_and_nobody_else_is(lab: Lab, platform: Platform) -> None:
    key = platform.keys["read"]
    url = f"{platform.verdicts}/verdict?rollout=shop/churn&pod_hash=abc&stage=10"

    # A Service answers a moment after its pod is ready.
    patience = ("--retry", "20", "--retry-all-errors", "--retry-delay", "1")
    answer = json.loads(run(lab, "curl", "--silent", *patience, "--header", f"Authorization: Bearer {key}", url))
    stranger = run(lab, "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url)

    assert answer["verdict"] == "inconclusive"
    assert stranger == "401"


def test_what_policy_toml_does_not_allow_never_runs(lab: Lab, platform: Platform) -> None:
    models, image = platform.models, platform.image
    digest = image.partition("@")[2]

    eventually(lambda: refusal(lab, models, f"exempt.example.com/tool@{digest}") == "", 30, state_of(lab, models))
    unsigned = refusal(lab, models, image)
    by_tag = refusal(lab, models, "exempt.example.com/tool:1.0.0")

    assert 'admission webhook "policy.slipway.io" denied the request' in unsigned
    assert "https" not in unsigned  # it was read; what is in it is no signed bundle
    assert "named by tag: exempt.example.com/tool:1.0.0" in by_tag


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
