"""`slipway traffic`: from what Kubernetes says to the patch that Argo Rollouts keeps. Live: tests/lab."""

import json
from typing import Any

import pytest
from cli_commands import Slipway

from slipway_bundle.errors import UsageError
from slipway_cli.rollout_analyses import analyses_of
from slipway_cli.rollout_changes import RolloutStateError, isolation, previous_set, shift_to, template_patch
from slipway_cli.rollouts import HASH, Rollout, arms_of, pods_of, read_rollout, replica_sets_of

UID = "6f1c"
STEPS = [
    {"setCanaryScale": {"replicas": 1}},
    {"analysis": {"templates": [{"templateName": "churn-smoke"}]}},
    {"setWeight": 10},
    {"analysis": {"templates": [{"templateName": "churn-stage"}]}},
    {"pause": {}},
    {"setWeight": 30},
    {"setWeight": 100},
]
STABLE, CANARY = "6d5f8b", "7c9d4e"


def document(*, spec: dict[str, Any] | None = None, **status: Any) -> bytes:
    """A rollout at weight 10, as `kubectl get -o json` shows it."""
    template = {"spec": {"containers": [{"name": "model", "image": f"r.io/churn@{CANARY}"}]}}
    selector = {"matchLabels": {"slipway.dev/service": "churn"}}
    canary = {"steps": STEPS, "stableService": "churn-stable", "canaryService": "churn-canary"}
    known = {
        "phase": "Progressing",
        "stableRS": STABLE,
        "currentPodHash": CANARY,
        "currentStepIndex": 3,
        "canary": {"weights": {"canary": {"weight": 10}, "stable": {"weight": 90}}},
    }
    return json.dumps(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "metadata": {"name": "churn", "namespace": "shop", "uid": UID},
            "spec": {"selector": selector, "template": template, "strategy": {"canary": canary}, **(spec or {})},
            "status": {**known, **status},
        }
    ).encode()


def rollout(**more: Any) -> Rollout:
    return read_rollout(document(**more))


def pod(name: str, version: str, *, ready: bool = True, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {HASH: version, "slipway.dev/service": "churn"}, **metadata},
        "spec": {"containers": [{"image": f"r.io/churn@{version}"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": 2}],
        },
    }


def items(*documents: dict[str, Any]) -> bytes:
    return json.dumps({"items": documents}).encode()


def test_all_to_stable_is_an_abort() -> None:
    """The controller itself sends an aborted canary nothing."""
    shift = shift_to(rollout(), "stable")

    assert (shift.spec, shift.status, shift.weight) == (None, {"abort": True}, 0)
    assert not shift.is_unjudged


def test_less_traffic_is_held_in_the_step_that_sets_it() -> None:
    """Held: no step ends, so no weight changes. What waits for a verdict does not wait any more."""
    at_thirty = rollout(currentStepIndex=5, canary={"weights": {"canary": {"weight": 30}}})

    shift = shift_to(at_thirty, "10")

    assert shift.spec == {"paused": True}
    assert shift.status == {"currentStepIndex": 2, "pauseConditions": None}
    assert (shift.weight, shift.is_unjudged) == (10, False)


@pytest.mark.parametrize("target", ["30", "100", "canary"])
def test_more_than_the_gate_allowed_says_so(target: str) -> None:
    shift = shift_to(rollout(), target)

    assert shift.is_unjudged
    assert shift.weight == (30 if target == "30" else 100)


def test_all_to_the_canary_skips_the_rest_and_lets_go() -> None:
    shift = shift_to(rollout(spec={"paused": True}), "canary")

    assert (shift.spec, shift.status) == ({"paused": False}, {"promoteFull": True})


@pytest.mark.parametrize("target", ["20", "0", "-10", "tens", ""])
def test_a_weight_that_no_step_has_is_refused_with_those_that_are_there(target: str) -> None:
    """The controller would set it back within seconds."""
    with pytest.raises(UsageError, match="expected stable, canary, pipeline or one of 10, 30, 100"):
        shift_to(rollout(), target)


def test_the_pipeline_asks_again_where_it_waits_for_a_verdict() -> None:
    """`controllerPause` stays: it is what makes the controller ask anew, instead of skipping the step."""
    waiting = rollout(
        spec={"paused": True}, pauseConditions=[{"reason": "InconclusiveAnalysisRun"}], controllerPause=True
    )

    shift = shift_to(waiting, "pipeline")

    assert (shift.spec, shift.status, shift.weight) == ({"paused": False}, {"pauseConditions": None}, None)
    assert "asked for again" in shift.text


def test_after_an_abort_only_the_beginning_is_left() -> None:
    aborted = rollout(abort=True)

    with pytest.raises(RolloutStateError, match="was aborted"):
        shift_to(aborted, "30")
    with pytest.raises(RolloutStateError, match="was aborted"):
        shift_to(aborted, "canary")

    assert shift_to(aborted, "pipeline").status == {"abort": False}


def test_without_a_canary_there_is_nothing_to_shift() -> None:
    with pytest.raises(RolloutStateError, match="nothing is released in shop/churn") as caught:
        shift_to(rollout(currentPodHash=STABLE), "stable")

    assert "rollback" in (caught.value.hint or "")


def test_a_pod_loses_every_label_that_anybody_selects_it_by() -> None:
    """Services and ReplicaSet by the hash, autoscaler and budget by the rollout's selector."""
    pods = pods_of(items(pod("a", STABLE), pod("b", STABLE), pod("c", CANARY)))

    patch = isolation(rollout(), pods, "a")

    assert patch["metadata"]["labels"] == {HASH: None, "slipway.dev/service": None, "slipway.dev/isolated": "churn"}
    assert patch["metadata"]["annotations"] == {"slipway.dev/isolated-from": f"churn-{STABLE}"}


def test_the_last_ready_pod_of_a_version_stays_unless_somebody_insists() -> None:
    pods = pods_of(items(pod("a", STABLE), pod("b", STABLE, ready=False), pod("c", CANARY)))

    with pytest.raises(RolloutStateError, match="a is the last ready pod of 6d5f8b"):
        isolation(rollout(), pods, "a")
    with pytest.raises(UsageError, match="has no pod 'd', expected one of a, b, c"):
        isolation(rollout(), pods, "d")

    assert isolation(rollout(), pods, "a", is_forced=True)
    assert isolation(rollout(), pods, "b")


def test_what_is_being_deleted_or_was_isolated_is_no_pod_of_the_rollout() -> None:
    gone = pod("gone", STABLE, deletionTimestamp="2026-11-22T10:00:00Z")
    isolated = {"metadata": {"name": "isolated", "labels": {"slipway.dev/isolated": "churn"}}}

    assert [one.name for one in pods_of(items(gone, isolated, pod("a", STABLE)))] == ["a"]


def test_both_versions_are_shown_with_their_weights_and_pods() -> None:
    pods = pods_of(items(pod("a", STABLE), pod("b", STABLE, ready=False), pod("c", CANARY)))

    arms = arms_of(rollout(), pods)

    assert {arm: (one["weight"], one["ready"], one["pods"], one["image"]) for arm, one in arms.items()} == {
        "stable": (90, 1, 2, f"r.io/churn@{STABLE}"),
        "canary": (10, 1, 1, f"r.io/churn@{CANARY}"),
    }


def replica_set(version: str, revision: int, *, owner: str = UID) -> dict[str, Any]:
    """One that was stable, and is marked so."""
    labels = {HASH: version, "slipway.dev/service": "churn", "slipway.dev/track": "stable"}
    return {
        "metadata": {
            "name": f"churn-{version}",
            "labels": {HASH: version},
            "annotations": {
                "rollout.argoproj.io/revision": str(revision),
                "rollout.argoproj.io/ephemeral-metadata": json.dumps({"labels": {"slipway.dev/track": "stable"}}),
            },
            "ownerReferences": [{"uid": owner, "kind": "Rollout"}],
        },
        "spec": {
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "model", "image": f"r.io/churn@{version}", "env": [{"name": "A"}]}]},
            }
        },
    }


def test_a_version_comes_back_as_it_was_without_what_argo_added() -> None:
    """With the hash or the track the template would be another one: a new version instead of the old."""
    sets = replica_sets_of(rollout(), items(replica_set("old", 1), replica_set(STABLE, 2)))

    (patch,) = template_patch(previous_set(rollout(), sets, "r.io/churn@old"))

    assert patch["path"] == "/spec/template"
    assert patch["value"]["metadata"] == {"labels": {"slipway.dev/service": "churn"}}
    assert patch["value"]["spec"]["containers"][0]["env"] == [{"name": "A"}]


def test_a_version_that_is_gone_or_somebody_elses_is_not_gone_back_to() -> None:
    sets = replica_sets_of(rollout(), items(replica_set("old", 1, owner="other"), replica_set(STABLE, 2)))

    with pytest.raises(RolloutStateError, match="no ReplicaSet of shop/churn has the image"):
        previous_set(rollout(), sets, "r.io/churn@old")


def test_analyses_are_the_rollouts_own_the_newest_first() -> None:
    def analysis(name: str, began: str, owner: str = UID) -> dict[str, Any]:
        results = [{"name": "verdict", "phase": "Failed", "message": "fail"}, {"name": "x", "phase": "Successful"}]
        return {
            "metadata": {"name": name, "creationTimestamp": began, "ownerReferences": [{"uid": owner}]},
            "status": {"phase": "Failed", "metricResults": results},
        }

    found = analyses_of(
        rollout(), items(analysis("a", "2026-01-01"), analysis("b", "2026-01-02"), analysis("c", "", "z"))
    )

    assert [(one.name, one.phase, one.text) for one in found] == [
        ("b", "Failed", "verdict Failed: fail"),
        ("a", "Failed", "verdict Failed: fail"),
    ]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("show", "churn"), 2, "'churn' names no rollout, expected NAMESPACE/NAME"),
        (("shift", "a/b/c", "--to", "stable"), 2, "names no rollout"),
        (("show", "shop/churn"), 3, "the program 'kubectl' is not installed"),
        (("isolate", "shop/churn", "--pod", "a"), 3, "the program 'kubectl' is not installed"),
    ],
)
def test_what_cannot_be_asked_is_said(
    slipway: Slipway, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], status: int, said: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    found = slipway("traffic", *words)

    assert found.status == status
    assert said in found.err


def test_what_is_no_canary_is_refused() -> None:
    with pytest.raises(UsageError, match="has no canary strategy"):
        rollout(spec={"strategy": {"blueGreen": {}}})
