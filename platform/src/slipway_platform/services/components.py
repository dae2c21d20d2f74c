"""The components of `platform/services`: what a program of Pulumi makes, in the order in which it must be there.

They hold no knowledge of objects; the modules beside them do, as pure functions. The invariants: a component makes no
provider; its children have it as parent; a name that an entry had before is an alias, so a rename replaces nothing.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pulumi
from msgspec import Struct

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body, Manifest, register
from slipway_platform.services.alerts import pod_monitor, read_rules, rule_objects
from slipway_platform.services.canary import background, canary_steps, plan_map, templates
from slipway_platform.services.cost import check_spend, cost_rules, usd_per_hour
from slipway_platform.services.network import service_policy
from slipway_platform.services.plans import read_plan
from slipway_platform.services.pods import pod_template
from slipway_platform.services.routing import routes, traffic_routing
from slipway_platform.services.secrets import file_secrets
from slipway_platform.services.settings import ServiceSettings, ServicesSettings, StackRefusedError
from slipway_platform.services.space import shared_labels, shared_objects
from slipway_platform.services.workload import rollout, scaling, surroundings

__all__ = ["CanaryPipeline", "Environment", "ModelAlerts", "ModelService", "Services"]

PACKAGE: Final = "slipway:services"


class Environment(Struct, frozen=True, kw_only=True):
    """What every service of a stack is made with."""

    settings: ServicesSettings
    cluster: ClusterInfo
    root: Path
    """Of the repository: plans and rules are read from it."""
    rules: Mapping[str, tuple[Body, ...]]
    """As `read_rules` gives them."""


class _Component(pulumi.ComponentResource):
    """Makes manifests, with itself as parent."""

    def __init__(self, kind: str, name: str, formerly: Iterable[str], opts: pulumi.ResourceOptions | None) -> None:
        aliases = [pulumi.Alias(name=former) for former in formerly]
        own = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=list(aliases)))
        super().__init__(f"{PACKAGE}:{kind}", name, None, own)
        self._base = name

    def make(self, objects: Iterable[Manifest], after: Iterable[pulumi.Resource] = ()) -> list[pulumi.Resource]:
        """Make them, each after `after`; children are called NAME-KIND-OBJECT, where an object's name may repeat."""
        opts = pulumi.ResourceOptions(parent=self, depends_on=list(after))
        return [register(one, f"{self._base}-{one.kind.lower()}-{one.name}", opts) for one in objects]


class CanaryPipeline(_Component):
    """What a release of one service asks: AnalysisTemplates, and the gate's plan."""

    def __init__(self, service: ServiceSettings, env: Environment, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("CanaryPipeline", f"{service.name}-canary", _canaries(service), opts)
        settings, namespace = env.settings, env.settings.namespace
        made: list[Manifest] = []
        if service.canary.plan is not None:
            text = read_plan(env.root, service.canary.plan, service.canary.stage_s)
            made.append(plan_map(service, namespace, text))
        made += templates(
            service,
            namespace,
            env.cluster,
            platform_image=settings.platform_image,
            verdicts=settings.verdicts,
            signs=settings.keys.is_signing,
            plain_registry=settings.plain_registry,
        )
        self.objects: Final = self.make(made)
        self.register_outputs({})


class ModelAlerts(_Component):
    """What watches one service: PodMonitor, rules."""

    def __init__(self, service: ServiceSettings, env: Environment, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ModelAlerts", f"{service.name}-alerts", _alerts(service), opts)
        namespace = env.settings.namespace
        self.make([pod_monitor(service, namespace), *rule_objects(service, namespace, env.rules)])
        self.register_outputs({})


class ModelService(_Component):
    """One service: everything that its users, its releases and its pods need."""

    def __init__(self, service: ServiceSettings, env: Environment, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ModelService", service.name, service.formerly, opts)
        settings, cluster, namespace = env.settings, env.cluster, env.settings.namespace
        _check_gpu(service, cluster)
        own = pulumi.ResourceOptions(parent=self)
        before = self.make(
            [
                *surroundings(service, namespace),
                service_policy(service, namespace, cluster, settings.traces),
                *file_secrets(service, namespace, settings.keys),
                *routes(service, namespace, cluster),
            ]
        )
        pipeline = CanaryPipeline(service, env, own)
        ModelAlerts(service, env, own)
        template = pod_template(
            service,
            cluster,
            platform_image=settings.platform_image,
            usd_per_hour=usd_per_hour(service, settings.prices),
            traces=settings.traces,
        )
        workload = rollout(
            service,
            namespace,
            template=template,
            steps=canary_steps(service),
            analysis=background(service),
            routing=traffic_routing(service, namespace),
        )
        made = self.make([workload], after=[*before, *pipeline.objects])
        self.make(scaling(service, namespace, cluster), after=made)
        self.register_outputs({"image": service.image})


class Services(_Component):
    """A whole environment: what is shared in its namespace, and every service.

    Raises:
        StackRefusedError: It costs more than its cap, or names what is not there.
    """

    def __init__(
        self, settings: ServicesSettings, cluster: ClusterInfo, root: Path, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("Services", settings.namespace, (), opts)
        self.usd_per_hour: Final = check_spend(settings)
        env = Environment(settings=settings, cluster=cluster, root=root, rules=read_rules(root))
        shared = [*shared_objects(settings, cluster)]
        if any(usd_per_hour(service, settings.prices) for service in settings.services):
            shared.append(cost_rules(settings.services, settings.namespace, shared_labels()))
        made = self.make(shared)
        for service in settings.services:
            ModelService(service, env, pulumi.ResourceOptions(parent=self, depends_on=made))
        self.register_outputs({"usd_per_hour": self.usd_per_hour})


def _check_gpu(service: ServiceSettings, cluster: ClusterInfo) -> None:
    if service.gpu is not None and cluster.gpu_resource is None:
        raise StackRefusedError(
            f"the service {service.name!r} asks for a GPU, and the cluster {cluster.name!r} has none",
            hint="add a GPU pool to the cluster's stack, or leave `gpu` out",
        )


def _canaries(service: ServiceSettings) -> list[str]:
    return [f"{former}-canary" for former in service.formerly]


def _alerts(service: ServiceSettings) -> list[str]:
    return [f"{former}-alerts" for former in service.formerly]
