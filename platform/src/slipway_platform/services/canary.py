"""A release, step by step: what the Rollout does, and the AnalysisTemplates that its steps name. docs/canary.md.

The invariants: nothing of a candidate starts while a release is frozen; its pods are tried in the dark before anybody
is sent there; each weight is measured by a Job and then judged by a question about exactly these pods and this stage,
so that a Job which never ran decides nothing; the last weight is judged before anything is promoted; what runs in the
background asks Prometheus and is no Job.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.services.analysis import (
    KEYS_PATH,
    PLAN_PATH,
    Argument,
    GateJob,
    Question,
    error_share,
    job_metric,
    prometheus_metric,
    template,
    web_metric,
)
from slipway_platform.services.gate_settings import Stage
from slipway_platform.services.naming import ADMIN, address, labels_of, promised
from slipway_platform.services.settings import ServiceSettings

__all__ = ["background", "canary_steps", "plan_map", "templates"]

BUNDLE_FIELD: Final = "spec.template.spec.containers[0].image"
"""Of the Rollout: follows whatever template is on trial, also after `undo`."""
HASH: Final[Body] = {"name": "pod-hash", "valueFrom": {"podTemplateHashValue": "Latest"}}
BUNDLE: Final[Body] = {"name": "candidate-bundle", "valueFrom": {"fieldRef": {"fieldPath": BUNDLE_FIELD}}}
READ_KEY: Final = Argument(name="key", key="read")


def canary_steps(service: ServiceSettings) -> list[Body]:
    """The `steps` of the Rollout."""
    name, stages = service.object_name, service.canary.stages
    first, *others = (list(_stage_steps(name, stage)) for stage in stages)
    weigh, *rest = first
    return [
        _ask(name, "freeze"),
        {"setCanaryScale": {"weight": stages[0].weight}},  # as many pods as the first weight needs, and no traffic
        _ask(name, "smoke", BUNDLE),
        weigh,
        # From here pods follow the weight: a scale that was set once holds for all weights after it.
        {"setCanaryScale": {"matchTrafficWeight": True}},
        *rest,
        *(step for steps in others for step in steps),
    ]


def background(service: ServiceSettings) -> Body:
    """The `analysis` of the Rollout: from the first weight on."""
    steps = canary_steps(service)
    return {
        "templates": [{"templateName": f"{service.object_name}-guard"}],
        "args": [HASH],
        "startingStep": next(index for index, step in enumerate(steps) if "setWeight" in step),
    }


def templates(
    service: ServiceSettings,
    namespace: str,
    cluster: ClusterInfo,
    *,
    platform_image: str,
    verdicts: str,
    signs: bool,
    plain_registry: bool,
) -> Iterator[Manifest]:
    """What the steps name; must be there before the Rollout.

    Args:
        service: Whose.
        namespace: Its own.
        cluster: Where Prometheus is.
        platform_image: What Jobs run.
        verdicts: URL of the verdict service.
        signs: Whether Jobs sign their evidence.
        plain_registry: Whether the registry speaks plain HTTP.
    """
    rollout = f"{namespace}/{service.object_name}"
    yield template(service, namespace, "freeze", [READ_KEY], _freeze(service, rollout, verdicts, cluster))
    smoke, stage = _jobs(
        service,
        namespace,
        image=platform_image,
        verdicts=verdicts,
        signs=signs,
        flags=("--insecure",) if plain_registry else (),
    )
    about = [Argument(name=each) for each in ("stage", "pod-hash", "candidate-bundle")]
    yield template(service, namespace, "smoke", about[2:], [job_metric(smoke, service)])
    yield template(service, namespace, "stage", about, [job_metric(stage, service)])
    yield template(
        service,
        namespace,
        "verdict",
        [*about[:2], READ_KEY],
        [web_metric(_verdict(rollout, verdicts, service.canary.patience), READ_KEY.name)],
    )
    yield template(service, namespace, "guard", [about[1]], [_guard(service, namespace, cluster.prometheus_url)])


def plan_map(service: ServiceSettings, namespace: str, text: str) -> Manifest:
    """The gate's plan, as a file of the stages' Jobs."""
    return manifest(
        "v1",
        "ConfigMap",
        f"{service.object_name}-gate",
        namespace,
        labels=labels_of(service),
        data={"gate.toml": text},
    )


def _jobs(
    service: ServiceSettings, namespace: str, *, image: str, verdicts: str, signs: bool, flags: tuple[str, ...]
) -> tuple[GateJob, GateJob]:
    """Smoke, which asks the candidate alone, and stage, which loads both."""
    canary = service.canary
    candidate = (
        f"--candidate={address(service, namespace, 'canary')}",
        f"--candidate-admin={address(service, namespace, 'canary', ADMIN)}",
        "--candidate-bundle={{args.candidate-bundle}}",
        *flags,
    )
    smoke = GateJob(name="smoke", arguments=("gate", "smoke", *candidate), image=image, deadline_s=canary.smoke_s)
    stage = GateJob(
        name="stage",
        arguments=(
            "gate",
            "stage",
            f"--rollout={namespace}/{service.object_name}",
            "--pod-hash={{args.pod-hash}}",
            "--stage={{args.stage}}",
            f"--stable={address(service, namespace, 'stable')}",
            f"--stable-admin={address(service, namespace, 'stable', ADMIN)}",
            *candidate,
            *((f"--plan={PLAN_PATH}/gate.toml",) if canary.plan else ()),
            f"--to={verdicts}",
            f"--key-file={KEYS_PATH}/write",
            *((f"--key={KEYS_PATH}/signing",) if signs else ()),
        ),
        image=image,
        deadline_s=canary.stage_s,
        has_plan=canary.plan is not None,
        has_keys=True,
    )
    return smoke, stage


def _stage_steps(name: str, stage: Stage) -> Iterator[Body]:
    here = {"name": "stage", "value": str(stage.weight)}
    yield {"setWeight": stage.weight}
    yield _ask(name, "stage", here, HASH, BUNDLE)
    yield _ask(name, "verdict", here, HASH)
    if stage.bake is not None:
        yield {"pause": {"duration": stage.bake}}
    if stage.waits:
        yield {"pause": {}}


def _ask(name: str, what: str, *arguments: Body) -> Body:
    """A step that waits for an analysis; two of them in order, because one run would ask both at once."""
    return {"analysis": {"templates": [{"templateName": f"{name}-{what}"}], "args": list(arguments)}}


def _freeze(service: ServiceSettings, rollout: str, verdicts: str, cluster: ClusterInfo) -> Sequence[Body]:
    """No failure anywhere: what keeps a release from starting says nothing against it."""
    patience, about = service.canary.patience, promised(service)
    frozen = Question(
        name="frozen",
        asked=f"{verdicts}/freeze",
        success=f'none(result.frozen, {{#.rollout == "*" || #.rollout == "{rollout}"}})',
        patience=patience,
    )
    metrics = [web_metric(frozen, READ_KEY.name)]
    if service.canary.freeze.budget_left is not None:
        budget = Question(
            name="budget",
            asked=f'min(slipway:slo_budget_remaining:ratio{{service="{about}"}})',
            success=f"result[0] > {service.canary.freeze.budget_left:g}",
            patience=patience,
        )
        metrics.append(prometheus_metric(budget, cluster.prometheus_url))
    if service.canary.freeze.pages:
        firing = f'ALERTS{{alertstate="firing",severity="page",service="{about}"}}'
        works = 'ALERTS{alertstate="firing",alertname="SlipwayWatchdog"}'  # no page is news only where alerts work
        pages = Question(
            name="pages", asked=f"count({firing}) or 0 * count({works})", success="result[0] == 0", patience=patience
        )
        metrics.append(prometheus_metric(pages, cluster.prometheus_url))
    return metrics


def _verdict(rollout: str, verdicts: str, patience: int) -> Question:
    about = f"rollout={quote(rollout)}&pod_hash={{{{args.pod-hash}}}}&stage={{{{args.stage}}}}"
    same = 'result.pod_hash == "{{args.pod-hash}}" && result.stage == "{{args.stage}}"'
    return Question(
        name="verdict",
        asked=f"{verdicts}/verdict?{about}",
        success=f'result.verdict == "pass" && {same}',
        failure='result.verdict == "fail"',
        patience=patience,
    )


def _guard(service: ServiceSettings, namespace: str, prometheus_url: str) -> Body:
    guard = service.canary.guard
    question = Question(
        name="errors",
        asked=error_share(service, namespace, guard.window_s),
        success=f"result[0] <= {guard.errors:g}",
        failure=f"result[0] > {guard.errors:g}",
        interval=f"{guard.interval_s}s",
        failures=guard.failures,
        silent=guard.silent,
        patience=service.canary.patience,
    )
    return prometheus_metric(question, prometheus_url)
