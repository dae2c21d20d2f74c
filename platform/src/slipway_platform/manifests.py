"""A Kubernetes object as data, and the one way it becomes a resource of Pulumi.

The functions that make manifests are pure: they know no Pulumi, so that a test reads what they return. The invariants:
a manifest has no empty value, because Argo Rollouts writes objects back without them and so takes ownership of what it
left out (argoproj/argo-rollouts#3281); what another controller owns after it was created is named beside the object,
and is left alone from then on.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pulumi
from msgspec import Struct

__all__ = ["Body", "Manifest", "manifest", "register"]

Body = dict[str, Any]
"""Keys as in the API server's JSON; values are JSON, or an output of Pulumi where a secret is."""

_ADMISSION: Final = "admissionregistration.k8s.io/v1"
_UPPER: Final = re.compile("[A-Z]")
_EMPTY: Final[tuple[object, ...]] = (None, {}, [], ())
KEPT_EMPTY: Final = frozenset({"emptyDir", "podSelector", "pause", "namespaceSelector"})
"""Where `{}` says something: a volume, every pod, a pause without end."""


class Manifest(Struct, frozen=True, kw_only=True):
    """One object, and what of it is not ours after it was created."""

    body: Body
    others: tuple[str, ...] = ()
    """Paths whose value a controller owns (`spec.weighted.services`): never changed after the object was made."""

    @property
    def kind(self) -> str:
        """`Service`, `Rollout`, …"""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["name"])


def manifest(
    api_version: str,
    kind: str,
    name: str,
    namespace: str | None,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
    others: Sequence[str] = (),
    **fields: object,
) -> Manifest:
    """An object; what is None, or an empty table or list, is left out, at every depth.

    Args:
        api_version: `apps/v1`.
        kind: `Rollout`.
        name: Of the object.
        namespace: None: the kind has none.
        labels: Of the object.
        annotations: Of the object.
        others: As in `Manifest`.
        **fields: `spec`, `data`, …
    """
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": dict(sorted(labels.items())),
        "annotations": annotations,
    }
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
    return Manifest(body=_pruned(body), others=tuple(others))


def register(one: Manifest, name: str, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Make a resource of it.

    Args:
        one: The object.
        name: In the stack; the same name is the same resource.
        opts: Parent, provider and dependencies.
    """
    own = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(ignore_changes=list(one.others)))
    kind = _built_in().get((one.body["apiVersion"], one.kind))
    fields = {_snake(key): value for key, value in one.body.items() if key not in {"apiVersion", "kind"}}
    if kind is None:
        from pulumi_kubernetes.apiextensions import CustomResource

        return CustomResource(name, api_version=one.body["apiVersion"], kind=one.kind, opts=own, **fields)
    resource: pulumi.CustomResource = kind(name, opts=own, **fields)
    return resource


def _built_in() -> dict[tuple[str, str], Any]:
    """The kinds of Kubernetes itself that are made here, with Pulumi's class of each."""
    from pulumi_kubernetes import admissionregistration, apps, autoscaling, core, networking, policy, scheduling

    return {
        ("v1", "ConfigMap"): core.v1.ConfigMap,
        ("v1", "LimitRange"): core.v1.LimitRange,
        ("v1", "Namespace"): core.v1.Namespace,
        ("v1", "PersistentVolumeClaim"): core.v1.PersistentVolumeClaim,
        ("v1", "ResourceQuota"): core.v1.ResourceQuota,
        ("v1", "Secret"): core.v1.Secret,
        ("v1", "Service"): core.v1.Service,
        ("v1", "ServiceAccount"): core.v1.ServiceAccount,
        (_ADMISSION, "ValidatingAdmissionPolicy"): admissionregistration.v1.ValidatingAdmissionPolicy,
        (_ADMISSION, "ValidatingAdmissionPolicyBinding"): admissionregistration.v1.ValidatingAdmissionPolicyBinding,
        (_ADMISSION, "ValidatingWebhookConfiguration"): admissionregistration.v1.ValidatingWebhookConfiguration,
        ("apps/v1", "Deployment"): apps.v1.Deployment,
        ("autoscaling/v2", "HorizontalPodAutoscaler"): autoscaling.v2.HorizontalPodAutoscaler,
        ("networking.k8s.io/v1", "NetworkPolicy"): networking.v1.NetworkPolicy,
        ("policy/v1", "PodDisruptionBudget"): policy.v1.PodDisruptionBudget,
        ("scheduling.k8s.io/v1", "PriorityClass"): scheduling.v1.PriorityClass,
    }


def _snake(key: str) -> str:
    """Pulumi's classes call their arguments so; what is below them keeps its case."""
    return _UPPER.sub(lambda found: f"_{found[0].lower()}", key)


def _pruned(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        kept = {name: _pruned(item, name) for name, item in value.items() if item not in _EMPTY or _says(name, item)}
        return {name: item for name, item in kept.items() if item not in _EMPTY or _says(name, item)}
    if isinstance(value, list | tuple):
        return [_pruned(item, key) for item in value]
    return value


def _says(name: str, value: object) -> bool:
    return name in KEPT_EMPTY and value == {}
