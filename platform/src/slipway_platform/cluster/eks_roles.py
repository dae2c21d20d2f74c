"""The IAM roles of an EKS cluster: of its control plane, of its nodes, and of service accounts that act on AWS.

It attaches policies of AWS or of the company and writes none. The invariant: nobody gets a key; a service account acts
as its role through EKS Pod Identity, whose agent is part of Auto Mode.
Source: https://docs.aws.amazon.com/eks/latest/userguide/auto-cluster-iam-role.html and .../auto-create-node-role.html.
"""

import json

import pulumi
import pulumi_aws as aws

from slipway_platform.cluster.settings import Identity

__all__ = ["cluster_role", "node_role", "service_account_role"]

_AWS = "arn:aws:iam::aws:policy/"
_CLUSTER = (
    "AmazonEKSClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
_NODE = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")


def cluster_role(name: str, opts: pulumi.ResourceOptions) -> aws.iam.Role:
    """What the control plane may do: start nodes, volumes and load balancers of this cluster."""
    return _role(name, "eks.amazonaws.com", tuple(_AWS + policy for policy in _CLUSTER), opts)


def node_role(name: str, opts: pulumi.ResourceOptions) -> aws.iam.Role:
    """What a node may do: join, and pull images from the account's registry. Pods do not get it."""
    return _role(name, "ec2.amazonaws.com", tuple(_AWS + policy for policy in _NODE), opts)


def service_account_role(
    name: str, cluster: pulumi.Input[str], identity: Identity, opts: pulumi.ResourceOptions
) -> aws.iam.Role:
    """A role, and that the service account of `identity` acts as it in the cluster of that name."""
    role = _role(name, "pods.eks.amazonaws.com", identity.policies, opts)
    aws.eks.PodIdentityAssociation(
        name,
        cluster_name=cluster,
        namespace=identity.namespace,
        service_account=identity.service_account,
        role_arn=role.arn,
        opts=opts,
    )
    return role


def _role(name: str, principal: str, policies: tuple[str, ...], opts: pulumi.ResourceOptions) -> aws.iam.Role:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": principal},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
            }
        ],
    }
    role = aws.iam.Role(name, assume_role_policy=json.dumps(trust), opts=opts)
    for policy in policies:
        short = policy.rpartition("/")[2]
        aws.iam.RolePolicyAttachment(f"{name}-{short}", role=role.name, policy_arn=policy, opts=opts)
    return role
