"""AnalysisTemplates of Argo Rollouts, typed: what is asked during a release, and what each answer means.

It knows no step: `canary` puts them in order. The invariants, each a trap of Argo Rollouts up to 1.9.1: a Job has an
end (`activeDeadlineSeconds`) and one try, so that a pull that is stuck fails; whatever is judged has both a success and
a failure condition, because one alone makes everything else the opposite; a Prometheus condition looks at `len(result)`
and NaN before the value; a name in a query is this namespace's.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.quantities import cpu, memory
from slipway_platform.services.naming import FAILED, GATE, HASH_LABEL, KEYS, labels_of, promised
from slipway_platform.services.pods import container_security, pod_security
from slipway_platform.services.settings import ServiceSettings

__all__ = ["Argument", "GateJob", "Question", "job_metric", "prometheus_metric", "template", "web_metric"]

API: Final = "argoproj.io/v1alpha1"
NEVER: Final = "false"
"""As a failure condition: what is no success is inconclusive, and a person decides."""
KEYS_PATH: Final = "/etc/slipway/keys"
PLAN_PATH: Final = "/etc/slipway/gate"


class Argument(Struct, frozen=True, kw_only=True):
    """An argument of a template."""

    name: str
    key: str | None = None
    """Of the Secret `slipway-verdicts`; None: the step says the value."""

    def body(self) -> Body:
        """As in the template."""
        secret = {"secretKeyRef": {"name": KEYS, "key": self.key}}
        return {"name": self.name} if self.key is None else {"name": self.name, "valueFrom": secret}


class Question(Struct, frozen=True, kw_only=True):
    """What is asked, and what its answer means; `result` in conditions is the answer."""

    name: str
    asked: str
    """A PromQL query, or a URL."""
    success: str
    failure: str = NEVER
    interval: str | None = None
    """Ask again and again; None: once."""
    failures: int = 0
    """Bad answers that are forgiven."""
    silent: int = 0
    """Answers that are neither that are forgiven."""
    patience: int
    """Questions in a row without an answer that are forgiven, 10 s apart; one more is an error, which aborts."""

    def body(self, provider: Body) -> Body:
        """The metric."""
        return {
            "name": self.name,
            "count": None if self.interval else 1,
            "interval": self.interval,
            "failureLimit": self.failures,
            "inconclusiveLimit": self.silent,
            "consecutiveErrorLimit": self.patience,
            "successCondition": self.success,
            "failureCondition": self.failure,
            "provider": provider,
        }


class GateJob(Struct, frozen=True, kw_only=True):
    """A Job of the gate."""

    name: str
    """`smoke` or `stage`."""
    arguments: tuple[str, ...]
    """Of `slipway`."""
    image: str
    deadline_s: int
    """From its creation, pulling included."""
    has_plan: bool = False
    has_keys: bool = False


def template(
    service: ServiceSettings, namespace: str, name: str, arguments: Sequence[Argument], metrics: Sequence[Body]
) -> Manifest:
    """The AnalysisTemplate SERVICE-NAME."""
    return manifest(
        API,
        "AnalysisTemplate",
        f"{service.object_name}-{name}",
        namespace,
        labels=labels_of(service),
        spec={"args": [argument.body() for argument in arguments], "metrics": list(metrics)},
    )


def prometheus_metric(question: Question, prometheus_url: str) -> Body:
    """Asks Prometheus; `success` and `failure` are about `result[0]`, and are asked of a number only."""
    guarded = {
        "successCondition": f"len(result) > 0 && !isNaN(result[0]) && {question.success}",
        "failureCondition": NEVER
        if question.failure == NEVER
        else f"len(result) > 0 && !isNaN(result[0]) && {question.failure}",
    }
    return question.body({"prometheus": {"address": prometheus_url, "query": question.asked}}) | guarded


def web_metric(question: Question, key_argument: str) -> Body:
    """Asks by HTTP, with a key; `result` is the whole JSON of the answer."""
    headers = [{"key": "Authorization", "value": f"Bearer {{{{args.{key_argument}}}}}"}]
    web = {"url": question.asked, "headers": headers, "timeoutSeconds": 20, "jsonPath": "{$}"}
    return question.body({"web": web})


def job_metric(job: GateJob, service: ServiceSettings) -> Body:
    """Runs a Job in the service's namespace; its exit status is all that Argo takes from it.

    No `ttlSecondsAfterFinished`: a Job that is gone before Argo has looked is an error.
    """
    amounts = {"cpu": cpu(service.canary.cpu), "memory": memory(service.canary.memory)}
    variables = [
        {"name": one.name, "valueFrom": {"secretKeyRef": {"name": one.secret, "key": one.key}}}
        for one in service.canary.variables
    ]
    mounts: list[Body] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    volumes: list[Body] = [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]
    if job.has_plan:
        mounts.append({"name": "plan", "mountPath": PLAN_PATH, "readOnly": True})
        volumes.append({"name": "plan", "configMap": {"name": f"{service.object_name}-gate"}})
    if job.has_keys:
        mounts.append({"name": "keys", "mountPath": KEYS_PATH, "readOnly": True})
        volumes.append({"name": "keys", "secret": {"secretName": KEYS, "defaultMode": 0o440}})
    container = {
        "name": job.name,
        "image": job.image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(job.arguments),
        "env": variables,
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": container_security(),
        "volumeMounts": mounts,
    }
    labels = labels_of(service) | {"app.kubernetes.io/name": f"{service.object_name}-gate", GATE: job.name}
    labels.pop("slipway.dev/service")  # its metrics are no service's
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": service.canary.priority_class,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": volumes,
    }
    annotations = {"sidecar.istio.io/inject": "false"}  # a sidecar would outlive the Job's container
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": job.deadline_s,
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
    }
    return {
        "name": job.name,
        "count": 1,
        "failureLimit": 0,
        "inconclusiveLimit": 0,
        "consecutiveErrorLimit": 0,
        "provider": {"job": {"metadata": {"labels": {GATE: job.name}}, "spec": spec}},
    }


def error_share(service: ServiceSettings, namespace: str, window_s: int) -> str:
    """PromQL: the share of failed requests that the candidate's counts prove, of real users.

    A candidate that is scraped and asked nothing has 0; one that is not scraped has no value. The lower bound is that
    of the alerts (docs/slo.md, Anscombe's), so one error among few requests aborts nothing.
    """
    own = f'namespace="{namespace}",service="{promised(service)}",{HASH_LABEL}="{{{{args.pod-hash}}}}"'
    counted = "http_server_request_duration_seconds_count"
    every = f"sum(increase({counted}{{{own}}}[{window_s}s]))"
    failed = f"(sum(increase({counted}{{{own},{FAILED}}}[{window_s}s])) or 0 * {every})"
    return f"clamp_min(sqrt({failed}) - 0.98, 0) ^ 2 / ({every} > 0) or 0 * max(up{{{own}}} == 1)"
