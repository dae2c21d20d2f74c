"""Namespaces, the admission webhook and the verdict service: what is made of our own, in which order, how safe."""

from pathlib import Path
from typing import Any

import pytest
from platform_runs import CLUSTER, IMAGE, Run, is_secret, opened, run_project

from slipway_bundle.errors import ConfigError
from slipway_platform.addons.webhook import policy_files
from slipway_platform.policies.rules import Limits, violations
from slipway_platform.policies.stacks import STACK_RULES
from slipway_platform.settings import SettingsError

POLICY = """
[keys.release]
file = "keys/release.pub"

[signatures]
by = ["release"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "keys").mkdir()
    (folder / "keys" / "release.pub").write_text("the public key of releases")
    (folder / "policy.toml").write_text(POLICY)
    (folder / "tls.crt").write_text("the certificate")
    (folder / "ca.crt").write_text("the authority")
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Run:
    config: dict[str, Any] = {
        "cluster": CLUSTER,
        "mode": "external",
        "namespaces": {"shop": {"cpu": "8000m", "memory": "8192Mi", "gpus": 2, "owner": "shop"}},
        "caps": {"max_replicas": 7},
        "image": IMAGE,
        "webhook": {
            "policy": str(folder / "policy.toml"),
            "ca": str(folder / "ca.crt"),
            "certificate": str(folder / "tls.crt"),
            "key": "the private key",
            "registry_secret": "pull",
            "plain_registry": True,
        },
        "verdicts": {
            "keys": "the hashes",
            "signers": [str(folder / "keys" / "release.pub")],
            "callers": ["10.0.0.1/32"],
        },
    }
    info = {"kind": "existing", "name": "test", "registry": "r", "gpu_resource": "nvidia.com/gpu"}
    return run_project(
        "addons",
        {f"slipway-addons:{key}": value for key, value in config.items()},
        secrets=("slipway-addons:webhook", "slipway-addons:verdicts"),
        references={CLUSTER: {"info": info, "kubeconfig": "k"}},
    )


def test_a_namespace_of_models_is_restricted_judged_and_bounded(made: Run) -> None:
    space = made.one(":Namespace", "namespace-shop")
    labels = space.inputs["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["slipway.io/policy"] == "enforce"
    assert labels["slipway.dev/owner"] == "shop"
    assert space.is_protected
    assert made.one("ResourceQuota", "resourcequota-shop-models").inputs["spec"]["hard"] == {
        "requests.cpu": "8",
        "requests.memory": "8Gi",
        "requests.nvidia.com/gpu": "2",
        "requests.storage": "100Gi",
        "pods": "100",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }
    limits = made.one("LimitRange", "limitrange-shop-models").inputs["spec"]["limits"][0]
    assert limits["defaultRequest"] == {"cpu": "100m", "memory": "256Mi"}


def test_the_platform_goes_before_serving_and_serving_before_batch(made: Run) -> None:
    """Serving that evicts the webhook would keep everything from starting."""
    platform = made.one("PriorityClass", "priorityclass-slipway-platform").inputs
    serving = made.one("PriorityClass", "priorityclass-slipway-serving").inputs
    batch = made.one("PriorityClass", "priorityclass-slipway-batch").inputs

    assert platform["value"] > serving["value"] > batch["value"]
    assert batch["preemptionPolicy"] == "Never"
    for server in ("policy", "verdicts"):
        pod = made.one("Deployment", f"deployment-slipway-slipway-{server}").inputs["spec"]["template"]["spec"]
        assert pod["priorityClassName"] == "slipway-platform"


def test_the_webhook_gets_the_policy_with_its_keys(made: Run) -> None:
    data = made.one("ConfigMap", "configmap-slipway-slipway-policy").inputs["data"]
    pod = made.one("Deployment", "deployment-slipway-slipway-policy").inputs["spec"]["template"]["spec"]

    assert data == {"policy.toml": POLICY, "keys__release.pub": "the public key of releases"}
    volume = next(one for one in pod["volumes"] if one["name"] == "policy")
    assert {item["path"]: item["key"] for item in volume["configMap"]["items"]} == {
        "policy.toml": "policy.toml",
        "keys/release.pub": "keys__release.pub",
    }
    container = pod["containers"][0]
    assert container["args"][:4] == ["policy", "webhook", "--policy", "/etc/slipway/policy/policy.toml"]
    assert container["args"][-1] == "--insecure"
    assert container["image"] == IMAGE
    assert {one["name"]: one["value"] for one in container["env"]}["DOCKER_CONFIG"] == "/etc/slipway/registry"


def test_nobody_is_asked_before_somebody_can_answer(made: Run) -> None:
    hook = made.of("ValidatingWebhookConfiguration")[0]

    assert any("deployment-slipway-slipway-policy" in urn for urn in hook.depends_on)
    asked = hook.inputs["webhooks"][0]
    assert asked["failurePolicy"] == "Fail"
    assert asked["namespaceSelector"]["matchLabels"] == {"slipway.io/policy": "enforce"}
    assert asked["clientConfig"]["service"] == {
        "name": "slipway-policy",
        "namespace": "slipway",
        "path": "/validate",
        "port": 8443,
    }


def test_private_keys_are_secrets_and_nowhere_else(made: Run) -> None:
    tls = made.one("core/v1:Secret", "secret-slipway-slipway-policy-tls")
    keys = made.one("core/v1:Secret", "secret-slipway-slipway-verdicts-keys")

    assert opened(tls.inputs["stringData"])["tls.key"] == "the private key"
    assert tls.inputs["type"] == "kubernetes.io/tls"
    assert opened(keys.inputs["stringData"]) == {"keys.json": "the hashes"}
    for one in made.made:
        plain = {key: value for key, value in one.inputs.items() if not is_secret(value)}
        assert "the private key" not in str(plain), one.name
        assert "the hashes" not in str(plain), one.name


def test_one_pod_owns_the_verdicts_and_its_volume_outlives_it(made: Run) -> None:
    deployment = made.one("Deployment", "deployment-slipway-slipway-verdicts").inputs["spec"]
    claim = made.one("PersistentVolumeClaim", "persistentvolumeclaim-slipway-slipway-verdicts")

    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert claim.is_protected
    mounts = {one["name"]: one for one in deployment["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert "readOnly" not in mounts["store"]
    assert mounts["keys"]["readOnly"] is True
    assert "/etc/slipway/signers/release.pub" in deployment["template"]["spec"]["containers"][0]["args"]
    assert made.outputs["verdicts_url"] == "http://slipway-verdicts.slipway.svc:8010"


def test_only_rollouts_and_the_gates_jobs_reach_the_verdicts(made: Run) -> None:
    policy = made.one("NetworkPolicy", "networkpolicy-slipway-slipway-verdicts").inputs["spec"]

    callers, monitoring = policy["ingress"]
    assert callers["ports"] == [{"protocol": "TCP", "port": 8010}]
    assert {"ipBlock": {"cidr": "10.0.0.1/32"}} in callers["from"]
    jobs = next(one for one in callers["from"] if "podSelector" in one)
    assert jobs["namespaceSelector"]["matchLabels"] == {"slipway.io/policy": "enforce"}
    assert jobs["podSelector"]["matchExpressions"][0]["key"] == "slipway.dev/gate"
    assert monitoring["ports"] == [{"protocol": "TCP", "port": 8012}]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy  # it calls nobody


def test_our_own_objects_keep_to_our_own_rules(made: Run) -> None:
    inside = [one for one in made.made if one.type.startswith("kubernetes:")]
    resources = made.resources()

    found = {one.name: violations({"kind": one.type.rpartition(":")[2], **one.inputs}) for one in inside}
    assert {name: messages for name, messages in found.items() if messages} == {}
    assert [message for rule in STACK_RULES for message in rule.check(resources, Limits())] == []


def test_the_names_of_resources_stay(made: Run) -> None:
    """Another name is another resource for Pulumi: it would delete and make again. A rename needs `aliases`."""
    kept = {f"{one.type.rpartition(':')[2]} {one.name}" for one in made.made}

    assert {
        *("Addons addons", "Charts charts", "Namespace namespace-shop", "Namespace namespace-slipway"),
        *("ResourceQuota resourcequota-shop-models", "LimitRange limitrange-shop-models"),
        *("PersistentVolumeClaim persistentvolumeclaim-slipway-slipway-verdicts",),
        *("Deployment deployment-slipway-slipway-verdicts", "Deployment deployment-slipway-slipway-policy"),
        *("PriorityClass priorityclass-slipway-serving", "PriorityClass priorityclass-slipway-batch"),
        *("ValidatingWebhookConfiguration validatingwebhookconfiguration-slipway-policy",),
    } <= kept


def test_a_policy_takes_its_keys_from_its_own_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "policy.toml"
    other.write_text(POLICY.replace("keys/release.pub", str(folder / "keys" / "release.pub")))

    with pytest.raises(ConfigError, match="expected a file beside the policy"):
        policy_files(other)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdicts": {}}, "need `image`"),
        ({"verdicts": {}, "image": "registry.example.com/slipway-platform:latest"}, "slipway-addons:image"),
        ({"webhook": {"policy": "p", "certificate": "c"}, "image": IMAGE}, "`certificate` and `key` together"),
        ({"namespaces": {"Shop": {}}}, "slipway-addons:namespaces"),
        ({"namespaces": {"shop": {"cup": "1"}}}, "did you mean `cpu`"),
    ],
)
def test_settings_of_servers_that_cannot_be_used_are_named(change: dict[str, object], says: str) -> None:
    config = {"slipway-addons:cluster": CLUSTER, **{f"slipway-addons:{key}": value for key, value in change.items()}}

    with pytest.raises(SettingsError, match=says):
        run_project("addons", config)
