"""What Kubernetes says about a rollout, its pods, versions and analyses, as far as an incident needs it.

It starts no program (`kubectl.py` does), asks no clock and changes nothing. The invariant: what comes out was owned by
this very rollout; fields that a newer controller adds are passed over.
Source: argo-rollouts 1.9.1, `pkg/apis/rollouts/v1alpha1/types.go`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from slipway_bundle.errors import UsageError

__all__ = [
    "HASH",
    "Metadata",
    "Pod",
    "ReplicaSet",
    "Rollout",
    "arms_of",
    "pods_of",
    "read_rollout",
    "replica_sets_of",
]

HASH: Final = "rollouts-pod-template-hash"
"""Label that Argo Rollouts adds to pods and to the selectors of both Services."""

EPHEMERAL: Final = "rollout.argoproj.io/ephemeral-metadata"
"""Annotation of a ReplicaSet: the metadata of its pods that changes with their role."""


class _Owner(Struct, frozen=True):
    uid: str = ""
    kind: str = ""


class Metadata(Struct, frozen=True, rename="camel"):
    """What Kubernetes keeps of every object."""

    name: str
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[_Owner, ...] = ()
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None


class _Container(Struct, frozen=True):
    name: str = ""
    image: str = ""


class _PodSpec(Struct, frozen=True):
    containers: tuple[_Container, ...] = ()


class _Template(Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class _Step(Struct, frozen=True, rename="camel"):
    set_weight: int | None = None
    set_canary_scale: object = None
    pause: object = msgspec.UNSET
    analysis: "_StepAnalysis | None" = None

    @property
    def words(self) -> str:
        """As a person says it."""
        if self.set_weight is not None:
            return f"weight {self.set_weight}"
        if self.analysis is not None:
            return "analysis " + ", ".join(one.template_name for one in self.analysis.templates)
        return "pause" if self.pause is not msgspec.UNSET else "scale of the canary"


class _TemplateName(Struct, frozen=True, rename="camel"):
    template_name: str = ""


class _StepAnalysis(Struct, frozen=True):
    templates: tuple[_TemplateName, ...] = ()


class _Canary(Struct, frozen=True, rename="camel"):
    steps: tuple[_Step, ...] = ()
    stable_service: str = ""
    canary_service: str = ""


class _Strategy(Struct, frozen=True):
    canary: _Canary | None = None


class _Selector(Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = {}


class _RolloutSpec(Struct, frozen=True, rename="camel"):
    strategy: _Strategy = _Strategy()
    selector: _Selector = _Selector()
    template: _Template = _Template()
    replicas: int = 1
    paused: bool = False


class _Weight(Struct, frozen=True, rename="camel"):
    weight: int = 0
    pod_template_hash: str = ""


class _Weights(Struct, frozen=True):
    canary: _Weight = _Weight()
    stable: _Weight = _Weight()


class _CanaryStatus(Struct, frozen=True):
    weights: _Weights | None = None


class _PauseCondition(Struct, frozen=True):
    reason: str = ""


class _RolloutStatus(Struct, frozen=True, rename="camel"):
    phase: str = ""
    message: str = ""
    abort: bool = False
    stable_rs: str = msgspec.field(name="stableRS", default="")
    current_pod_hash: str = ""
    current_step_index: int | None = None
    pause_conditions: tuple[_PauseCondition, ...] = ()
    controller_pause: bool = False
    promote_full: bool = False
    canary: _CanaryStatus = _CanaryStatus()


class _RolloutDocument(Struct, frozen=True):
    metadata: Metadata
    spec: _RolloutSpec
    status: _RolloutStatus = _RolloutStatus()


class Rollout(Struct, frozen=True, kw_only=True):
    """A rollout as far as an incident needs it."""

    namespace: str
    name: str
    uid: str
    phase: str
    message: str
    stable: str
    """Hash of the pods that have the traffic."""
    current: str
    """Hash of the template's pods; the stable one when nothing is released."""
    image: str
    """Of the template's first container."""
    weight: int | None
    """What the canary has; None without a router."""
    step: int
    steps: tuple[str, ...]
    weights: dict[str, int]
    """Weight -> index of the step that sets it; the first, where two do."""
    selector: dict[str, str]
    is_held: bool
    """`spec.paused`: a person holds it."""
    is_aborted: bool
    is_promoted: bool
    pauses: tuple[str, ...]
    """Why the controller waits."""

    @property
    def has_canary(self) -> bool:
        """Whether two versions are there."""
        return bool(self.stable) and self.current != self.stable

    @property
    def canary_weight(self) -> int:
        """What the canary has; without a router, what the steps say."""
        return self.weight or 0


class Pod(Struct, frozen=True, kw_only=True):
    """A pod of a rollout."""

    name: str
    hash: str
    image: str
    is_ready: bool
    restarts: int


class ReplicaSet(Struct, frozen=True, kw_only=True):
    """A version that the cluster still knows."""

    name: str
    hash: str
    image: str
    revision: int
    template: dict[str, Any]
    """As it is, without the hash's label."""


def read_rollout(data: bytes) -> Rollout:
    """A rollout from `kubectl get rollout -o json`.

    Raises:
        UsageError: It is none, or has another strategy than canary.
    """
    try:
        found = msgspec.json.decode(data, type=_RolloutDocument)
    except msgspec.MsgspecError as error:
        raise UsageError(f"kubectl showed something that is no rollout: {error}") from error
    canary, status, meta = found.spec.strategy.canary, found.status, found.metadata
    if canary is None:
        raise UsageError(f"rollout {meta.namespace}/{meta.name} has no canary strategy, expected one")
    weights: dict[str, int] = {}
    for index, step in enumerate(canary.steps):
        if step.set_weight is not None:
            weights.setdefault(str(step.set_weight), index)
    containers = found.spec.template.spec.containers
    return Rollout(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        phase=status.phase or "Unknown",
        message=status.message,
        stable=status.stable_rs,
        current=status.current_pod_hash,
        image=containers[0].image if containers else "",
        weight=None if status.canary.weights is None else status.canary.weights.canary.weight,
        step=status.current_step_index or 0,
        steps=tuple(step.words for step in canary.steps),
        weights=weights,
        selector=found.spec.selector.match_labels,
        is_held=found.spec.paused,
        is_aborted=status.abort,
        is_promoted=status.promote_full,
        pauses=tuple(one.reason for one in status.pause_conditions),
    )


class _Condition(Struct, frozen=True):
    type: str
    status: str


class _ContainerStatus(Struct, frozen=True, rename="camel"):
    restart_count: int = 0


class _PodStatus(Struct, frozen=True, rename="camel"):
    conditions: tuple[_Condition, ...] = ()
    container_statuses: tuple[_ContainerStatus, ...] = ()


class _PodDocument(Struct, frozen=True):
    metadata: Metadata
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()


class _Pods(Struct, frozen=True):
    items: tuple[_PodDocument, ...] = ()


def pods_of(data: bytes) -> tuple[Pod, ...]:
    """The pods of `kubectl get pods -o json` that Argo Rollouts counts and nobody deletes; ready ones first."""
    found = [
        Pod(
            name=one.metadata.name,
            hash=one.metadata.labels[HASH],
            image=one.spec.containers[0].image if one.spec.containers else "",
            is_ready=any(each.type == "Ready" and each.status == "True" for each in one.status.conditions),
            restarts=sum(each.restart_count for each in one.status.container_statuses),
        )
        for one in msgspec.json.decode(data, type=_Pods).items
        if HASH in one.metadata.labels and one.metadata.deletion_timestamp is None
    ]
    return tuple(sorted(found, key=lambda pod: (pod.hash, not pod.is_ready, pod.name)))


class _Marks(Struct, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _SetSpec(Struct, frozen=True):
    template: dict[str, Any] = {}


class _SetDocument(Struct, frozen=True):
    metadata: Metadata
    spec: _SetSpec


class _Sets(Struct, frozen=True):
    items: tuple[_SetDocument, ...] = ()


def replica_sets_of(rollout: Rollout, data: bytes) -> tuple[ReplicaSet, ...]:
    """The ReplicaSets of `kubectl get replicasets -o json` that are the rollout's, the newest revision first."""
    found = []
    for one in msgspec.json.decode(data, type=_Sets).items:
        if rollout.uid not in {owner.uid for owner in one.metadata.owner_references}:
            continue
        template = _own_template(one)
        containers = template.get("spec", {}).get("containers") or [{}]
        found.append(
            ReplicaSet(
                name=one.metadata.name,
                hash=one.metadata.labels.get(HASH, ""),
                image=str(containers[0].get("image", "")),
                revision=int(one.metadata.annotations.get("rollout.argoproj.io/revision", "0")),
                template=template,
            )
        )
    return tuple(sorted(found, key=lambda each: -each.revision))


def _own_template(document: _SetDocument) -> dict[str, Any]:
    """As the rollout had it: without the hash, and without the metadata that marks pods as stable or canary."""
    template: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document.spec.template))
    marks = msgspec.json.decode(document.metadata.annotations.get(EPHEMERAL, "{}"), type=_Marks)
    metadata = template.get("metadata", {})
    for kept, dropped in (("labels", [HASH, *marks.labels]), ("annotations", marks.annotations)):
        for name in dropped:
            metadata.get(kept, {}).pop(name, None)
        if kept in metadata and not metadata[kept]:
            del metadata[kept]
    return template


def arms_of(rollout: Rollout, pods: Sequence[Pod]) -> Mapping[str, Mapping[str, Any]]:
    """Arm -> its hash, image, weight and pods; without a canary there is stable alone."""
    arms = {"stable": rollout.stable or rollout.current}
    if rollout.has_canary:
        arms["canary"] = rollout.current
    weights = {"stable": 100 - rollout.canary_weight, "canary": rollout.canary_weight}
    found = {}
    for arm, digest in arms.items():
        own = [pod for pod in pods if pod.hash == digest]
        found[arm] = {
            "hash": digest,
            "image": own[0].image if own else (rollout.image if digest == rollout.current else ""),
            "weight": weights[arm] if rollout.weight is not None else None,
            "ready": sum(pod.is_ready for pod in own),
            "pods": len(own),
            "restarts": sum(pod.restarts for pod in own),
        }
    return found
