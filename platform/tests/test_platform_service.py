"""A service as objects: safe pods, who may talk to whom, scaling under caps, routes, alerts, names."""

import re
from typing import Any

import pytest
from platform_runs import CLUSTER, run_project
from service_stacks import IMAGE, ROOT, churn, config, objects, rendered, settings

from slipway_platform.policies.rules import violations
from slipway_platform.rendering import render
from slipway_platform.services.alerts import read_rules
from slipway_platform.services.settings import StackRefusedError
from slipway_platform.settings import SettingsError

STACKS = ("lab", "example")


def made(*services: dict[str, object], **fields: object) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects of a stack that the test writes."""
    run = run_project("services", config(*services, **{"cluster": CLUSTER, **fields}))
    bodies = [one.inputs for one in run.made if one.type.startswith("kubernetes:")]
    return {(one["kind"], one["metadata"]["name"]): one for one in bodies}


def pod(stack: str = "lab", name: str = "churn") -> dict[str, Any]:
    """The spec of a service's pods."""
    found: dict[str, Any] = objects(stack)["Rollout", name]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("project", ["services", "observability"])
def test_nothing_that_is_made_breaks_a_policy(project: str, stack: str) -> None:
    wrong = [line for one in rendered(stack, project).bodies for line in violations(one)]

    assert wrong == []


@pytest.mark.parametrize("name", ["churn", "documents"])
def test_probes_ask_what_tells_the_truth(name: str) -> None:
    (container,) = pod("example", name)["containers"]

    paths = {kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}

    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


def test_a_service_has_the_time_to_load_that_it_asks_for() -> None:
    (container,) = pod("example", "documents")["containers"]

    probe = container["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300
    assert {"name": "SLIPWAY_START_S", "value": "300"} in container["env"]


def test_a_pod_is_killed_only_after_it_had_its_time_to_drain_and_to_stop() -> None:
    found = made(churn(drain_s=20, stop_s=40))["Rollout", "churn"]["spec"]["template"]["spec"]

    assert found["terminationGracePeriodSeconds"] > 60
    assert {"name": "SLIPWAY_DRAIN_S", "value": "20"} in found["containers"][0]["env"]


def test_a_pod_has_no_token_and_no_way_to_more_rights() -> None:
    spec = pod()

    assert spec["automountServiceAccountToken"] is False
    assert objects("lab")["ServiceAccount", "churn"]["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsUser"] == 65_532
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_nobody_is_let_in_who_is_not_named() -> None:
    deny = objects("lab")["NetworkPolicy", "deny-all"]["spec"]

    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("stack", STACKS)
def test_every_exception_names_a_peer_and_a_port(stack: str) -> None:
    policies = [one["spec"] for (kind, name), one in objects(stack).items() if kind == "NetworkPolicy"]

    rules = [rule for spec in policies for way in ("ingress", "egress") for rule in spec.get(way, [])]

    assert rules
    assert all(rule["ports"] and (rule.get("from") or rule.get("to")) for rule in rules)


def test_the_admin_port_is_open_to_scrapes_and_to_the_gate_only() -> None:
    rules = objects("example")["NetworkPolicy", "churn"]["spec"]["ingress"]

    peers = [peer for rule in rules if any(port["port"] == 8002 for port in rule["ports"]) for peer in rule["from"]]
    public = [peer for rule in rules if any(port["port"] == 8000 for port in rule["ports"]) for peer in rule["from"]]

    names = [peer["namespaceSelector"]["matchLabels"].popitem()[1] for peer in peers if "namespaceSelector" in peer]
    gate = [{"key": "slipway.dev/gate", "operator": "Exists"}]
    assert names == ["monitoring"]
    assert [peer for peer in peers if "podSelector" in peer] == [{"podSelector": {"matchExpressions": gate}}]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "checkout"}}} in public


def test_replicas_belong_to_who_scales() -> None:
    scaled, fixed = made(churn()), made(churn(hpa=None, replicas=3))

    assert "replicas" not in scaled["Rollout", "churn"]["spec"]
    assert scaled["HorizontalPodAutoscaler", "churn"]["spec"]["minReplicas"] == 2
    assert scaled["HorizontalPodAutoscaler", "churn"]["spec"]["maxReplicas"] == 6
    assert fixed["Rollout", "churn"]["spec"]["replicas"] == 3
    assert not [kind for kind, _ in fixed if kind in {"HorizontalPodAutoscaler", "ScaledObject"}]


def test_keda_scales_under_a_cap_and_has_a_way_out_when_nobody_answers() -> None:
    spec = objects("example")["ScaledObject", "documents"]["spec"]

    assert spec["scaleTargetRef"]["kind"] == "Rollout"
    assert spec["maxReplicaCount"] == 4
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 2}
    assert [one["metadata"]["ignoreNullValues"] for one in spec["triggers"]] == ["false", "false"]
    assert "http_server_active_requests" in spec["triggers"][0]["metadata"]["query"]
    assert "slipway_queue_depth" in spec["triggers"][1]["metadata"]["query"]


def test_two_that_scale_are_refused() -> None:
    with pytest.raises(SettingsError, match="`hpa` and `keda` would both set the replicas"):
        settings(churn(keda={}))


def test_more_replicas_than_the_cap_are_refused() -> None:
    with pytest.raises(SettingsError, match="`replicas` is 9 and the cap 6"):
        settings(churn(replicas=9))


@pytest.mark.parametrize("image", ["churn:latest", "registry.example.com/churn:1.0.0", "registry.example.com/churn"])
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    with pytest.raises(SettingsError, match="image"):
        settings(churn(image=image))


def test_a_field_that_nobody_knows_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError) as refused:
        settings(churn(replica=3))

    assert refused.value.hint == "did you mean `replicas`?"


def test_a_setting_that_is_none_of_the_servers_is_refused() -> None:
    with pytest.raises(SettingsError, match="expected names that begin with SLIPWAY_ or OTEL_"):
        settings(churn(environment={"AWS_SECRET_ACCESS_KEY": "x"}))


def test_a_gpu_is_asked_for_as_the_cluster_calls_it() -> None:
    spec = pod("example", "documents")

    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["nodeSelector"] == {"node.example.com/gpu": "l4", "slipway.dev/pool": "gpu"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_a_gpu_that_the_cluster_has_not_is_refused() -> None:
    with pytest.raises(StackRefusedError, match="'churn' asks for a GPU, and the cluster 'test' has none"):
        made(churn(gpu={}))


def test_weights_come_with_the_image_unless_a_volume_brings_them() -> None:
    pulled = made(
        churn(
            volumes=[{"name": "weights", "reference": IMAGE, "path": "/models", "by_init_container": True}],
            target="churn:1.0.0",
        )
    )["Rollout", "churn"]["spec"]["template"]["spec"]

    assert [one["name"] for one in pod()["volumes"]] == ["tmp"]
    assert pod("example", "documents")["volumes"][1]["image"]["reference"].startswith("registry.example.com/team/")
    assert pulled["initContainers"][0]["args"] == ["bundle", "pull", "--without-images", IMAGE]
    assert pulled["containers"][0]["command"][-1] == "churn:1.0.0"


def test_users_are_limited_and_cannot_hide_among_load_tests() -> None:
    found, route = objects("lab"), objects("example")["HTTPRoute", "documents"]["spec"]["rules"][0]

    used = [one["name"] for one in found["IngressRoute", "churn"]["spec"]["routes"][0]["middlewares"]]

    assert used == ["churn-rate", "churn-edge"]
    assert found["Middleware", "churn-rate"]["spec"]["rateLimit"] == {"average": 1000, "burst": 2000, "period": "1s"}
    assert found["Middleware", "churn-edge"]["spec"]["headers"] == {"customRequestHeaders": {"X-Slipway-Synthetic": ""}}
    assert {"remove": ["X-Slipway-Synthetic"]} in [one["requestHeaderModifier"] for one in route["filters"]]


@pytest.mark.parametrize(
    ("stack", "kind", "name", "path"),
    [
        ("lab", "TraefikService", "churn", "spec.weighted.services"),
        ("example", "HTTPRoute", "documents", "spec.rules[*].backendRefs"),
    ],
)
def test_weights_are_argos_after_they_were_made(stack: str, kind: str, name: str, path: str) -> None:
    one = next(
        one for one in rendered(stack).objects if (one.body["kind"], one.body["metadata"]["name"]) == (kind, name)
    )

    assert one.others == (path,)
    assert [weight for key, weight in _weights(one.body["spec"])] == [100, 0]


def _weights(value: Any) -> list[tuple[str, int]]:
    if isinstance(value, list):
        return [found for item in value for found in _weights(item)]
    if isinstance(value, dict):
        if "weight" in value:
            return [(value["name"], value["weight"])]
        return [found for item in value.values() for found in _weights(item)]
    return []


def test_stable_and_canary_are_labels_of_the_target() -> None:
    (endpoint,) = objects("lab")["PodMonitor", "churn"]["spec"]["podMetricsEndpoints"]
    canary = objects("lab")["Rollout", "churn"]["spec"]["strategy"]["canary"]

    labels = {one["targetLabel"]: one.get("replacement") or one["sourceLabels"] for one in endpoint["relabelings"]}

    assert labels == {
        "service": "churn",
        "track": ["__meta_kubernetes_pod_label_slipway_dev_track"],
        "rollouts_pod_template_hash": ["__meta_kubernetes_pod_label_rollouts_pod_template_hash"],
    }
    assert canary["canaryMetadata"] == {"labels": {"slipway.dev/track": "canary"}}
    assert canary["stableMetadata"] == {"labels": {"slipway.dev/track": "stable"}}


def test_every_rule_of_the_repository_about_a_service_goes_with_it() -> None:
    ours = {stem: groups for stem, groups in read_rules(ROOT).items() if stem.startswith("churn")}

    groups = [one["spec"]["groups"] for (kind, _), one in objects("lab").items() if kind == "PrometheusRule"]

    named = {group["name"] for each in groups for group in each}
    assert ours
    assert {group["name"] for each in ours.values() for group in each} <= named


def test_what_tells_of_releases_asks_for_the_rollout_of_this_stack() -> None:
    """Two services may share objectives; each is told of its own releases."""
    both = made(churn(), churn(name="churn-eu", slo="churn"))

    asked = {
        name: rule["expr"]
        for (kind, name), one in both.items()
        if kind == "PrometheusRule"
        for group in one["spec"]["groups"]
        for rule in group["rules"]
        if rule.get("alert") == "SlipwayReleaseAborted"
    }
    assert set(asked) == {"churn-operation", "churn-eu-operation"}
    assert 'rollout_info{name="churn",' in asked["churn-operation"]
    assert asked["churn-eu-operation"] == asked["churn-operation"].replace('name="churn"', 'name="churn-eu"')


def test_rules_about_containers_find_those_of_the_pods() -> None:
    """Restarts, memory and GPUs are known by the container's name, which Kubernetes' exporters tell and we do not."""
    rules = [one for (kind, _), one in objects("lab").items() if kind == "PrometheusRule"]
    asked = set(re.findall(r'container="([^"]+)"', str(rules)))

    (container,) = objects("lab")["Rollout", "churn"]["spec"]["template"]["spec"]["containers"]
    assert asked == {container["name"]}


def test_a_service_without_objectives_is_refused() -> None:
    with pytest.raises(StackRefusedError, match="no rule in observability/rules is about 'other', expected one of"):
        made(churn(name="other"))


def test_a_rename_replaces_nothing() -> None:
    """The objects keep their names, each component says what it was called, and Pulumi derives the children's."""
    before = run_project("services", config(churn(slo="churn"), cluster=CLUSTER))
    renamed = churn(name="retention", workload="churn", formerly=["churn"], slo="churn")

    after = run_project("services", config(renamed, cluster=CLUSTER))

    def names(run: Any) -> set[tuple[str, str]]:
        return {(one.type, one.inputs["metadata"]["name"]) for one in run.made if "metadata" in one.inputs}

    assert names(after) == names(before)
    aliases = {one.name: one.aliases for one in after.made}
    assert "churn" in aliases["retention"]
    assert "churn-canary" in aliases["retention-canary"]
    assert "churn-alerts" in aliases["retention-alerts"]
    assert all(one.name.startswith("retention-") for one in after.of("Rollout", "AnalysisTemplate", "PodMonitor"))


def test_keys_of_the_stack_stay_secrets_and_those_of_a_store_are_named() -> None:
    stored = objects("example")["ExternalSecret", "slipway-verdicts"]["spec"]

    run = run_project(
        "services",
        config(churn(), cluster=CLUSTER, keys={"read": "r", "write": "w"}),
        secrets=("slipway-services:keys",),
    )

    (secret,) = run.of("core/v1:Secret")
    assert "4dabf18193072939515e22adb298388d" in str(secret.inputs)
    assert [one["secretKey"] for one in stored["data"]] == ["read", "write", "signing"]
    assert stored["secretStoreRef"] == {"kind": "ClusterSecretStore", "name": "company"}


def test_keys_in_the_clear_are_refused() -> None:
    with pytest.raises(SettingsError, match="plain text"):
        settings(churn(), keys={"read": "r", "write": "w"})


def test_the_quota_is_enough_for_a_release_of_everything() -> None:
    hard = objects("lab")["ResourceQuota", "services"]["spec"]["hard"]

    pods = 2 * 4 + 1
    assert int(hard["pods"]) >= pods + 1
    assert hard["requests.cpu"] == f"{pods * 300 + 400}m"


def test_the_program_of_another_stack_is_asked_for_its_cluster() -> None:
    found = render("services", "lab", references={"organization/slipway-cluster/lab": _prometheus()})

    (guard,) = [one for one in found.bodies if one["metadata"]["name"] == "churn-guard"]

    assert guard["spec"]["metrics"][0]["provider"]["prometheus"]["address"] == "http://prometheus.example.com:9090"


def _prometheus() -> dict[str, object]:
    info = {"kind": "lab", "name": "lab", "registry": "r", "prometheus_url": "http://prometheus.example.com:9090"}
    return {"info": info, "kubeconfig": "k"}
