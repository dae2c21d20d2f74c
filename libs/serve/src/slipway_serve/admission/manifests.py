"""The Kubernetes objects that make a cluster ask the webhook, and that ask for digests even without it.

It applies nothing. The invariants: nothing is judged outside of namespaces with the label, so that the cluster's own
pods start when the webhook is down; inside of them its silence is a no (`failurePolicy: Fail`); the namespace of the
webhook is never judged by it, because it could not start again.
Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/ and
.../extensible-admission-controllers/ (best practices).
"""

import base64
from typing import Any, Final

import yaml
from msgspec import Struct

__all__ = ["LABEL", "AdmissionManifests", "admission_manifests"]

NAME: Final = "slipway-policy"
LABEL: Final = "slipway.io/policy"
"""Namespaces with this label and the value `enforce` are judged."""
TIMEOUT_S: Final = 10
LISTS: Final = ("initContainers", "containers", "ephemeralContainers")
DIGEST: Final = "image.matches('@sha256:[0-9a-f]{64}$')"


class AdmissionManifests(Struct, frozen=True, kw_only=True):
    """Where the webhook is."""

    service: str = NAME
    """Kubernetes Service in front of `slipway policy webhook`."""

    namespace: str = "slipway-system"
    """Where that Service is."""

    port: int = 443
    ca: bytes | None = None
    """PEM of who signed the webhook's certificate; None: cert-manager or another injector fills it in."""


def admission_manifests(given: AdmissionManifests) -> str:
    """YAML of three objects: the webhook's configuration, the policy that asks for digests, and its binding."""
    return yaml.safe_dump_all(
        [_webhook(given), _digests(), _binding()], sort_keys=False, explicit_start=True, allow_unicode=True, width=120
    )


def _webhook(given: AdmissionManifests) -> dict[str, Any]:
    client: dict[str, Any] = {
        "service": {"name": given.service, "namespace": given.namespace, "path": "/validate", "port": given.port}
    }
    if given.ca is not None:
        client["caBundle"] = base64.b64encode(given.ca).decode()
    not_itself = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [given.namespace]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": "policy.slipway.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "timeoutSeconds": TIMEOUT_S,
                "namespaceSelector": {"matchLabels": {LABEL: "enforce"}, "matchExpressions": [not_itself]},
                "rules": [_pods()],
                "clientConfig": client,
            }
        ],
    }


def _digests() -> dict[str, Any]:
    by_tag = f"variables.images.filter(image, !(image in variables.before) && !{DIGEST})"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"{NAME}-digests"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [_pods()]},
            "variables": [
                {"name": "images", "expression": _images("object")},
                {"name": "before", "expression": f"oldObject == null ? [] : {_images('oldObject')}"},
                {"name": "byTag", "expression": by_tag},
            ],
            "validations": [
                {
                    "expression": "variables.byTag.size() == 0",
                    "messageExpression": (
                        "'named by tag: ' + variables.byTag.join(', ')"
                        " + '; expected NAME@sha256:…, which `slipway bundle push` prints'"
                    ),
                    "reason": "Forbidden",
                }
            ],
        },
    }


def _images(pod: str) -> str:
    """CEL: the images of a pod's containers; those of volumes are the webhook's, as not every cluster has them."""
    parts = [f"(has({pod}.spec.{name}) ? {pod}.spec.{name}.map(c, c.image) : [])" for name in LISTS]
    return " + ".join(parts)


def _binding() -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": f"{NAME}-digests"},
        "spec": {
            "policyName": f"{NAME}-digests",
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {LABEL: "enforce"}}},
        },
    }


def _pods() -> dict[str, Any]:
    """Pods when they are made, and when a debug container is added to one that runs."""
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["pods", "pods/ephemeralcontainers"],
    }
