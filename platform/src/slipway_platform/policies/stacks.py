"""What is asked of a stack as a whole: what one object cannot show.

Pure: resources as plain values in, sentences out. The invariants: what can have several pods has a budget for
disruptions; what holds data is protected; images are judged by the webhook wherever models run; the stack has a price
known beforehand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from slipway_platform.policies.rules import SCALED, Limits, pod_spec
from slipway_serve.admission.manifests import LABEL as POLICY_LABEL

__all__ = ["STACK_RULES", "Resource", "StackRule"]

NODE_POOL: Final = "kubernetes:karpenter.sh/v1:NodePool"
STATEFUL: Final = frozenset(
    {
        "aws:ec2/vpc:Vpc",
        "aws:eks/cluster:Cluster",
        "aws:kms/key:Key",
        "kubernetes:core/v1:PersistentVolumeClaim",
    }
)
"""Types that hold what nobody can make again."""


class Resource(Struct, frozen=True, kw_only=True):
    """A resource of a stack."""

    type: str
    name: str
    properties: Mapping[str, Any]
    is_protected: bool = False


class StackRule(Struct, frozen=True, kw_only=True):
    """One rule about all resources of a stack."""

    name: str
    asks: str
    check: Callable[[Sequence[Resource], Limits], Iterator[str]]


def _objects(resources: Sequence[Resource], *kinds: str) -> Iterator[Resource]:
    return (one for one in resources if one.type.startswith("kubernetes:") and one.type.rpartition(":")[2] in kinds)


def _budgets(resources: Sequence[Resource], _limits: Limits) -> Iterator[str]:
    guarded = [
        (_namespace(one), ((one.properties.get("spec") or {}).get("selector") or {}).get("matchLabels") or {})
        for one in _objects(resources, "PodDisruptionBudget")
    ]
    scaled = _most_replicas(resources)
    for one in _objects(resources, *SCALED):
        spec = one.properties.get("spec") or {}
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        most = scaled.get((_namespace(one), _name(one)), spec.get("replicas") or 1)
        covered = any(
            where == _namespace(one) and wanted and wanted.items() <= labels.items() for where, wanted in guarded
        )
        if most > 1 and not covered:
            yield f"{one.name} may have {most:g} pods, and no PodDisruptionBudget selects them"


def _protected(resources: Sequence[Resource], _limits: Limits) -> Iterator[str]:
    for one in resources:
        if one.type in STATEFUL and not one.is_protected:
            yield f"{one.name} ({one.type}) holds what nobody can make again, and is not protected"


def _judged(resources: Sequence[Resource], _limits: Limits) -> Iterator[str]:
    """Signatures are checked by the webhook; here is only seen that it is asked."""
    spaces = [one for one in _objects(resources, "Namespace") if _labels(one).get(POLICY_LABEL) == "enforce"]
    for one in _objects(resources, "Rollout"):
        space = next((space for space in _objects(resources, "Namespace") if _name(space) == _namespace(one)), None)
        if space is not None and space not in spaces:
            yield f"{one.name} runs in a namespace without the label {POLICY_LABEL}=enforce: nobody judges its images"
    for hook in _objects(resources, "ValidatingWebhookConfiguration"):
        for entry in hook.properties.get("webhooks") or ():
            if entry.get("failurePolicy") != "Fail":
                yield f"{hook.name} lets pods in when the webhook is silent, expected `failurePolicy: Fail`"


def _priced(resources: Sequence[Resource], limits: Limits) -> Iterator[str]:
    scaled = _most_replicas(resources)
    gpus = 0.0
    for one in _objects(resources, *SCALED):
        found = pod_spec({**one.properties, "kind": one.type.rpartition(":")[2]})
        containers = () if found is None else found[1].get("containers") or ()
        each = sum(_gpus(container) for container in containers)
        most = scaled.get((_namespace(one), _name(one)), (one.properties.get("spec") or {}).get("replicas") or 1)
        gpus += each * most
    if gpus > limits.max_gpus:
        yield f"the stack may take {gpus:g} GPUs, expected at most {limits.max_gpus}"
    cpus = 0
    for pool in (one for one in resources if one.type == NODE_POOL):
        cap = ((pool.properties.get("spec") or {}).get("limits") or {}).get("cpu")
        if cap is None:
            yield f"{pool.name} has no limit of processors, so nothing caps its cost"
        else:
            cpus += int(cap)
    if cpus > limits.max_cpus:
        yield f"the node pools may start {cpus} processors, expected at most {limits.max_cpus}"


def _most_replicas(resources: Sequence[Resource]) -> dict[tuple[str, str], float]:
    """Namespace and name of what an autoscaler scales -> how far."""
    found: dict[tuple[str, str], float] = {}
    for one in _objects(resources, "HorizontalPodAutoscaler", "ScaledObject"):
        spec = one.properties.get("spec") or {}
        target = (spec.get("scaleTargetRef") or {}).get("name")
        most = spec.get("maxReplicas") or spec.get("maxReplicaCount")
        if target is not None and most is not None:
            found[_namespace(one), str(target)] = most
    return found


def _gpus(container: Mapping[str, Any]) -> float:
    limits = (container.get("resources") or {}).get("limits") or {}
    return sum(float(amount) for name, amount in limits.items() if name.endswith("/gpu"))


def _name(one: Resource) -> str:
    return str((one.properties.get("metadata") or {}).get("name", one.name))


def _namespace(one: Resource) -> str:
    return str((one.properties.get("metadata") or {}).get("namespace", "default"))


def _labels(one: Resource) -> Mapping[str, str]:
    labels: Mapping[str, str] = (one.properties.get("metadata") or {}).get("labels") or {}
    return labels


STACK_RULES: Final = (
    StackRule(
        name="disruption-budget", asks="What may have several pods has a budget for disruptions.", check=_budgets
    ),
    StackRule(name="protected", asks="What nobody can make again is protected.", check=_protected),
    StackRule(
        name="images-judged", asks="Wherever models run, the webhook is asked, and its silence is a no.", check=_judged
    ),
    StackRule(name="cost-cap", asks="GPUs and processors of a stack keep to the company's caps.", check=_priced),
)
