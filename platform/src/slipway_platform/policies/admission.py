"""The rules once more, for Kubernetes itself: what somebody applies past Pulumi is held to them too.

Pure: caps in, manifests out. Only what CEL can say is here; that images are named by digest is in
`slipway_serve.admission.manifests`, that pods are restricted is what the namespace's Pod Security label enforces.
The invariants: only namespaces with the webhook's label are judged, so the cluster's own pods never wait for a rule of
ours; what cannot be judged is refused.
Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/.
"""

from collections.abc import Iterator
from typing import Any, Final

from slipway_platform.addons.namespaces import part_labels
from slipway_platform.addons.settings import Caps
from slipway_platform.manifests import Manifest, manifest
from slipway_serve.admission.manifests import LABEL as POLICY_LABEL

__all__ = ["guards"]

API: Final = "admissionregistration.k8s.io/v1"
LISTS: Final = ("initContainers", "containers")


def guards(caps: Caps) -> Iterator[Manifest]:
    """The policies and their bindings."""
    # Only when a pod is made: one that was there before the rule is still labelled, moved and deleted.
    pods = _on("", ["pods"], operations=["CREATE"])
    yield from _guard("slipway-limits", [pods], [_amounts()])
    yield from _guard("slipway-host", [pods], _host())
    yield from _guard(
        "slipway-caps",
        [
            _on("apps", _scaled("deployments", "statefulsets", "replicasets")),
            _on("argoproj.io", _scaled("rollouts")),
            _on("autoscaling", ["horizontalpodautoscalers"]),
            _on("keda.sh", ["scaledobjects"]),
        ],
        _caps(caps),
    )
    if not caps.public_load_balancers:
        yield from _guard("slipway-not-public", [_on("", ["services"])], [_not_public()])


def _guard(name: str, rules: list[dict[str, Any]], validations: list[dict[str, str]]) -> Iterator[Manifest]:
    labels = part_labels(name)
    yield manifest(
        API,
        "ValidatingAdmissionPolicy",
        name,
        None,
        labels=labels,
        spec={
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "validations": [{**one, "reason": "Forbidden"} for one in validations],
        },
    )
    yield manifest(
        API,
        "ValidatingAdmissionPolicyBinding",
        name,
        None,
        labels=labels,
        spec={
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {POLICY_LABEL: "enforce"}}},
        },
    )


def _on(group: str, resources: list[str], operations: list[str] | None = None) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": operations or ["CREATE", "UPDATE"],
        "resources": resources,
    }


def _scaled(*resources: str) -> list[str]:
    """`kubectl scale` and autoscalers change the subresource, which has the same field."""
    return [name for resource in resources for name in (resource, f"{resource}/scale")]


def _amounts() -> dict[str, str]:
    """A LimitRange of the namespace has filled in what a pod left out, so this refuses only where there is none."""
    checks = []
    for name in LISTS:
        each = " && ".join(
            f"has(c.resources.{kind}) && '{resource}' in c.resources.{kind}"
            for kind in ("requests", "limits")
            for resource in ("cpu", "memory")
        )
        checks.append(f"(!has(object.spec.{name}) || object.spec.{name}.all(c, has(c.resources) && {each}))")
    return {
        "expression": " && ".join(checks),
        "message": "a container is without requests and limits of cpu and memory",
    }


def _host() -> list[dict[str, str]]:
    fields = " || ".join(
        f"(has(object.spec.{field}) && object.spec.{field})" for field in ("hostNetwork", "hostPID", "hostIPC")
    )
    return [
        {"expression": f"!({fields})", "message": "a pod of models uses the network or the processes of its node"},
        {
            "expression": "!has(object.spec.volumes) || object.spec.volumes.all(v, !has(v.hostPath))",
            "message": "a pod of models has a hostPath",
        },
    ]


def _caps(caps: Caps) -> list[dict[str, str]]:
    checks = {
        "replicas": f"!has(object.spec.replicas) || object.spec.replicas <= {caps.max_replicas}",
        "maxReplicas": f"!has(object.spec.maxReplicas) || object.spec.maxReplicas <= {caps.max_replicas}",
        "maxReplicaCount": f"!has(object.spec.maxReplicaCount) || object.spec.maxReplicaCount <= {caps.max_replicas}",
    }
    return [
        {
            "expression": expression,
            "message": f"spec.{field} is more than the {caps.max_replicas} that are allowed here",
        }
        for field, expression in checks.items()
    ]


def _not_public() -> dict[str, str]:
    return {
        "expression": "!has(object.spec.type) || !(object.spec.type in ['LoadBalancer', 'NodePort'])",
        "message": "a Service of a namespace of models is public, expected it to come through the ingress",
    }
