"""What is asked of one Kubernetes object, whoever makes it: the rules of the policy pack, as functions.

Pure: an object as JSON in, sentences out. It judges neither a whole stack (`stacks`) nor what changes past Pulumi
(`admission`). The invariants: a rule that does not understand an object says nothing about it; a rule that cannot see
what it asks for (a value that is known only later) says so, rather than nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from slipway_platform.quantities import QuantityError, cpu, memory

__all__ = ["RULES", "Limits", "Rule", "pod_spec", "violations"]

Object = Mapping[str, Any]
"""A Kubernetes object as the API server takes it: `apiVersion`, `kind`, `metadata`, `spec`."""

DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}\Z")
TEMPLATED: Final = frozenset({"DaemonSet", "Deployment", "Job", "ReplicaSet", "Rollout", "StatefulSet"})
SCALED: Final = frozenset({"Deployment", "ReplicaSet", "Rollout", "StatefulSet"})
HOST_FIELDS: Final = ("hostNetwork", "hostPID", "hostIPC")
LABELS: Final = ("app.kubernetes.io/name", "app.kubernetes.io/part-of")


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a company sets: the caps on cost, and what may be public."""

    max_replicas: int = 20
    """Of one workload, and of one autoscaler."""

    max_gpus: int = 8
    """Of all workloads of a stack together, at the most replicas that each may have."""

    max_cpus: int = 1_000
    """Of all node pools of a stack together."""

    public_load_balancers: tuple[str, ...] = ()
    """`NAMESPACE/NAME` of Services that may be of type LoadBalancer."""


class Rule(Struct, frozen=True, kw_only=True):
    """One rule."""

    name: str
    """As it is shown and switched off: `image-by-digest`."""

    asks: str
    """In one sentence."""

    check: Callable[[Object, Limits], Iterator[str]]
    """Yields what is wrong: the place, what it got, what it expected."""


def violations(one: Object, limits: Limits | None = None) -> list[str]:
    """Everything that is wrong with an object, each with the name of its rule in front."""
    given = limits or Limits()
    return [f"{rule.name}: {message}" for rule in RULES for message in rule.check(one, given)]


def pod_spec(one: Object) -> tuple[str, Object] | None:
    """The pod's spec in a workload or an analysis, and its path; None where there is none."""
    spec = one.get("spec") or {}
    match one.get("kind"):
        case "Pod":
            return "spec", spec
        case "CronJob":
            return _inside(spec, "jobTemplate", "spec", "template", "spec")
        case "PodTemplate":
            return _inside(one, "template", "spec", start="")
        case str(kind) if kind in TEMPLATED:
            return _inside(spec, "template", "spec")
        case _:
            return None


def _inside(table: Object, *keys: str, start: str = "spec") -> tuple[str, Object] | None:
    found: Any = table
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    path = ".".join(part for part in (start, *keys) if part)
    return (path, found) if isinstance(found, Mapping) else None


def _pods(one: Object) -> Iterator[tuple[str, Object]]:
    """Every pod's spec in an object; an AnalysisTemplate has one for each of its Jobs."""
    single = pod_spec(one)
    if single is not None:
        yield single
    if one.get("kind") in {"AnalysisTemplate", "ClusterAnalysisTemplate"}:
        for number, metric in enumerate((one.get("spec") or {}).get("metrics") or ()):
            job = _inside(metric, "provider", "job", "spec", "template", "spec", start=f"spec.metrics[{number}]")
            if job is not None:
                yield job


def _containers(one: Object) -> Iterator[tuple[str, Object]]:
    for path, spec in _pods(one):
        for key in ("initContainers", "containers", "ephemeralContainers"):
            for number, container in enumerate(spec.get(key) or ()):
                yield f"{path}.{key}[{number}]", container


def _digests(one: Object, _limits: Limits) -> Iterator[str]:
    for path, container in _containers(one):
        image = str(container.get("image", ""))
        if not DIGEST.search(image):
            yield f"{path}.image is {image!r}, expected NAME@sha256:…"
    for path, spec in _pods(one):
        for number, volume in enumerate(spec.get("volumes") or ()):
            reference = (volume.get("image") or {}).get("reference")
            if reference is not None and not DIGEST.search(str(reference)):
                yield f"{path}.volumes[{number}].image.reference is {reference!r}, expected NAME@sha256:…"


def _amounts(one: Object, _limits: Limits) -> Iterator[str]:
    for path, container in _containers(one):
        resources = container.get("resources") or {}
        for kind in ("requests", "limits"):
            for name in ("cpu", "memory"):
                amount = (resources.get(kind) or {}).get(name)
                if amount is None:
                    yield f"{path}.resources.{kind}.{name} is not set"
                elif (problem := _not_canonical(name, amount)) is not None:
                    yield f"{path}.resources.{kind}.{name} {problem}"


def _not_canonical(name: str, amount: object) -> str | None:
    """Argo Rollouts writes other spellings back as this one, and so takes the field (argo-rollouts#3281)."""
    try:
        canonical = cpu(str(amount)) if name == "cpu" else memory(str(amount))
    except QuantityError as error:
        return f"cannot be read: {error.message}"
    return None if canonical == amount else f"is {amount!r}, expected the canonical {canonical!r}"


def _host(one: Object, _limits: Limits) -> Iterator[str]:
    for path, spec in _pods(one):
        for field in HOST_FIELDS:
            if spec.get(field):
                yield f"{path}.{field} is true, expected it not to be"
        for number, volume in enumerate(spec.get("volumes") or ()):
            if "hostPath" in volume:
                yield f"{path}.volumes[{number}] is a hostPath, expected none"
    for path, container in _containers(one):
        for number, port in enumerate(container.get("ports") or ()):
            if port.get("hostPort"):
                yield f"{path}.ports[{number}].hostPort is {port['hostPort']}, expected none"


def _restricted(one: Object, _limits: Limits) -> Iterator[str]:
    for path, spec in _pods(one):
        pod = spec.get("securityContext") or {}
        for key in ("initContainers", "containers"):
            for number, container in enumerate(spec.get(key) or ()):
                yield from _container_security(f"{path}.{key}[{number}].securityContext", container, pod)


def _container_security(path: str, container: Object, pod: Object) -> Iterator[str]:
    own = container.get("securityContext") or {}
    if own.get("privileged"):
        yield f"{path}.privileged is true, expected it not to be"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{path}.allowPrivilegeEscalation is not false"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield f"{path}.runAsNonRoot is not true, nor is that of its pod"
    if own.get("runAsUser", pod.get("runAsUser")) == 0:
        yield f"{path}.runAsUser is 0, which is root"
    if "ALL" not in ((own.get("capabilities") or {}).get("drop") or ()):
        yield f"{path}.capabilities.drop is without ALL"
    profile = (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type")
    if profile not in {"RuntimeDefault", "Localhost"}:
        yield f"{path}.seccompProfile.type is {profile!r}, expected 'RuntimeDefault'"


def _public(one: Object, limits: Limits) -> Iterator[str]:
    metadata = one.get("metadata") or {}
    name = f"{metadata.get('namespace', 'default')}/{metadata.get('name')}"
    kind = (one.get("spec") or {}).get("type") if one.get("kind") == "Service" else None
    if kind == "LoadBalancer" and name not in limits.public_load_balancers:
        yield f"the Service {name} is of type LoadBalancer, and is not among `public_load_balancers`"
    if kind == "NodePort":
        yield f"the Service {name} is of type NodePort, which opens a port on every node"


def _labelled(one: Object, _limits: Limits) -> Iterator[str]:
    if one.get("kind") not in TEMPLATED | {"CronJob", "Service"}:
        return
    labels = (one.get("metadata") or {}).get("labels") or {}
    for label in LABELS:
        if label not in labels:
            yield f"metadata.labels is without {label!r}"


def _capped(one: Object, limits: Limits) -> Iterator[str]:
    spec = one.get("spec") or {}
    kind = one.get("kind")
    if kind in SCALED and (spec.get("replicas") or 0) > limits.max_replicas:
        yield f"spec.replicas is {spec['replicas']:g}, expected at most {limits.max_replicas}"
    cap = {"HorizontalPodAutoscaler": "maxReplicas", "ScaledObject": "maxReplicaCount"}.get(str(kind))
    if cap is None:
        return
    most = spec.get(cap)
    if most is None:
        yield f"spec.{cap} is not set, so nothing caps the cost"
    elif most > limits.max_replicas:
        yield f"spec.{cap} is {most:g}, expected at most {limits.max_replicas}"


def _token(one: Object, _limits: Limits) -> Iterator[str]:
    for path, spec in _pods(one):
        if spec.get("automountServiceAccountToken") is not False and one.get("kind") not in {"Job", "CronJob"}:
            yield f"{path}.automountServiceAccountToken is not false: a server of models needs no token of Kubernetes"


RULES: Final = (
    Rule(name="image-by-digest", asks="Images are named by digest, never by a tag.", check=_digests),
    Rule(
        name="requests-and-limits",
        asks="Every container says what it needs and what it may take, in canonical quantities.",
        check=_amounts,
    ),
    Rule(
        name="nothing-of-the-host", asks="No pod uses the network, processes, ports or files of its node.", check=_host
    ),
    Rule(name="restricted-pod", asks="Pods keep to the Pod Security Standard `restricted`.", check=_restricted),
    Rule(name="no-token", asks="Servers get no token of Kubernetes.", check=_token),
    Rule(name="not-public", asks="No Service is public but those that are named.", check=_public),
    Rule(name="labelled", asks="Workloads and Services say what they are and what they belong to.", check=_labelled),
    Rule(name="capped", asks="Replicas and autoscalers have a cap, and keep to it.", check=_capped),
)
