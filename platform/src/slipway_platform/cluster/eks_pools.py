"""The node pools of an EKS cluster: which machines Auto Mode may start, and how many at most.

It starts no machine: the Karpenter inside Auto Mode does, when a pod finds no room, and stops it when it is empty. The
invariant: each pool has a limit, so a runaway autoscaler or a typing error in a replica count has a price known
beforehand; a node with a GPU takes only pods that ask for one.
Source: https://docs.aws.amazon.com/eks/latest/userguide/create-node-pool.html.
"""

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from slipway_platform.cluster.info import Toleration
from slipway_platform.cluster.settings import CpuPool, GpuPool

__all__ = ["GPU_RESOURCE", "GPU_TOLERATION", "POOL_LABEL", "cpu_pool", "gpu_pool", "storage_class"]

GPU_RESOURCE = "nvidia.com/gpu"
GPU_TOLERATION = Toleration(key="nvidia.com/gpu")
POOL_LABEL = "slipway.dev/pool"
STORAGE_CLASS = "encrypted"
EXPIRES = "336h"
"""Fourteen days: nodes are replaced with patched ones; EKS Auto Mode allows at most 21."""


def cpu_pool(pool: CpuPool, opts: pulumi.ResourceOptions) -> None:
    """Nodes for everything that asks for no GPU."""
    _pool("cpu", pool.families, {"cpu": str(pool.max_cpus)}, opts, spot=pool.spot, taints=[])


def gpu_pool(pool: GpuPool, opts: pulumi.ResourceOptions) -> None:
    """Nodes with NVIDIA GPUs, which start when the first pod asks for one."""
    limits = {"cpu": str(pool.max_cpus), GPU_RESOURCE: str(pool.max_gpus)}
    taints = [{"key": GPU_TOLERATION.key, "effect": GPU_TOLERATION.effect}]
    _pool("gpu", pool.families, limits, opts, spot=pool.spot, taints=taints)


def storage_class(opts: pulumi.ResourceOptions) -> None:
    """The cluster's default class: encrypted volumes (the account's key for EBS), kept when their claim is deleted."""
    kubernetes.storage.v1.StorageClass(
        STORAGE_CLASS,
        metadata={"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        provisioner="ebs.csi.eks.amazonaws.com",
        parameters={"type": "gp3", "encrypted": "true"},
        reclaim_policy="Retain",
        volume_binding_mode="WaitForFirstConsumer",
        allow_volume_expansion=True,
        opts=opts,
    )


def _pool(
    name: str,
    families: tuple[str, ...],
    limits: dict[str, str],
    opts: pulumi.ResourceOptions,
    *,
    spot: bool,
    taints: list[dict[str, str]],
) -> None:
    template: dict[str, Any] = {
        "nodeClassRef": {"group": "eks.amazonaws.com", "kind": "NodeClass", "name": "default"},
        "requirements": [
            {"key": "eks.amazonaws.com/instance-family", "operator": "In", "values": list(families)},
            {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
            {
                "key": "karpenter.sh/capacity-type",
                "operator": "In",
                "values": ["spot", "on-demand"] if spot else ["on-demand"],
            },
        ],
        "expireAfter": EXPIRES,
    }
    if taints:
        template["taints"] = taints
    kubernetes.apiextensions.CustomResource(
        f"pool-{name}",
        api_version="karpenter.sh/v1",
        kind="NodePool",
        metadata={"name": f"slipway-{name}"},
        spec={
            "template": {"metadata": {"labels": {POOL_LABEL: name}}, "spec": template},
            "limits": limits,
            # One node in ten at a time, so that a consolidation never takes a whole service with it.
            "disruption": {
                "consolidationPolicy": "WhenEmptyOrUnderutilized",
                "consolidateAfter": "10m",
                "budgets": [{"nodes": "10%"}],
            },
        },
        opts=opts,
    )
