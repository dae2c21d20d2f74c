"""Add-ons from charts: one Helm release for each, of exactly the version in `addons.lock`, CRDs before who needs them.

It knows no add-on by name but Grafana's password. The invariants: `external` makes nothing; `mirror` differs from
`managed` in where the chart comes from and in nothing else; a release that brings CRDs is protected, because with a CRD
goes every object of its kind.
`helm.v3.Release` and not `helm.v4.Chart`: the latter skips a chart's hooks (pulumi-kubernetes#3284).
"""

from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes

from slipway_bundle import UsageError
from slipway_platform.addons.lock import Addon, AddonLock, chart_in
from slipway_platform.addons.namespaces import namespace
from slipway_platform.addons.settings import AddonsSettings
from slipway_platform.addons.values import GRAFANA_SECRET, values_of
from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import manifest, register

__all__ = ["AddonModeError", "Charts", "required_crds"]

GRAFANA = "kube-prometheus-stack"
TIMEOUT_S = 900


class AddonModeError(UsageError):
    """How an add-on is to come does not fit the rest of the settings."""

    code = "addon_mode"


class Charts(pulumi.ComponentResource):
    """The Helm releases of one cluster.

    Args:
        settings: How each add-on comes.
        lock: Which chart each is.
        info: Of the cluster.
        folder: Of the stack; relative mirrors start there.
        opts: With the provider of the cluster.

    Raises:
        AddonLockError: A name that the lock does not have, or a chart that is not in the mirror's folder.
        AddonModeError: `mirror` without a mirror, or a Grafana without a password.
        ChartDigestError: A chart in the mirror's folder is another one.
    """

    releases: dict[str, pulumi.Resource]
    """By name of the add-on; those that are external are not in it."""

    def __init__(
        self,
        settings: AddonsSettings,
        lock: AddonLock,
        info: ClusterInfo,
        folder: Path,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("slipway:addons:Charts", "charts", None, opts)
        self._settings, self._lock, self._info, self._folder = settings, lock, info, folder
        for name in settings.addons:
            lock.known(name)
        wanted = [name for name in lock.ordered() if settings.mode_of(name) != "external"]
        self._namespaces = self._make_namespaces({lock.addons[name].namespace for name in wanted}, wanted)
        self.releases = {}
        for name in wanted:
            self.releases[name] = self._release(name)
        self.register_outputs({})

    def _make_namespaces(self, names: set[str], wanted: list[str]) -> dict[str, pulumi.Resource]:
        levels = {self._lock.addons[name].namespace: self._lock.addons[name].pod_security for name in wanted}
        return {
            name: register(namespace(name, levels[name]), f"namespace-{name}", pulumi.ResourceOptions(parent=self))
            for name in sorted(names)
        }

    def _release(self, name: str) -> kubernetes.helm.v3.Release:
        addon = self._lock.addons[name]
        needs: list[pulumi.Resource] = [self._namespaces[addon.namespace]]
        # Charts bring ServiceMonitors, so whoever gives those CRDs goes before everybody.
        needs += [self.releases[giver] for giver in self._givers() if giver in self.releases and giver != name]
        if name == GRAFANA:
            needs.append(self._grafana_secret(addon))
        chart, repository = self._source(name, addon)
        return kubernetes.helm.v3.Release(
            name,
            name=name,
            namespace=addon.namespace,
            chart=chart,
            version=addon.version,
            repository_opts=None if repository is None else {"repo": repository},
            values=values_of(name, self._settings, self._info),
            atomic=True,
            cleanup_on_fail=True,
            create_namespace=False,
            max_history=5,
            timeout=TIMEOUT_S,
            opts=pulumi.ResourceOptions(parent=self, depends_on=needs, protect=bool(addon.crds)),
        )

    def _givers(self) -> list[str]:
        return sorted({addon.crds_from for addon in self._lock.addons.values() if addon.crds_from is not None})

    def _source(self, name: str, addon: Addon) -> tuple[str, str | None]:
        """The chart's name or place, and its repository where it has one beside."""
        if self._settings.mode_of(name) == "managed":
            oci = addon.repo.startswith("oci://")
            return (f"{addon.repo}/{addon.chart}", None) if oci else (addon.chart, addon.repo)
        mirror = self._settings.mirror
        if mirror is None:
            raise AddonModeError(
                f"the add-on {name!r} is to come from a mirror, and `mirror` is not set",
                hint="`pulumi config set mirror oci://HOST/PATH`, or a folder with the charts",
            )
        if mirror.startswith("oci://"):
            return f"{mirror}/{addon.chart}", None
        return str(chart_in((self._folder / mirror).resolve(), name, self._lock.addons)), None

    def _grafana_secret(self, addon: Addon) -> pulumi.Resource:
        password = self._settings.grafana_password
        if password is None:
            raise AddonModeError(
                "Grafana is to be made without a password",
                hint="`pulumi config set --secret grafana_password PASSWORD`; the chart's own is known to everybody",
            )
        secret = manifest(
            "v1",
            "Secret",
            GRAFANA_SECRET,
            addon.namespace,
            labels={"app.kubernetes.io/name": GRAFANA_SECRET, "app.kubernetes.io/part-of": "slipway"},
            stringData={"user": "admin", "password": password.output},
        )
        needs = [self._namespaces[addon.namespace]]
        return register(secret, GRAFANA_SECRET, pulumi.ResourceOptions(parent=self, depends_on=needs))


def required_crds(settings: AddonsSettings, lock: AddonLock) -> list[str]:
    """The CRDs that must be in the cluster already, because their add-ons are external; sorted."""
    external = (addon for name, addon in lock.addons.items() if settings.mode_of(name) == "external")
    return sorted({crd for addon in external for crd in addon.crds})
