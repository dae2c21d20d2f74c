"""Every rule of the policy pack, with what passes it and what does not, through the pack itself."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from platform_runs import DIGEST
from pulumi_policy import (
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    StackValidationArgs,
)

from slipway_platform.addons.settings import Caps
from slipway_platform.policies.admission import guards
from slipway_platform.policies.pack import resource_policies, stack_policies
from slipway_platform.policies.rules import RULES, violations
from slipway_platform.policies.stacks import STACK_RULES
from slipway_platform.rendering import render

Change = Callable[[dict[str, Any]], object]

LABELS = {"app.kubernetes.io/name": "churn", "app.kubernetes.io/part-of": "slipway"}
AMOUNTS = {"cpu": "1", "memory": "1Gi"}
CONTAINER: dict[str, Any] = {
    "name": "churn",
    "image": f"registry.example.com/churn@{DIGEST}",
    "resources": {"requests": AMOUNTS, "limits": {**AMOUNTS, "nvidia.com/gpu": "1"}},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [CONTAINER],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}
ROLLOUT: dict[str, Any] = {
    "metadata": {"name": "churn", "namespace": "shop", "labels": LABELS},
    "spec": {"replicas": 2.0, "template": {"metadata": {"labels": LABELS}, "spec": POD}},
}
SERVICE: dict[str, Any] = {
    "metadata": {"name": "churn", "namespace": "shop", "labels": LABELS},
    "spec": {"type": "ClusterIP"},
}
SCALER: dict[str, Any] = {
    "metadata": {"name": "churn", "namespace": "shop"},
    "spec": {"maxReplicas": 4.0, "scaleTargetRef": {"kind": "Rollout", "name": "churn"}},
}
KEDA: dict[str, Any] = {"metadata": {"name": "churn", "namespace": "shop"}, "spec": {"maxReplicaCount": 4.0}}
ANALYSIS: dict[str, Any] = {
    "metadata": {"name": "stage", "namespace": "shop"},
    "spec": {"metrics": [{"provider": {"job": {"spec": {"template": {"spec": POD}}}}}]},
}
KINDS = {
    "argoproj.io/v1alpha1:AnalysisTemplate": ANALYSIS,
    "argoproj.io/v1alpha1:Rollout": ROLLOUT,
    "autoscaling/v2:HorizontalPodAutoscaler": SCALER,
    "core/v1:Service": SERVICE,
    "keda.sh/v1alpha1:ScaledObject": KEDA,
}


def pod(one: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = one["spec"]["template"]["spec"]
    return spec


def container(one: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = pod(one)["containers"][0]
    return first


def reported(kind: str, body: Mapping[str, Any], config: Mapping[str, object] | None = None) -> dict[str, list[str]]:
    """What each policy of the pack reports about one resource."""
    found: dict[str, list[str]] = {}
    for policy in resource_policies():
        args = ResourceValidationArgs(f"kubernetes:{kind}", body, "urn", "name", options(), None, config)
        policy.validate(args, reporter(found, policy.name))
    return found


def reporter(found: dict[str, list[str]], name: str) -> Callable[[str, str | None], None]:
    def report(message: str, _urn: str | None = None) -> None:
        found.setdefault(name, []).append(message)

    return report


def options(*, protect: bool = False) -> PolicyResourceOptions:
    return PolicyResourceOptions(protect, [], False, None, [], None, [])  # type: ignore[arg-type]  # nothing set


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_keeps_to_the_rules_passes(kind: str) -> None:
    assert reported(kind, KINDS[kind]) == {}


ROLLOUTS: list[tuple[str, Change, str]] = [
    ("image-by-digest", lambda one: container(one).update(image="churn:latest"), "image is 'churn:latest'"),
    ("image-by-digest", lambda one: container(one).pop("image"), "image is ''"),
    (
        "image-by-digest",
        lambda one: pod(one)["volumes"].append({"name": "m", "image": {"reference": "model:1"}}),
        "volumes[1].image.reference is 'model:1'",
    ),
    (
        "image-by-digest",
        lambda one: pod(one).update(initContainers=[{**CONTAINER, "image": "b"}]),
        "initContainers[0].image",
    ),
    ("requests-and-limits", lambda one: container(one).pop("resources"), "requests.cpu is not set"),
    (
        "requests-and-limits",
        lambda one: container(one)["resources"].update(limits={"cpu": "1000m", "memory": "1Gi"}),
        "limits.cpu is '1000m', expected the canonical '1'",
    ),
    ("nothing-of-the-host", lambda one: pod(one).update(hostNetwork=True), "hostNetwork is true"),
    ("nothing-of-the-host", lambda one: pod(one).update(hostPID=True), "hostPID is true"),
    (
        "nothing-of-the-host",
        lambda one: pod(one)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        "volumes[1] is a hostPath",
    ),
    ("nothing-of-the-host", lambda one: container(one).update(ports=[{"hostPort": 80}]), "hostPort is 80"),
    ("restricted-pod", lambda one: container(one)["securityContext"].update(privileged=True), "privileged is true"),
    ("restricted-pod", lambda one: container(one).pop("securityContext"), "allowPrivilegeEscalation is not false"),
    ("restricted-pod", lambda one: pod(one)["securityContext"].pop("runAsNonRoot"), "runAsNonRoot is not true"),
    ("restricted-pod", lambda one: pod(one)["securityContext"].update(runAsUser=0), "runAsUser is 0"),
    ("restricted-pod", lambda one: pod(one)["securityContext"].pop("seccompProfile"), "seccompProfile.type is None"),
    ("restricted-pod", lambda one: container(one)["securityContext"].pop("capabilities"), "without ALL"),
    ("no-token", lambda one: pod(one).pop("automountServiceAccountToken"), "automountServiceAccountToken"),
    ("labelled", lambda one: one["metadata"].pop("labels"), "without 'app.kubernetes.io/name'"),
    ("capped", lambda one: one["spec"].update(replicas=21.0), "spec.replicas is 21, expected at most 20"),
]


@pytest.mark.parametrize(("rule", "change", "says"), ROLLOUTS)
def test_a_rollout_that_breaks_a_rule_is_told_which_and_where(rule: str, change: Change, says: str) -> None:
    broken = copy.deepcopy(ROLLOUT)
    change(broken)

    found = reported("argoproj.io/v1alpha1:Rollout", broken)

    assert set(found) == {rule}
    assert any(says in message for message in found[rule]), found


@pytest.mark.parametrize(
    ("kind", "change", "rule", "says"),
    [
        ("core/v1:Service", {"type": "LoadBalancer"}, "not-public", "shop/churn is of type LoadBalancer"),
        ("core/v1:Service", {"type": "NodePort"}, "not-public", "of type NodePort"),
        ("autoscaling/v2:HorizontalPodAutoscaler", {"maxReplicas": 21.0}, "capped", "expected at most 20"),
        ("keda.sh/v1alpha1:ScaledObject", {"maxReplicaCount": None}, "capped", "nothing caps the cost"),
    ],
)
def test_other_objects_that_break_a_rule_are_told(kind: str, change: dict[str, object], rule: str, says: str) -> None:
    broken = copy.deepcopy(KINDS[kind])
    broken["spec"].update(change)

    found = reported(kind, broken)

    assert set(found) == {rule}
    assert says in found[rule][0]


def test_the_pod_of_an_analysis_is_judged_too() -> None:
    broken = copy.deepcopy(ANALYSIS)
    broken["spec"]["metrics"][0]["provider"]["job"]["spec"]["template"]["spec"]["containers"][0]["image"] = "locust:2"

    found = reported("argoproj.io/v1alpha1:AnalysisTemplate", broken)

    assert set(found) == {"image-by-digest"}
    assert (
        "spec.metrics[0].provider.job.spec.template.spec.containers[0].image is 'locust:2'"
        in found["image-by-digest"][0]
    )


def test_caps_are_the_companys() -> None:
    public = copy.deepcopy(SERVICE)
    public["spec"]["type"] = "LoadBalancer"

    assert set(reported("argoproj.io/v1alpha1:Rollout", ROLLOUT, {"max_replicas": 1})) == {"capped"}
    assert reported("core/v1:Service", public, {"public_load_balancers": ["shop/churn"]}) == {}


def test_what_is_no_object_of_kubernetes_is_left_alone() -> None:
    found: dict[str, list[str]] = {}
    for policy in resource_policies():
        args = ResourceValidationArgs("aws:s3/bucket:Bucket", {"spec": {"replicas": 99}}, "urn", "b", options(), None)
        policy.validate(args, reporter(found, policy.name))

    assert found == {}


BUDGET = {
    "metadata": {"name": "churn", "namespace": "shop"},
    "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "churn"}}},
}
SPACE = {"metadata": {"name": "shop", "labels": {"slipway.io/policy": "enforce"}}}
HOOK = {"metadata": {"name": "h"}, "webhooks": [{"failurePolicy": "Fail"}]}
POOL = {"spec": {"limits": {"cpu": "64"}}}
STACK: dict[str, tuple[str, dict[str, Any], bool]] = {
    "rollout": ("kubernetes:argoproj.io/v1alpha1:Rollout", ROLLOUT, False),
    "scaler": ("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", SCALER, False),
    "budget": ("kubernetes:policy/v1:PodDisruptionBudget", BUDGET, False),
    "space": ("kubernetes:core/v1:Namespace", SPACE, False),
    "hook": ("kubernetes:admissionregistration.k8s.io/v1:ValidatingWebhookConfiguration", HOOK, False),
    "claim": ("kubernetes:core/v1:PersistentVolumeClaim", {"metadata": {"name": "c"}}, True),
    "cluster": ("aws:eks/cluster:Cluster", {}, True),
    "pool": ("kubernetes:karpenter.sh/v1:NodePool", POOL, False),
}


def reported_of(
    stack: Mapping[str, tuple[str, dict[str, Any], bool]], config: Mapping[str, object]
) -> dict[str, list[str]]:
    resources = [
        PolicyResource(kind, body, f"urn:{name}", name, options(protect=kept), None, None, [], {})
        for name, (kind, body, kept) in stack.items()
    ]
    found: dict[str, list[str]] = {}
    for policy in stack_policies():
        policy.validate(StackValidationArgs(resources, config), reporter(found, policy.name))
    return found


def test_a_stack_that_keeps_to_the_rules_passes() -> None:
    assert reported_of(STACK, {}) == {}


def changed(name: str, body: dict[str, Any] | None = None, **fields: object) -> dict[str, Any]:
    kind, before, kept = STACK[name]
    return {**STACK, name: (kind, {**before, **fields} if body is None else body, kept)}


@pytest.mark.parametrize(
    ("stack", "rule", "says"),
    [
        ({key: one for key, one in STACK.items() if key != "budget"}, "disruption-budget", "may have 4 pods"),
        (changed("budget", spec={"selector": {"matchLabels": {"a": "b"}}}), "disruption-budget", "no PodDisruption"),
        ({**STACK, "claim": (*STACK["claim"][:2], False)}, "protected", "claim (kubernetes:core/v1:Pers"),
        ({**STACK, "cluster": (*STACK["cluster"][:2], False)}, "protected", "aws:eks/cluster:Cluster"),
        (
            changed("space", {"metadata": {"name": "shop"}}),
            "images-judged",
            "without the label slipway.io/policy=enforce",
        ),
        (changed("hook", {"webhooks": [{"failurePolicy": "Ignore"}]}), "images-judged", "when the webhook is silent"),
        (
            changed("scaler", spec={**SCALER["spec"], "maxReplicas": 9.0}),
            "cost-cap",
            "may take 9 GPUs",
        ),
        (changed("pool", {"spec": {"limits": {"cpu": "1001"}}}), "cost-cap", "may start 1001 processors"),
        (changed("pool", {"spec": {}}), "cost-cap", "no limit of processors"),
    ],
)
def test_a_stack_that_breaks_a_rule_is_told_which(stack: dict[str, Any], rule: str, says: str) -> None:
    found = reported_of(stack, {})

    assert set(found) == {rule}
    assert says in found[rule][0]


def test_caps_of_a_stack_are_the_companys() -> None:
    assert set(reported_of(STACK, {"max_gpus": 3})) == {"cost-cap"}
    assert set(reported_of(STACK, {"max_cpus": 63})) == {"cost-cap"}


@pytest.mark.parametrize("project", ["addons", "observability", "services"])
def test_the_examples_of_this_repository_keep_to_the_rules(project: str) -> None:
    stack = "lab" if project == "addons" else "example"
    info = {"kind": "existing", "name": "any", "registry": "r", "gpu_resource": "nvidia.com/gpu"}
    clusters = ("lab", "production", "example", "staging")
    references = {f"organization/slipway-cluster/{name}": {"info": info, "kubeconfig": "k"} for name in clusters}

    bodies = render(project, stack, references=references).bodies

    assert bodies
    assert {f"{one['kind']} {one['metadata']['name']}": found for one in bodies if (found := violations(one))} == {}


def test_every_rule_says_what_it_asks() -> None:
    names = [rule.name for rule in (*RULES, *STACK_RULES)]

    assert len(set(names)) == len(names) == 12
    assert all(rule.asks.endswith(".") for rule in (*RULES, *STACK_RULES))


def test_kubernetes_is_told_the_rules_that_it_can_ask() -> None:
    """What CEL says of them is tried on a real API server: tests/lab/test_lab_guards.py."""
    bodies = [one.body for one in guards(Caps(max_replicas=7))]
    policies = {body["metadata"]["name"]: body for body in bodies if body["kind"] == "ValidatingAdmissionPolicy"}
    bindings = {body["spec"]["policyName"]: body for body in bodies if body["kind"].endswith("Binding")}

    assert set(policies) == set(bindings) == {"slipway-limits", "slipway-host", "slipway-caps", "slipway-not-public"}
    for name, binding in bindings.items():
        assert policies[name]["spec"]["failurePolicy"] == "Fail"
        assert binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"] == {"slipway.io/policy": "enforce"}
    caps = [one["expression"] for one in policies["slipway-caps"]["spec"]["validations"]]
    assert all(expression.endswith("<= 7") for expression in caps)
    assert "slipway-not-public" not in {one.name for one in guards(Caps(public_load_balancers=True))}
