"""The add-ons of a cluster, in the order in which they need each other.

Charts, then the namespaces of the platform and of models, then the rules of the cluster, then the platform's own
servers, and last what makes Kubernetes ask the webhook. The invariants: what must not vanish (namespaces of models,
the verdict store) is protected; nobody is asked before somebody can answer.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pulumi

from slipway_bundle.errors import FileError
from slipway_platform.addons import verdicts, webhook
from slipway_platform.addons.charts import Charts, required_crds
from slipway_platform.addons.lock import load_lock
from slipway_platform.addons.namespaces import model_namespace, namespace, part_labels, priority_classes
from slipway_platform.addons.settings import AddonsSettings, VerdictSettings, WebhookSettings
from slipway_platform.manifests import Manifest, manifest, register
from slipway_platform.policies.admission import guards
from slipway_platform.provider import LinkedCluster

__all__ = ["Addons"]


class Addons(pulumi.ComponentResource):
    """Everything that a cluster needs before a service can be released to it.

    Args:
        settings: Of the stack.
        cluster: Its facts and its provider.
        folder: Of the stack; relative files start there.
    """

    outputs: dict[str, object]
    """What the stack exports: `required_crds`, `namespaces`, `verdicts_url`."""

    def __init__(self, settings: AddonsSettings, cluster: LinkedCluster, folder: Path) -> None:
        super().__init__("slipway:addons:Addons", "addons", None, pulumi.ResourceOptions(provider=cluster.provider))
        self._info, self._folder = cluster.info, folder
        lock = load_lock(folder / settings.lock)
        charts = Charts(settings, lock, cluster.info, folder, self._with(provider=cluster.provider))
        self._provider = cluster.provider
        self._register(priority_classes())
        self._register(guards(settings.caps))
        for name, given in settings.namespaces.items():
            first, *rest = model_namespace(name, given, settings.caps, cluster.info.gpu_resource)
            made = self._register([first], protect=True)
            self._register(rest, after=made)
        self.outputs = {"required_crds": required_crds(settings, lock), "namespaces": sorted(settings.namespaces)}
        if settings.image is not None and (settings.webhook or settings.verdicts):
            home = self._register([namespace(cluster.info.platform_namespace, "restricted")])
            if settings.verdicts is not None:
                self._verdicts(settings.verdicts, settings.image, [*home, *charts.releases.values()])
                self.outputs["verdicts_url"] = verdicts.verdicts_url(cluster.info)
            if settings.webhook is not None:
                self._webhook(settings.webhook, settings.image, home)
        self.register_outputs(self.outputs)

    def _verdicts(self, settings: VerdictSettings, image: str, after: list[pulumi.Resource]) -> None:
        signers = {Path(name).name: self._text(name) for name in settings.signers}
        server = verdicts.verdict_server(settings, image, self._info, signers)
        needs = [*after, *self._register([verdicts.verdict_store(settings, self._info)], after=after, protect=True)]
        if settings.keys is not None:
            keys = self._secret(verdicts.KEYS_SECRET, {"keys.json": settings.keys.output})
            needs += self._register([keys], after=after)
        self._register(verdicts.verdict_service(server, settings, self._info, signers), after=needs)

    def _webhook(self, settings: WebhookSettings, image: str, after: list[pulumi.Resource]) -> None:
        files = webhook.policy_files(self._folder / settings.policy)
        server = webhook.webhook_server(settings, image, self._info.platform_namespace, files)
        needs = list(after)
        if settings.certificate is not None and settings.key is not None:
            pair = {
                "tls.crt": pulumi.Output.from_input(self._text(settings.certificate)),
                "tls.key": settings.key.output,
            }
            needs += self._register([self._secret(webhook.TLS_SECRET, pair, kind="kubernetes.io/tls")], after=after)
        running = self._register(webhook.webhook_service(server, files), after=needs)
        ca = None if settings.ca is None else self._text(settings.ca).encode()
        self._register(webhook.asking(self._info.platform_namespace, ca), after=running)

    def _secret(self, name: str, data: Mapping[str, pulumi.Output[str]], *, kind: str = "Opaque") -> Manifest:
        return manifest(
            "v1",
            "Secret",
            name,
            self._info.platform_namespace,
            labels=part_labels(name),
            type=kind,
            stringData=dict(data),
        )

    def _register(
        self, objects: Iterable[Manifest], *, after: list[pulumi.Resource] | None = None, protect: bool = False
    ) -> list[pulumi.Resource]:
        opts = self._with(depends_on=after, protect=protect or None)
        return [register(one, _name_of(one), opts) for one in objects]

    def _with(self, **options: object) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, **options)  # type: ignore[arg-type]  # named options of Pulumi's own

    def _text(self, name: str) -> str:
        path = self._folder / name
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(
                f"{str(path)!r}, which the stack's file names, cannot be read: {error}", path=str(path)
            ) from error


def _name_of(one: Manifest) -> str:
    """In the stack: kind, namespace where there is one, and name, so the same object is always the same resource."""
    parts = (one.kind.lower(), one.body["metadata"].get("namespace"), one.name)
    return "-".join(part for part in parts if part)
