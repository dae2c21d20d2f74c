"""The canary as objects: each trap of Argo Rollouts (docs/canary.md) is closed in what is rendered."""

import re
from typing import Any

import pytest
from platform_runs import run_project
from service_stacks import IMAGE, ROOT, churn, config, metrics, objects, rendered, settings, steps

from slipway_platform.quantities import cpu, memory
from slipway_platform.services.settings import StackRefusedError
from slipway_platform.settings import SettingsError

JOBS = ("smoke/smoke", "stage/stage")


def asked(step: dict[str, Any]) -> str | None:
    """Which template a step names."""
    names = [one["templateName"] for one in step.get("analysis", {}).get("templates", [])]
    return names[0].removeprefix("churn-") if len(names) == 1 else None


def job(name: str) -> dict[str, Any]:
    """The Job of a template."""
    found: dict[str, Any] = metrics()[name]["provider"]["job"]["spec"]
    return found


def test_each_weight_is_measured_and_then_judged_before_the_next() -> None:
    order = [step.get("setWeight") or asked(step) for step in steps()]

    tail = [one for one in order[order.index(10) :] if one is not None]

    assert tail == [10, "stage", "verdict", 30, "stage", "verdict", 50, "stage", "verdict", 100, "stage", "verdict"]


def test_nothing_of_a_candidate_starts_before_it_was_asked_whether_it_may() -> None:
    assert asked(steps()[0]) == "freeze"


def test_the_dark_canary_is_tried_before_anybody_is_sent_there() -> None:
    order = [next(iter(step)) for step in steps()[:4]]

    assert order == ["analysis", "setCanaryScale", "analysis", "setWeight"]
    assert steps()[1] == {"setCanaryScale": {"weight": 10}}
    assert asked(steps()[2]) == "smoke"


def test_pods_follow_the_weight_after_the_dark_canary() -> None:
    """Otherwise one pod would get all of the traffic: a scale that was set holds for every later weight."""
    found = steps()

    first, second = (index for index, step in enumerate(found) if step.get("setWeight") in {10, 30})

    assert {"setCanaryScale": {"matchTrafficWeight": True}} in found[first:second]
    assert all("setCanaryScale" not in step for step in found[second:])


def test_no_job_runs_in_the_background() -> None:
    """A Job that is terminated counts as a success in Argo Rollouts up to 1.9.1."""
    background = objects("lab")["Rollout", "churn"]["spec"]["strategy"]["canary"]["analysis"]

    assert [one["templateName"] for one in background["templates"]] == ["churn-guard"]
    assert [set(metric["provider"]) for name, metric in metrics().items() if name.startswith("guard/")] == [
        {"prometheus"}
    ]
    assert "setWeight" in steps()[background["startingStep"]]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_ends_and_is_tried_once(name: str) -> None:
    """A pull that is stuck is a Job that failed, because its time runs from its creation."""
    found = job(name)

    assert found["activeDeadlineSeconds"] > 0
    assert found["backoffLimit"] == 0
    assert found["template"]["spec"]["restartPolicy"] == "Never"
    assert "ttlSecondsAfterFinished" not in found
    assert metrics()[name]["count"] == 1
    assert metrics()[name]["failureLimit"] == 0


@pytest.mark.parametrize("name", [name for name in metrics() if name not in JOBS])
def test_what_is_neither_success_nor_failure_is_neither(name: str) -> None:
    """With one condition alone everything else counts as the opposite, and an empty answer passes or aborts."""
    assert metrics()[name]["successCondition"]
    assert metrics()[name]["failureCondition"]


@pytest.mark.parametrize("name", [name for name, one in metrics().items() if "prometheus" in one["provider"]])
def test_an_empty_answer_of_prometheus_is_no_success_and_no_failure(name: str) -> None:
    conditions = [metrics()[name][which] for which in ("successCondition", "failureCondition")]

    assert all(each == "false" or each.startswith("len(result) > 0 && !isNaN(result[0]) && ") for each in conditions)


def test_a_verdict_is_about_these_pods_and_this_stage() -> None:
    metric = metrics()["verdict/verdict"]

    given = [
        {one["name"]: one.get("value") or one["valueFrom"] for one in step["analysis"]["args"]}
        for step in steps()
        if asked(step) == "verdict"
    ]

    assert "pod_hash={{args.pod-hash}}" in metric["provider"]["web"]["url"]
    assert "stage={{args.stage}}" in metric["provider"]["web"]["url"]
    assert [one["stage"] for one in given] == ["10", "30", "50", "100"]
    assert {one["pod-hash"]["podTemplateHashValue"] for one in given} == {"Latest"}
    assert '"pass"' in metric["successCondition"]
    assert 'result.pod_hash == "{{args.pod-hash}}"' in metric["successCondition"]
    assert metric["failureCondition"] == 'result.verdict == "fail"'


def test_a_stage_job_measures_what_the_rollout_runs() -> None:
    """The bundle is read from the template on trial, so that an `undo` is judged as what it is."""
    given = next(step["analysis"]["args"] for step in steps() if asked(step) == "stage")

    path = next(one for one in given if one["name"] == "candidate-bundle")["valueFrom"]["fieldRef"]["fieldPath"]

    assert path == "spec.template.spec.containers[0].image"
    assert (
        objects("lab")["Rollout", "churn"]["spec"]["template"]["spec"]["containers"][0]["image"].count("@sha256:") == 1
    )


@pytest.mark.parametrize("name", JOBS)
def test_jobs_ask_services_that_are_there(name: str) -> None:
    urls = re.findall(r"http://(churn-[a-z]+)\.shop\.svc:(\d+)", " ".join(job_arguments(name)))

    ports = {
        (service, str(port["port"]))
        for service in ("churn-stable", "churn-canary")
        for port in objects("lab")["Service", service]["spec"]["ports"]
    }
    assert urls
    assert set(urls) <= ports


def job_arguments(name: str) -> list[str]:
    """Of the one container."""
    (container,) = job(name)["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def test_keys_are_files_and_references_and_never_values() -> None:
    (container,) = job("stage/stage")["template"]["spec"]["containers"]

    header = metrics()["verdict/verdict"]["provider"]["web"]["headers"]
    template = objects("lab")["AnalysisTemplate", "churn-verdict"]["spec"]["args"]

    assert "--key-file=/etc/slipway/keys/write" in container["args"]
    assert {"name": "keys", "mountPath": "/etc/slipway/keys", "readOnly": True} in container["volumeMounts"]
    assert header == [{"key": "Authorization", "value": "Bearer {{args.key}}"}]
    assert {"name": "key", "valueFrom": {"secretKeyRef": {"name": "slipway-verdicts", "key": "read"}}} in template


def test_older_pods_are_promoted_by_no_shortcut() -> None:
    """`rollbackWindow` promotes every older ReplicaSet without a step, also one that was aborted."""
    spec = objects("lab")["Rollout", "churn"]["spec"]

    assert "rollbackWindow" not in spec
    assert "dynamicStableScale" not in spec["strategy"]["canary"]
    assert spec["strategy"]["canary"]["maxUnavailable"] == 0


def test_pods_that_never_get_ready_abort_and_stay_to_be_looked_at() -> None:
    spec = objects("lab")["Rollout", "churn"]["spec"]

    assert spec["progressDeadlineAbort"] is True
    assert spec["progressDeadlineSeconds"] == 75
    assert spec["strategy"]["canary"]["abortScaleDownDelaySeconds"] == 0  # for ever: a delay leaves a mark


def test_the_template_is_as_argo_would_write_it_back() -> None:
    """Argo writes objects back in its own form, takes ownership of what it changed, and the next apply conflicts."""
    template = objects("example")["Rollout", "churn"]["spec"]["template"]

    odd = [path for path, value in leaves(template) if value in ("", 0, None, [], {}) and value is not False]
    amounts = template["spec"]["containers"][0]["resources"]

    assert [path for path in odd if not path.endswith("emptyDir")] == []
    for each in (amounts["limits"], amounts["requests"]):
        assert each == {"cpu": cpu(each["cpu"]), "memory": memory(each["memory"])}


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every value that holds no other, with its path."""
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{path}.{key}")]
    if isinstance(value, list) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, f"{path}[{index}]")]
    return [(path, value)]


def test_a_stage_bakes_or_waits_after_its_verdict() -> None:
    found = steps("example")

    at = {step["setWeight"]: index for index, step in enumerate(found) if "setWeight" in step}
    after = {weight: [next(iter(step)) for step in found[index:]] for weight, index in at.items()}

    pauses = [(index, step["pause"]) for index, step in enumerate(found) if "pause" in step]
    assert [pause for _, pause in pauses] == [{"duration": "24h"}, {}, {"duration": "1h"}]
    assert all(asked(found[index - 1]) == "verdict" for index, _ in pauses)
    assert after[100][-1] == "pause"


@pytest.mark.parametrize("weights", [[10, 10, 100], [30, 10, 100], [10, 50]])
def test_weights_that_do_not_rise_to_all_are_refused(weights: list[int]) -> None:
    stages = [{"weight": weight} for weight in weights]

    with pytest.raises(SettingsError, match="expected rising ones, the last of them 100"):
        settings(churn(canary={"stages": stages}))


def test_the_plan_that_jobs_get_is_the_one_of_the_repository() -> None:
    found = objects("lab")["ConfigMap", "churn-gate"]["data"]

    assert found == {"gate.toml": (ROOT / "services/churn/gate.lab.toml").read_text(encoding="utf-8")}


def test_a_plan_that_takes_longer_than_its_job_is_refused() -> None:
    with pytest.raises(StackRefusedError, match="120 s and a stage's Job has 200 s"):
        run_project(
            "services",
            config(
                churn(canary={"plan": "services/churn/gate.toml", "stage_s": 200}),
                cluster="organization/slipway-cluster/test",
            ),
        )


def test_a_plan_that_is_not_there_is_refused() -> None:
    with pytest.raises(StackRefusedError, match=r"services/churn/plan\.toml"):
        run_project(
            "services",
            config(churn(canary={"plan": "services/churn/plan.toml"}), cluster="organization/slipway-cluster/test"),
        )


def test_a_frozen_release_is_no_failed_one() -> None:
    """What keeps a release from starting pauses it; only an answer about the candidate may abort it."""
    found = {name: metric for name, metric in metrics("example").items() if name.startswith("freeze/")}

    assert set(found) == {"freeze/frozen", "freeze/budget", "freeze/pages"}
    assert {metric["failureCondition"] for metric in found.values()} == {"false"}
    assert "result[0] > 0.1" in found["freeze/budget"]["successCondition"]


def test_silence_about_pages_counts_only_where_alerts_work() -> None:
    query = metrics()["freeze/pages"]["provider"]["prometheus"]["query"]

    assert query.endswith('or 0 * count(ALERTS{alertstate="firing",alertname="SlipwayWatchdog"})')


def test_a_gates_pod_gets_no_users_and_no_scrape() -> None:
    labels = job("stage/stage")["template"]["metadata"]["labels"]

    selected = [
        one["spec"]["selector"]
        for (kind, _), one in objects("lab").items()
        if kind in {"Service", "PodMonitor", "PodDisruptionBudget"}
    ]
    selectors = [one.get("matchLabels", one) for one in selected]
    assert selectors
    assert all(not one.items() <= labels.items() for one in selectors)


def test_everything_that_a_rollout_names_is_made_before_it() -> None:
    order = [(one["kind"], one["metadata"]["name"]) for one in rendered("lab").bodies]

    before = order[: order.index(("Rollout", "churn"))]
    named = {("AnalysisTemplate", f"churn-{asked(step)}") for step in steps() if asked(step)}

    assert named | {("AnalysisTemplate", "churn-guard"), ("TraefikService", "churn"), ("ConfigMap", "churn-gate")} <= {
        *before
    }
    assert {("Service", "churn-stable"), ("Service", "churn-canary"), ("ServiceAccount", "churn")} <= {*before}


def test_the_image_of_a_release_is_the_bundle_by_its_digest() -> None:
    made = run_project("services", config(churn(), cluster="organization/slipway-cluster/test"))

    (container,) = made.of("Rollout")[0].inputs["spec"]["template"]["spec"]["containers"]

    assert container["image"] == IMAGE
    assert {"name": "SLIPWAY_BUNDLE", "value": IMAGE.partition("@")[2]} in container["env"]
