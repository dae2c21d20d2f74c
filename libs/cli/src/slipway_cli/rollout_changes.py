"""Which patch makes Argo Rollouts do what a person wants in an incident.

It starts no program and asks no clock. The invariants: a patch is one that the controller keeps by itself: it sets what
`kubectl argo rollouts` sets, never a weight of the router, which would be overwritten within seconds; what would give a
candidate more traffic than the gate allowed says so.
Source: argo-rollouts 1.9.1, `rollout/canary.go`, `rollout/trafficrouting.go` and `pkg/kubectl-argo-rollouts/cmd`.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from slipway_bundle.errors import IntegrityError, UsageError
from slipway_cli.rollouts import HASH, Pod, ReplicaSet, Rollout

__all__ = ["ISOLATED", "RolloutStateError", "Shift", "isolation", "previous_set", "shift_to", "template_patch"]

ISOLATED: Final = "slipway.dev/isolated"
"""Label of a pod that was taken out."""


class RolloutStateError(IntegrityError):
    """The rollout is not in a state in which that can be done."""

    code = "rollout_state"


class Shift(Struct, frozen=True, kw_only=True):
    """What to send, and what is true afterwards."""

    spec: dict[str, Any] | None
    """Merge patch of the rollout; None: nothing."""
    status: dict[str, Any] | None
    """Merge patch of its subresource `status`."""
    weight: int | None
    """What the canary has in the end; None: that is the pipeline's business again."""
    is_unjudged: bool
    """Whether the gate has not said pass for so much."""
    text: str


def shift_to(rollout: Rollout, target: str) -> Shift:
    """How the traffic goes to `stable`, to `canary`, to a weight of the pipeline, or back to the `pipeline`.

    Raises:
        RolloutStateError: There is no canary, or it was aborted.
        UsageError: No step of the pipeline sets that weight.
    """
    where = f"{rollout.namespace}/{rollout.name}"
    if not rollout.has_canary:
        raise RolloutStateError(
            f"nothing is released in {where}: all traffic goes to {rollout.stable or 'its first version'}",
            hint="`slipway rollback SERVICE --env ENV --now` goes back to the version before",
        )
    if target == "stable":
        text = "all traffic goes to stable; the canary's pods stay for a while, and the release is over"
        return Shift(spec=None, status={"abort": True}, weight=0, is_unjudged=False, text=text)
    if target == "pipeline":
        return _resumed(rollout)
    if rollout.is_aborted:
        raise RolloutStateError(
            f"the release in {where} was aborted, and its canary gets no traffic",
            hint="`--to pipeline` begins again with its first step",
        )
    if target == "canary":
        return Shift(
            spec={"paused": False} if rollout.is_held else None,
            status={"promoteFull": True},
            weight=100,
            is_unjudged=True,
            text="the canary becomes stable, without the rest of the steps",
        )
    return _held_at(rollout, target)


def _resumed(rollout: Rollout) -> Shift:
    """The controller decides again: it begins anew after an abort, and asks again where it waits for a verdict."""
    if rollout.is_aborted:
        return Shift(
            spec={"paused": False} if rollout.is_held else None,
            status={"abort": False},
            weight=None,
            is_unjudged=False,
            text="the release begins again with its first step",
        )
    return Shift(
        spec={"paused": False} if rollout.is_held else None,
        status={"pauseConditions": None} if rollout.pauses else None,
        weight=None,
        is_unjudged=False,
        text=f"the pipeline goes on at step {rollout.step + 1} of {len(rollout.steps)}"
        + ("; an inconclusive verdict is asked for again" if "InconclusiveAnalysisRun" in rollout.pauses else ""),
    )


def _held_at(rollout: Rollout, target: str) -> Shift:
    """Held by `spec.paused` in the step that sets the weight: steps end only where nobody holds."""
    known = ", ".join(sorted(rollout.weights, key=int)) or "none"
    if target not in rollout.weights:
        raise UsageError(
            f"the pipeline of {rollout.namespace}/{rollout.name} has no step with weight {target!r}, expected stable, "
            f"canary, pipeline or one of {known}",
            hint="the controller sets back any weight that no step has",
        )
    weight = int(target)
    return Shift(
        spec={"paused": True},
        status={"currentStepIndex": rollout.weights[target], "pauseConditions": None},
        weight=weight,
        is_unjudged=weight > rollout.canary_weight,
        text=f"the canary has {weight} of 100, and is held there until `--to pipeline`, `stable` or `canary`",
    )


def isolation(rollout: Rollout, pods: Sequence[Pod], name: str, *, is_forced: bool = False) -> dict[str, Any]:
    """The patch that takes a pod out of Services and ReplicaSet: it stays, gets no traffic, and is replaced.

    Without the labels of the rollout's selector neither autoscaler nor budget counts it.

    Raises:
        UsageError: There is no such pod.
        RolloutStateError: It is the last ready one of its version.
    """
    pod = next((one for one in pods if one.name == name), None)
    if pod is None:
        known = ", ".join(one.name for one in pods) or "none"
        raise UsageError(f"rollout {rollout.namespace}/{rollout.name} has no pod {name!r}, expected one of {known}")
    others = [one for one in pods if one.hash == pod.hash and one.is_ready and one.name != name]
    if pod.is_ready and not others and not is_forced:
        raise RolloutStateError(
            f"{name} is the last ready pod of {pod.hash}: without it nobody answers until its replacement is ready",
            hint="wait for another one, or say `--anyway`",
        )
    taken: dict[str, str | None] = dict.fromkeys([HASH, *rollout.selector])
    annotation = {"slipway.dev/isolated-from": f"{rollout.name}-{pod.hash}"}
    return {"metadata": {"labels": {**taken, ISOLATED: rollout.name}, "annotations": annotation}}


def previous_set(rollout: Rollout, sets: Sequence[ReplicaSet], image: str) -> ReplicaSet:
    """The version with this image: the stable one when it is that, else the newest that had it.

    Raises:
        RolloutStateError: The cluster does not know it any more.
    """
    having = [one for one in sets if one.image == image]
    found = next((one for one in having if one.hash == rollout.stable), having[0] if having else None)
    if found is None:
        known = ", ".join(one.image for one in sets) or "none"
        raise RolloutStateError(
            f"no ReplicaSet of {rollout.namespace}/{rollout.name} has the image {image}: got {known}",
            hint="it is too long ago; without `--now` the stack file is changed, and `pulumi up` releases it",
        )
    return found


def template_patch(found: ReplicaSet) -> list[dict[str, Any]]:
    """The JSON patch with which a rollout becomes that version again, environment and all."""
    return [{"op": "replace", "path": "/spec/template", "value": found.template}]
