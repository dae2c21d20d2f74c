"""Add-ons: pinned, from where they are wanted, CRDs first; nothing is made of those that are there already."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from platform_runs import CLUSTER, PLATFORM, Run, is_secret, opened, run_project

from slipway_platform.addons.charts import AddonModeError
from slipway_platform.addons.lock import AddonLockError, ChartDigestError, chart_in, load_lock
from slipway_platform.settings import SettingsError

LOCK = load_lock(PLATFORM / "addons" / "addons.lock")
PASSWORD = ("slipway-addons:grafana_password",)


def addons(**change: object) -> dict[str, object]:
    config: dict[str, object] = {"cluster": CLUSTER, "grafana_password": "hunter2", **change}
    return {f"slipway-addons:{key}": value for key, value in config.items()}


def made_with(**change: object) -> Run:
    return run_project("addons", addons(**change), secrets=PASSWORD)


@pytest.fixture(scope="module")
def managed() -> Run:
    return made_with()


def test_every_addon_of_the_platform_is_a_release_of_the_locked_version(managed: Run) -> None:
    releases = {one.name: one.inputs for one in managed.of("helm.sh/v3:Release")}

    assert (
        set(releases)
        == set(LOCK.addons)
        >= {
            *("argo-rollouts", "kube-prometheus-stack", "tempo", "opentelemetry-collector", "keda"),
            *("metrics-server", "traefik", "external-secrets", "kueue"),
        }
    )
    for name, inputs in releases.items():
        assert inputs["version"] == LOCK.addons[name].version
        assert inputs["atomic"] is True
        assert inputs["createNamespace"] is False
    assert releases["tempo"]["repositoryOpts"]["repo"] == "https://grafana-community.github.io/helm-charts"
    assert releases["kueue"]["chart"] == "oci://registry.k8s.io/kueue/charts/kueue"


def test_crds_come_before_who_needs_them_and_are_protected(managed: Run) -> None:
    names = [one.name for one in managed.of("helm.sh/v3:Release")]
    giver = managed.one("Release", "prometheus-operator-crds")

    assert names[0] == "prometheus-operator-crds"
    assert giver.is_protected
    for one in managed.of("helm.sh/v3:Release")[1:]:
        assert any(urn.endswith("::prometheus-operator-crds") for urn in one.depends_on), one.name
    assert managed.one("Release", "kube-prometheus-stack").inputs["values"]["crds"] == {"enabled": False}


def test_namespaces_say_what_their_pods_may_be(managed: Run) -> None:
    labels = {one.inputs["metadata"]["name"]: one.inputs["metadata"]["labels"] for one in managed.of(":Namespace")}

    assert {name: found["pod-security.kubernetes.io/enforce"] for name, found in labels.items()} == {
        addon.namespace: addon.pod_security for addon in LOCK.addons.values()
    }


def test_a_release_comes_after_its_namespace(managed: Run) -> None:
    for one in managed.of("helm.sh/v3:Release"):
        assert any(urn.endswith(f"::namespace-{one.inputs['namespace']}") for urn in one.depends_on), one.name


def test_values_are_safe(managed: Run) -> None:
    values = {one.name: one.inputs["values"] for one in managed.of("helm.sh/v3:Release")}

    assert "--traefik-api-group=traefik.io" in values["argo-rollouts"]["controller"]["extraArgs"]
    assert values["argo-rollouts"]["dashboard"] == {"enabled": False}
    assert values["traefik"]["service"] == {"type": "ClusterIP"}
    assert values["traefik"]["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert values["tempo"]["tempo"]["reportingEnabled"] is False
    prometheus = values["kube-prometheus-stack"]["prometheus"]["prometheusSpec"]
    assert prometheus["podMonitorSelectorNilUsesHelmValues"] is False
    assert prometheus["ruleSelectorNilUsesHelmValues"] is False


def test_the_controller_of_releases_is_scraped(managed: Run) -> None:
    """Else nobody is told of a release that was stopped, beside `SlipwayRolloutsSilent`."""
    values = {one.name: one.inputs["values"] for one in managed.of("helm.sh/v3:Release")}

    assert values["argo-rollouts"]["controller"]["metrics"] == {"enabled": True, "serviceMonitor": {"enabled": True}}
    prometheus = values["kube-prometheus-stack"]["prometheus"]["prometheusSpec"]
    assert prometheus["serviceMonitorSelectorNilUsesHelmValues"] is False


def test_grafanas_password_is_a_secret_and_nowhere_else(managed: Run) -> None:
    secret = managed.one("core/v1:Secret", "grafana-admin")

    assert opened(secret.inputs["stringData"])["password"] == "hunter2"
    assert "hunter2" not in str([one.inputs for one in managed.made if one is not secret])
    assert "hunter2" not in str({key: value for key, value in secret.inputs.items() if not is_secret(value)})
    values = managed.one("Release", "kube-prometheus-stack").inputs["values"]
    assert values["grafana"]["admin"]["existingSecret"] == "grafana-admin"


def test_grafana_without_a_password_is_refused() -> None:
    config = addons()
    del config["slipway-addons:grafana_password"]

    with pytest.raises(AddonModeError, match="without a password"):
        run_project("addons", config)


def test_nothing_is_made_of_what_is_there_already() -> None:
    made = made_with(mode="external")

    assert not made.of("Release", ":Namespace")
    assert "rollouts.argoproj.io" in made.outputs["required_crds"]
    assert "podmonitors.monitoring.coreos.com" in made.outputs["required_crds"]


def test_one_addon_may_come_another_way() -> None:
    values = {"operator": {"replicaCount": 3}, "prometheus": {"operator": {"enabled": False}}}
    keda_alone = {"values": values, "mode": "managed"}

    made = made_with(mode="external", addons={"keda": keda_alone, "traefik": {"mode": "managed"}}, public_ingress=True)

    assert {one.name for one in made.of("Release")} == {"keda", "traefik"}
    assert made.one("Release", "traefik").inputs["values"]["service"] == {"type": "LoadBalancer"}
    assert set(LOCK.addons["kueue"].crds) <= set(made.outputs["required_crds"])
    keda = made.one("Release", "keda").inputs["values"]
    assert keda["operator"]["replicaCount"] == 3
    assert keda["crds"] == {"install": True}  # what the stack file does not name stays
    assert keda["prometheus"]["operator"] == {"enabled": False, "serviceMonitor": {"enabled": True}}


def test_a_mirror_differs_in_the_place_alone(managed: Run) -> None:
    mirrored = made_with(mode="mirror", mirror="oci://charts.example.com/mirror")

    for one in mirrored.of("Release"):
        before = managed.one("Release", one.name).inputs
        assert one.inputs["chart"] == f"oci://charts.example.com/mirror/{LOCK.addons[one.name].chart}"
        different = {key for key in {*before, *one.inputs} if before.get(key) != one.inputs.get(key)}
        assert different <= {"chart", "repositoryOpts"}


def test_a_folder_of_charts_is_a_mirror_too(tmp_path: Path) -> None:
    for addon in LOCK.addons.values():
        (tmp_path / f"{addon.chart}-{addon.version}.tgz").write_bytes(b"a chart")
    named = {name: {"mode": "mirror"} for name in ("keda", "traefik")}

    made = made_with(mode="external", mirror=str(tmp_path), addons=named)

    assert {one.inputs["chart"] for one in made.of("Release")} == {
        str(tmp_path / "keda-2.20.2.tgz"),
        str(tmp_path / "traefik-41.3.0.tgz"),
    }


def test_a_chart_that_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "external-secrets-2.14.0.tgz").write_bytes(b"another chart")

    with pytest.raises(ChartDigestError, match=hashlib.sha256(b"another chart").hexdigest()):
        made_with(mode="external", mirror=str(tmp_path), addons={"external-secrets": {"mode": "mirror"}})
    with pytest.raises(AddonLockError, match="helm pull keda --repo https://kedacore"):
        chart_in(tmp_path, "keda", LOCK.addons)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"mode": "mirror"}, AddonModeError, "`mirror` is not set"),
        ({"addons": {"kaeda": {}}}, AddonLockError, "did you mean `keda`"),
        ({"mode": "manged"}, SettingsError, "slipway-addons:mode cannot be used"),
        ({"addons": {"keda": {"vaules": {}}}}, SettingsError, "did you mean `values`"),
        ({"mirror": "http://charts"}, SettingsError, "slipway-addons:mirror"),
        ({"cluster": "lab"}, SettingsError, "slipway-addons:cluster"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        made_with(**change)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("addons = 1", "Expected `object`"),
        ("[addons.keda]\nchrat = 'x'", "did you mean `chart`"),
        ("[addons.keda]\nrepo = 'http://x'", "repo"),
        ("= 1", "cannot be read"),
    ],
)
def test_a_lock_that_cannot_be_read_is_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "addons.lock"
    path.write_text(text)

    with pytest.raises(AddonLockError, match=says):
        load_lock(path)


def test_a_range_is_no_version(tmp_path: Path) -> None:
    text = (PLATFORM / "addons" / "addons.lock").read_text()
    path = tmp_path / "addons.lock"
    path.write_text(text.replace('"2.20.2"', '"^2.20"'))

    with pytest.raises(AddonLockError, match="version"):
        load_lock(path)


def test_objects_of_a_cluster_are_given_its_provider(managed: Run) -> None:
    inside = [one for one in managed.made if one.type.startswith("kubernetes:")]

    assert len(inside) > 20
    assert all("::cluster::" in one.provider for one in inside)
