"""EKS under mocks: private, encrypted, capped, protected. Nothing here talks to AWS."""

import json
import warnings
from typing import Any

import pytest
import yaml
from platform_runs import PLATFORM, Run, is_secret, opened, run_project

from slipway_platform.cluster.info import Toleration, decode_info
from slipway_platform.cluster.settings import PROJECT, ClusterSettings
from slipway_platform.policies.rules import Limits
from slipway_platform.policies.stacks import STACK_RULES
from slipway_platform.settings import SettingsError, convert_settings

pytestmark = pytest.mark.e2e  # importing the types of AWS takes longer than all other tests of this room together

EXAMPLE: dict[str, Any] = yaml.safe_load((PLATFORM / "cluster" / "Pulumi.example-eks.yaml").read_text())["config"]


@pytest.fixture(scope="module", autouse=True)
def _aws() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of its own deprecated classes when it is imported
        pytest.importorskip("pulumi_aws", reason="the extra `eks` of slipway-platform is not installed")
        from slipway_platform.cluster import eks  # noqa: F401


@pytest.fixture(scope="module")
def made() -> Run:
    return run_project("cluster", EXAMPLE)


@pytest.fixture(scope="module")
def lean() -> Run:
    """One NAT gateway, no GPU, spot, nobody from outside, a storage class of one's own."""
    network = {"zones": ["eu-central-1a", "eu-central-1b"]}
    config = changed(network=network, public_access=[], cpu={"spot": True})
    del config["slipway-cluster:eks"]["gpu"]  # type: ignore[attr-defined]  # a table of the stack file
    return run_project("cluster", config | {"slipway-cluster:facts": {"storage_class": "own"}})


def convert(config: dict[str, object]) -> ClusterSettings:
    values = {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items()}
    return convert_settings(ClusterSettings, PROJECT, values, frozenset())


def changed(**change: object) -> dict[str, object]:
    return EXAMPLE | {"slipway-cluster:eks": EXAMPLE["slipway-cluster:eks"] | change}


def test_nodes_are_in_private_subnets_and_reach_out_through_nat(made: Run) -> None:
    cluster = made.one("aws:eks/cluster:Cluster", "models")
    private = [one for one in made.of("ec2/subnet:Subnet") if "private" in one.name]

    assert sorted(cluster.inputs["vpcConfig"]["subnetIds"]) == sorted(f"{one.name}-id" for one in private)
    assert len(private) == 3
    assert not any(one.inputs["mapPublicIpOnLaunch"] for one in made.of("ec2/subnet:Subnet"))
    assert len({one.inputs["cidrBlock"] for one in made.of("ec2/subnet:Subnet")}) == 6
    tables = {one.name: one.inputs["routes"][0] for one in made.of("ec2/routeTable:RouteTable")}
    assert sorted(name for name, route in tables.items() if "natGatewayId" in route) == [
        f"models-eu-central-1{zone}" for zone in "abc"
    ]
    assert [name for name, route in tables.items() if "gatewayId" in route] == ["models-public"]
    attached = {one.inputs["subnetId"]: one.inputs["routeTableId"] for one in made.of("RouteTableAssociation")}
    assert attached["models-private-eu-central-1b-id"] == "models-eu-central-1b-id"


def test_one_nat_gateway_is_enough_where_price_matters_more(lean: Run) -> None:
    assert [one.name for one in lean.of("ec2/natGateway:NatGateway")] == ["models"]
    assert len([one for one in lean.of("RouteTableAssociation") if "private" in one.name]) == 2


def test_subnets_of_somebody_else_are_used_and_nothing_is_made() -> None:
    made = run_project("cluster", changed(network={"private_subnets": ["subnet-1", "subnet-2"]}))

    assert made.one("aws:eks/cluster:Cluster", "models").inputs["vpcConfig"]["subnetIds"] == ["subnet-1", "subnet-2"]
    assert not made.of("ec2/vpc:Vpc", "ec2/subnet:Subnet", "ec2/natGateway:NatGateway")


def test_secrets_are_encrypted_with_a_key_that_rotates(made: Run) -> None:
    cluster = made.one("aws:eks/cluster:Cluster", "models").inputs

    assert cluster["encryptionConfig"] == {"provider": {"keyArn": "arn:aws:test:::models"}, "resources": ["secrets"]}
    assert made.one("aws:kms/key:Key", "models").inputs["enableKeyRotation"] is True
    volume = made.one("StorageClass", "encrypted").inputs
    assert volume["parameters"] == {"type": "gp3", "encrypted": "true"}
    assert volume["reclaimPolicy"] == "Retain"


def test_what_must_not_vanish_is_protected(made: Run) -> None:
    protected = {one.type for one in made.made if one.is_protected}

    assert protected == {"aws:ec2/vpc:Vpc", "aws:kms/key:Key", "aws:eks/cluster:Cluster"}
    assert made.one("aws:eks/cluster:Cluster", "models").inputs["deletionProtection"] is True


def test_the_api_server_is_private_unless_somebody_is_named(made: Run, lean: Run) -> None:
    named = made.one("aws:eks/cluster:Cluster", "models").inputs["vpcConfig"]
    alone = lean.one("aws:eks/cluster:Cluster", "models")

    assert (named["endpointPublicAccess"], named["publicAccessCidrs"]) == (True, ["203.0.113.0/24"])
    assert alone.inputs["vpcConfig"]["endpointPublicAccess"] is False
    assert alone.inputs["vpcConfig"]["endpointPrivateAccess"] is True
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0/0 opens the API server to everybody"):
        convert(changed(public_access=["0.0.0.0/0"]))


def test_pools_have_caps_and_gpu_nodes_take_only_gpu_pods(made: Run) -> None:
    cpu = made.one("NodePool", "pool-cpu").inputs["spec"]
    gpu = made.one("NodePool", "pool-gpu").inputs["spec"]

    assert cpu["limits"] == {"cpu": "64"}
    assert gpu["limits"] == {"cpu": "96", "nvidia.com/gpu": "4"}
    assert gpu["template"]["spec"]["taints"] == [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    assert "taints" not in cpu["template"]["spec"]
    info = decode_info(made.outputs["info"], "eks")
    assert info.gpu_resource == "nvidia.com/gpu"
    assert info.gpu_toleration == Toleration(key="nvidia.com/gpu")
    assert info.gpu_node_label == gpu["template"]["metadata"]["labels"] == {"slipway.dev/pool": "gpu"}


def test_spot_is_taken_only_when_asked_for(made: Run, lean: Run) -> None:
    def kinds(run: Run) -> list[str]:
        asked = run.one("NodePool", "pool-cpu").inputs["spec"]["template"]["spec"]["requirements"]
        found: dict[str, list[str]] = {one["key"]: one["values"] for one in asked}
        return found["karpenter.sh/capacity-type"]

    assert kinds(made) == ["on-demand"]
    assert kinds(lean) == ["spot", "on-demand"]


def test_facts_of_the_stack_file_go_over_those_of_eks(made: Run, lean: Run) -> None:
    assert decode_info(made.outputs["info"], "eks").storage_class == "encrypted"
    assert decode_info(lean.outputs["info"], "eks").storage_class == "own"


def test_a_cluster_without_gpus_says_so(lean: Run) -> None:
    assert decode_info(lean.outputs["info"], "eks").gpu_resource is None
    assert [one.name for one in lean.of("NodePool")] == ["pool-cpu"]


def test_service_accounts_act_as_roles_without_keys(made: Run) -> None:
    linked = made.one("PodIdentityAssociation", "models-external-secrets").inputs

    assert (linked["namespace"], linked["serviceAccount"]) == ("external-secrets", "external-secrets")
    trust = json.loads(made.one("iam/role:Role", "models-external-secrets").inputs["assumeRolePolicy"])
    assert trust["Statement"][0]["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert made.one("OpenIdConnectProvider", "models").inputs["url"] == "https://oidc.example.com/id/1"
    assert not made.of("accessKey:AccessKey", "user:User")


def test_the_kubeconfig_is_a_secret_and_holds_no_credential(made: Run) -> None:
    assert is_secret(made.outputs["kubeconfig"])
    handed = json.loads(opened(made.outputs["kubeconfig"]))

    assert handed["users"][0]["user"]["exec"]["args"][-5:] == [
        "get-token",
        "--cluster-name",
        "models",
        "--output",
        "json",
    ]
    assert "token" not in handed["users"][0]["user"]
    provider = made.one("pulumi:providers:kubernetes", "cluster")
    assert is_secret(provider.inputs["kubeconfig"])


def test_every_object_in_the_cluster_has_its_provider(made: Run) -> None:
    inside = [one for one in made.made if one.type.startswith("kubernetes:")]

    assert inside
    assert all("providers:kubernetes::cluster" in one.provider for one in inside)
    assert all("providers:aws::aws" in one.provider for one in made.made if one.type.startswith("aws:"))


def test_the_example_keeps_to_the_policies(made: Run) -> None:
    resources = made.resources()

    found = {rule.name: list(rule.check(resources, Limits(max_cpus=160))) for rule in STACK_RULES}
    assert found == {"disruption-budget": [], "protected": [], "images-judged": [], "cost-cap": []}
    too_small = [message for rule in STACK_RULES for message in rule.check(resources, Limits(max_cpus=159))]
    assert too_small == ["the node pools may start 160 processors, expected at most 159"]


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({}, "either `zones`"),
        ({"zones": ["a"]}, "at least two zones"),
        ({"zones": ["a", "b"], "private_subnets": ["c", "d"]}, "either `zones`"),
    ],
)
def test_networks_that_eks_would_refuse_are_refused_first(network: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        convert(changed(network=network))
