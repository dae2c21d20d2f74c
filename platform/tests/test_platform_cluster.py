"""The cluster stack: each kind answers the same questions, and a kubeconfig is never in the clear."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from platform_runs import is_secret, opened, run, run_project

from slipway_platform.cluster.info import ClusterInfo, ClusterInfoError, decode_info
from slipway_platform.cluster.kubeconfig import KubeconfigError, portable_kubeconfig
from slipway_platform.provider import LinkedCluster, linked_cluster
from slipway_platform.settings import SettingsError

TWO_CONTEXTS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "a",
    "contexts": [
        {"name": "a", "context": {"cluster": "one", "user": "ann"}},
        {"name": "b", "context": {"cluster": "two", "user": "bert"}},
    ],
    "clusters": [
        {"name": "one", "cluster": {"server": "https://one", "certificate-authority": "ca.crt"}},
        {"name": "two", "cluster": {"server": "https://two"}},
    ],
    "users": [
        {"name": "ann", "user": {"client-certificate": "ann.crt", "client-key": "ann.key"}},
        {"name": "bert", "user": {"tokenFile": "bert.token"}},
    ],
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    for name in ("ca.crt", "ann.crt", "ann.key", "bert.token"):
        (tmp_path / name).write_text(f"the content of {name}\n")
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(TWO_CONTEXTS))
    return path


def existing(path: Path, **more: object) -> dict[str, object]:
    return {
        "slipway-cluster:name": "test",
        "slipway-cluster:provider": "existing",
        "slipway-cluster:registry": "registry.example.com",
        "slipway-cluster:existing": {"kubeconfig_path": str(path), **more},
    }


def test_an_existing_cluster_is_handed_over_with_its_files_inside(kubeconfig: Path) -> None:
    outputs = run_project("cluster", existing(kubeconfig)).outputs

    assert is_secret(outputs["kubeconfig"])
    handed = yaml.safe_load(opened(outputs["kubeconfig"]))
    assert handed["current-context"] == "a"
    assert handed["clusters"] == [
        {"name": "one", "cluster": {"server": "https://one", "certificate-authority-data": coded("ca.crt")}}
    ]
    assert handed["users"][0]["user"] == {
        "client-certificate-data": coded("ann.crt"),
        "client-key-data": coded("ann.key"),
    }
    info = decode_info(outputs["info"], "test")
    assert (info.kind, info.name, info.registry) == ("existing", "test", "registry.example.com")


def test_another_context_is_chosen_by_name(kubeconfig: Path) -> None:
    outputs = run_project("cluster", existing(kubeconfig, context="b")).outputs

    handed = yaml.safe_load(opened(outputs["kubeconfig"]))
    assert handed["users"] == [{"name": "bert", "user": {"token": "the content of bert.token"}}]
    assert [entry["name"] for entry in handed["contexts"]] == ["b"]


def test_a_kubeconfig_given_as_a_secret_needs_no_file() -> None:
    text = yaml.safe_dump(TWO_CONTEXTS | {"current-context": "b", "users": [{"name": "bert", "user": {"token": "t"}}]})
    config = existing(Path()) | {"slipway-cluster:existing": {"kubeconfig": text}}

    outputs = run_project("cluster", config, secrets=("slipway-cluster:existing",)).outputs

    assert is_secret(outputs["kubeconfig"])
    assert yaml.safe_load(opened(outputs["kubeconfig"]))["users"] == [{"name": "bert", "user": {"token": "t"}}]


def test_a_kubeconfig_in_plain_text_is_refused() -> None:
    config = existing(Path()) | {"slipway-cluster:existing": {"kubeconfig": yaml.safe_dump(TWO_CONTEXTS)}}

    with pytest.raises(SettingsError, match="slipway-cluster:existing holds a secret in plain text"):
        run_project("cluster", config)


@pytest.mark.parametrize(
    ("text", "context", "says"),
    [
        (yaml.safe_dump(TWO_CONTEXTS), "c", "no context 'c', expected one of a, b"),
        (yaml.safe_dump(TWO_CONTEXTS), "a", "names a file in `certificate-authority`, expected its content"),
        ("password: hunter2", None, "not a kubeconfig"),
        ("{: hunter2", None, "not a kubeconfig"),
    ],
)
def test_a_kubeconfig_that_cannot_travel_is_named_and_not_repeated(text: str, context: str | None, says: str) -> None:
    with pytest.raises(KubeconfigError, match=says) as caught:
        portable_kubeconfig(text, context)

    assert "hunter2" not in str(caught.value)


def test_the_lab_is_found_by_its_description(tmp_path: Path, kubeconfig: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    described = {"kubeconfig": str(kubeconfig), "registry": "10.230.0.1:5000", "prometheus": "http://10.230.0.1:9090"}
    (folder / "lab.json").write_text(json.dumps(described | {"node": "n", "ingress": "http://10.230.0.1:8088"}))

    outputs = run_project("cluster", lab(tmp_path)).outputs

    assert decode_info(outputs["info"], "lab").prometheus_url == "http://10.230.0.1:9090"
    assert is_secret(outputs["kubeconfig"])


def test_no_lab_is_told_with_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(ClusterInfoError, match="slipway lab up"):
        run_project("cluster", lab(tmp_path))


def test_facts_of_a_cluster_go_over_the_usual_ones(kubeconfig: Path) -> None:
    facts = {"gpu_resource": "amd.com/gpu", "gpu_node_label": {"accelerator": "mi300"}, "storage_class": "fast"}
    config = existing(kubeconfig) | {"slipway-cluster:facts": facts}

    info = decode_info(run_project("cluster", config).outputs["info"], "test")

    assert (info.gpu_resource, info.gpu_node_label, info.storage_class) == (
        "amd.com/gpu",
        {"accelerator": "mi300"},
        "fast",
    )
    assert info.ingress_class == "traefik"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"slipway-cluster:provider": "eks"}, "needs the table `eks`"),
        ({"slipway-cluster:lab": {}}, "the table `lab` is given with `provider: existing`"),
        ({"slipway-cluster:existing": {}}, "either `kubeconfig` .* or `kubeconfig_path`"),
        ({"slipway-cluster:existing": {"kubeconfig_paht": "x"}}, "did you mean `kubeconfig_path`"),
        ({"slipway-cluster:name": "No Name"}, "slipway-cluster:name cannot be used"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    change: dict[str, object], says: str, kubeconfig: Path
) -> None:
    with pytest.raises(SettingsError, match=says):
        run_project("cluster", existing(kubeconfig) | change)


def test_another_stack_gets_facts_as_values_and_the_kubeconfig_as_a_secret() -> None:
    seen: list[LinkedCluster] = []
    outputs = {"info": {"kind": "lab", "name": "lab", "registry": "r", "newer": 1}, "kubeconfig": "the kubeconfig"}

    async def program() -> None:
        seen.append(await linked_cluster("organization/slipway-cluster/lab"))

    made = run(program, references={"organization/slipway-cluster/lab": outputs})

    assert seen[0].info == ClusterInfo(kind="lab", name="lab", registry="r")
    provider = made.one("pulumi:providers:kubernetes", "cluster")
    assert is_secret(provider.inputs["kubeconfig"])
    assert provider.inputs["clusterIdentifier"] == "organization/slipway-cluster/lab"
    assert provider.inputs["upsertExistingObjects"] == "false"


def test_a_cluster_stack_that_was_never_brought_up_is_named() -> None:
    async def program() -> None:
        await linked_cluster("organization/slipway-cluster/lab")

    with pytest.raises(ClusterInfoError, match="run `pulumi up --stack lab` in platform/cluster first"):
        run(program)


def lab(home: Path) -> dict[str, object]:
    return {
        "slipway-cluster:name": "lab",
        "slipway-cluster:provider": "lab",
        "slipway-cluster:registry": "10.230.0.1:5000",
        "slipway-cluster:lab": {"home": str(home)},
    }


def coded(name: str) -> str:
    return base64.b64encode(f"the content of {name}\n".encode()).decode()
