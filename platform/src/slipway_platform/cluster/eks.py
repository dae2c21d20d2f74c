"""A cluster on AWS: EKS with Auto Mode, private, encrypted, with node pools that have a cap. Not executed in CI.

Auto Mode runs the autoscaler, the GPU's driver and device plugin, the storage and load balancer controllers and Pod
Identity (docs/adr/0033-the-platform-in-pulumi.md). The invariants: no node has a public address; secrets are
encrypted with a key of this cluster, volumes with the account's; cluster, key and network are protected from deletion.
"""

import json

import pulumi
import pulumi_aws as aws

from slipway_platform.cluster import eks_pools
from slipway_platform.cluster.eks_network import EksNetwork
from slipway_platform.cluster.eks_roles import cluster_role, node_role, service_account_role
from slipway_platform.cluster.making import MadeCluster, info_of
from slipway_platform.cluster.settings import ClusterSettings, EksSettings
from slipway_platform.provider import make_provider

__all__ = ["EksCluster", "eks_cluster", "eks_kubeconfig"]

ADMIN_POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


def eks_cluster(settings: ClusterSettings) -> MadeCluster:
    """Makes the cluster of these settings."""
    if settings.eks is None:
        raise ValueError("no table `eks`: this is a bug in slipway")
    provider = aws.Provider("aws", region=settings.eks.region, default_tags={"tags": {"slipway": settings.name}})
    cluster = EksCluster(settings.name, settings.eks, pulumi.ResourceOptions(providers={"aws": provider}))
    has_gpu = settings.eks.gpu is not None
    info = info_of(
        settings,
        storage_class=eks_pools.STORAGE_CLASS,
        gpu_resource=eks_pools.GPU_RESOURCE if has_gpu else None,
        gpu_node_label={eks_pools.POOL_LABEL: "gpu"} if has_gpu else {},
        gpu_toleration=eks_pools.GPU_TOLERATION if has_gpu else None,
    )
    return MadeCluster(info, cluster.kubeconfig)


class EksCluster(pulumi.ComponentResource):
    """An EKS cluster with its network, keys, roles and node pools.

    Args:
        name: Of the cluster, in AWS too.
        settings: What it is to be like.
        opts: With a provider of AWS.
    """

    kubeconfig: pulumi.Output[str]
    """A secret; it asks the AWS command line for a token, so it holds none."""

    def __init__(self, name: str, settings: EksSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:cluster:Eks", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        self._name = name
        kept = pulumi.ResourceOptions(parent=self, protect=True)
        subnets: list[pulumi.Input[str]] = list(settings.network.private_subnets)
        if not subnets:
            subnets = list(EksNetwork(name, settings.network, self._child).private_subnets)
        key = aws.kms.Key(
            name,
            description=f"secrets of the cluster {name}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            opts=kept,
        )
        cluster = self._cluster(settings, subnets, key)
        aws.iam.OpenIdConnectProvider(
            name,
            url=cluster.identities[0].oidcs[0].issuer,
            client_id_lists=["sts.amazonaws.com"],
            opts=self._child,
        )
        for number, arn in enumerate(settings.administrators):
            self._administrator(number, arn, cluster)
        for role, identity in settings.identities.items():
            service_account_role(f"{name}-{role}", cluster.name, identity, self._child)
        self.kubeconfig = eks_kubeconfig(cluster, settings.region)
        inside = pulumi.ResourceOptions(
            parent=self, provider=make_provider("cluster", self.kubeconfig, identity=cluster.arn)
        )
        eks_pools.storage_class(inside)
        eks_pools.cpu_pool(settings.cpu, inside)
        if settings.gpu is not None:
            eks_pools.gpu_pool(settings.gpu, inside)
        self.register_outputs({"kubeconfig": self.kubeconfig})

    def _cluster(self, settings: EksSettings, subnets: list[pulumi.Input[str]], key: aws.kms.Key) -> aws.eks.Cluster:
        return aws.eks.Cluster(
            self._name,
            name=self._name,
            version=settings.version,
            role_arn=cluster_role(f"{self._name}-cluster", self._child).arn,
            bootstrap_self_managed_addons=False,
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": True,
            },
            compute_config={
                "enabled": True,
                # With one pool of its own EKS also makes the NodeClass `default`, which our pools use.
                "node_pools": ["system"],
                "node_role_arn": node_role(f"{self._name}-node", self._child).arn,
            },
            kubernetes_network_config={"elastic_load_balancing": {"enabled": True}},
            storage_config={"block_storage": {"enabled": True}},
            vpc_config={
                "subnet_ids": subnets,
                "endpoint_private_access": True,
                "endpoint_public_access": bool(settings.public_access),
                "public_access_cidrs": list(settings.public_access) or None,
            },
            encryption_config={"provider": {"key_arn": key.arn}, "resources": ["secrets"]},
            enabled_cluster_log_types=list(settings.logs),
            deletion_protection=True,
            opts=pulumi.ResourceOptions(parent=self, protect=True),
        )

    def _administrator(self, number: int, arn: str, cluster: aws.eks.Cluster) -> None:
        name = f"{self._name}-administrator-{number}"
        aws.eks.AccessEntry(name, cluster_name=cluster.name, principal_arn=arn, opts=self._child)
        aws.eks.AccessPolicyAssociation(
            name,
            cluster_name=cluster.name,
            principal_arn=arn,
            policy_arn=ADMIN_POLICY,
            access_scope={"type": "cluster"},
            opts=self._child,
        )


def eks_kubeconfig(cluster: aws.eks.Cluster, region: str) -> pulumi.Output[str]:
    """A kubeconfig that gets its token from `aws eks get-token`; a secret all the same, for it names what to attack."""
    parts = pulumi.Output.all(cluster.name, cluster.endpoint, cluster.certificate_authority.data)
    return pulumi.Output.secret(
        parts.apply(lambda known: json.dumps(_kubeconfig(known[0], known[1], known[2], region)))
    )


def _kubeconfig(name: str, endpoint: str, authority: str, region: str) -> dict[str, object]:
    token = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "aws",
        "args": ["--region", region, "eks", "get-token", "--cluster-name", name, "--output", "json"],
        "interactiveMode": "Never",
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": {"exec": token}}],
    }
